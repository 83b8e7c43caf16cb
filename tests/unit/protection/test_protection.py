import base64
import hashlib
import io
import json
import os
import stat

import polars as pl
import pytest
from cryptography.hazmat.primitives import hashes, hmac

from lake.errors import TiyuError
from protection import envelope, keys, tokens


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("TIYU_HOME", str(tmp_path))
    keys.ensure()


def test_sm3_is_the_national_standard():
    digest = hashes.Hash(hashes.SM3())
    digest.update(b"abc")
    assert digest.finalize().hex() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"


def test_token_is_the_documented_hmac():
    kid, key = keys.provider().current("token")
    mac = hmac.HMAC(key, hashes.SM3())
    mac.update(b"phone\x0019900000001")
    expected = f"phone_{kid}_" + base64.b32encode(mac.finalize()).decode()[:26].lower()
    assert tokens.token("phone", "199-0000-0001") == expected


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("phone", "+86 19900000001", "19900000001"),
        ("phone", "１９９００００００01", "19900000001"),
        ("id_no", "99000119900101001x", " 99000119900101001X "),
        ("athlete_no", "sha-000123", "SHA000123"),
    ],
)
def test_spellings_of_one_identifier_get_one_token(kind, one, other):
    assert tokens.token(kind, one) == tokens.token(kind, other)


def test_kind_and_purpose_separate_tokens():
    assert tokens.token("phone", "19900000001") != tokens.token("id_no", "19900000001").replace("id_no", "phone")
    assert tokens.token("phone", "19900000001") != tokens.token("phone", "19900000001", "analyst")


def test_null_and_blank_stay_null_and_order_is_kept():
    column = pl.Series("p", ["19900000001", None, "  ", "19900000002", "19900000001"])
    result = tokens.tokenise("phone", column)
    assert result.is_null().to_list() == [False, True, True, False, False]
    assert result[0] == result[4] != result[3]


def test_unknown_kind_is_refused():
    with pytest.raises(TiyuError, match="TIYU-TOK-0001"):
        tokens.token("plate", "沪A")


def test_key_file_with_wide_permissions_is_refused(tmp_path):
    path = keys.ensure()
    os.chmod(path, 0o640)
    with pytest.raises(TiyuError, match="TIYU-KEY-0002"):
        keys.FileKeyProvider(path)


def test_ensure_never_replaces_keys():
    before = keys.ensure().read_bytes()
    assert keys.ensure().read_bytes() == before


def test_ensure_adds_the_key_of_a_purpose_that_came_later():
    path = keys.ensure()
    whole = json.loads(path.read_text("utf-8"))["purposes"]
    assert set(whole) == set(keys.purposes()) >= {"archive", "token", "analyst", "science"}
    assert len({entry["keys"]["k1"] for entry in whole.values()}) == len(whole)
    older = {name: entry for name, entry in whole.items() if name != "science"}
    path.write_text(json.dumps({"version": 1, "purposes": older}), "utf-8")
    with pytest.raises(TiyuError, match="TIYU-KEY-0003"):
        keys.provider().current("science")
    path.chmod(0o640)
    with pytest.raises(TiyuError, match="TIYU-KEY-0002"):
        keys.ensure()
    path.chmod(0o600)
    now = json.loads(keys.ensure().read_text("utf-8"))["purposes"]
    assert {name: entry for name, entry in now.items() if name != "science"} == older
    assert now["science"] != whole["science"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def _seal(data: bytes, cipher: str) -> bytes:
    out = io.BytesIO()
    envelope.seal(io.BytesIO(data), out, cipher)
    return out.getvalue()


@pytest.mark.parametrize("cipher", list(envelope.CIPHERS))
@pytest.mark.parametrize("size", [0, 1, 1000, envelope.CHUNK_BYTES * 2 + 17])
def test_envelope_round_trip(cipher, size):
    data = hashlib.shake_128(b"seed").digest(size)
    sealed = _seal(data, cipher)
    assert envelope.open_sealed(io.BytesIO(sealed)).read() == data
    assert size < 100 or data[:64] not in sealed


@pytest.mark.parametrize("cipher", list(envelope.CIPHERS))
def test_every_kind_of_damage_is_noticed(cipher):
    data = hashlib.shake_128(b"seed").digest(envelope.CHUNK_BYTES * 2)
    sealed = _seal(data, cipher)
    examined = 0
    for position in [0, 8, 40, len(sealed) // 2, len(sealed) - 1]:
        broken = bytearray(sealed)
        broken[position] ^= 1
        with pytest.raises(TiyuError, match="TIYU-"):
            envelope.open_sealed(io.BytesIO(bytes(broken)), "x").read()
        examined += 1
    for cut in (1, 20, len(sealed) // 2):
        with pytest.raises(TiyuError, match="TIYU-ARC-0002"):
            envelope.open_sealed(io.BytesIO(sealed[:-cut]), "x").read()
        examined += 1
    assert examined == 8


def test_two_seals_of_the_same_bytes_differ():
    assert _seal(b"same", "SM4-GCM") != _seal(b"same", "SM4-GCM")
