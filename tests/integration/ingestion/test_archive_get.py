"""`tiyu archive get`: the exact bytes, to whom the policy lets have them, and nothing when key or object is not right."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import stat
from pathlib import Path

import pytest
from city import ingest_and_trust
from typer.testing import CliRunner

from cli import main
from ingestion import archive, retrieval
from ingestion.run import ingest
from lake import ledger
from lake.errors import TiyuError
from lake.settings import settings
from protection import keys

pytestmark = pytest.mark.integration
REGISTER, WATER = "venue.register", "supervision.water_reading"


@pytest.fixture
def drop(city, home, tmp_path, monkeypatch) -> Path:
    """Two files of one name and unlike content, and a third, in a folder of their own; all taken in as one batch."""
    drop = tmp_path / "drop"
    for number, text in enumerate(["first", "second"]):
        folder = drop / "supervision" / "water_reading" / f"2026111{number}"
        folder.mkdir(parents=True)
        row = f"P-1,D-1,2026-11-1{number} 11:00:01,water_temp,{20 + number},℃,{text}"
        (folder / "water_1.csv").write_text(f"pool_id,device_id,sampled_at,item,value,unit,method\n{row}\n", "utf-8")
    (folder / "water_other.csv").write_text("not,what,the,contract,says\n1,2,3,4,5\n", "utf-8")
    register = drop / "venue" / "register"
    register.parent.mkdir(parents=True)
    register.symlink_to(city.folder / "drops" / "venue" / "register")
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{city.folder / 'drops'}")
    ingest_and_trust(REGISTER)
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{drop}")
    ingest(WATER)
    return drop


def batch() -> str:
    return ledger.batches(WATER)[0]["batch_id"]


def get(*arguments: str):
    return CliRunner().invoke(main.build_app(), ["archive", "get", *arguments, "--reason", "试验", "--json"])


def code_of(result) -> str:
    assert isinstance(result.exception, TiyuError), result.output
    return result.exception.code


def test_the_exact_bytes_come_back_under_safe_names(drop, tmp_path):
    sent = {hashlib.sha256(file.read_bytes()).hexdigest() for file in drop.glob("supervision/**/*.csv")}
    target = tmp_path / "out"
    report = json.loads(get(batch(), "--to", str(target)).stdout)
    written = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in target.iterdir()}
    assert {item["file"]: item["sha256"] for item in report["objects"]} == written
    assert set(written.values()) == sent
    assert len(sent) == 3
    assert "water_other.csv" in written
    assert sorted(written)[:2] == sorted(
        f"water_1.{sha[:12]}.csv" for name, sha in written.items() if name != "water_other.csv"
    )
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == {0o600}
    assert stat.S_IMODE(target.stat().st_mode) == 0o700


def test_one_object_by_the_beginning_of_its_hash_and_a_batch_by_that_of_its_id(drop, tmp_path):
    sha = ledger.objects(batch())[0]["sha256"]
    report = json.loads(get(batch()[:12], "--object", sha[:10], "--to", str(tmp_path / "out")).stdout)
    assert [item["sha256"] for item in report["objects"]] == [sha]
    assert code_of(get(batch(), "--object", "ffffffffff", "--to", str(tmp_path / "x"))) == "TIYU-ARC-0007"
    assert code_of(get("b_unknown", "--to", str(tmp_path / "x"))) == "TIYU-ARC-0006"
    assert code_of(get("b_", "--to", str(tmp_path / "x"))) == "TIYU-ARC-0006"
    assert not (tmp_path / "x").exists()


def test_what_exists_is_never_replaced_and_links_are_not_followed(drop, tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "water_other.csv").write_text("mine")
    assert code_of(get(batch(), "--to", str(target))) == "TIYU-ARC-0008"
    assert [path.name for path in target.iterdir()] == ["water_other.csv"], "nothing is written beside it either"
    (target / "water_other.csv").unlink()
    (target / "water_other.csv").symlink_to(tmp_path / "elsewhere")
    assert code_of(get(batch(), "--to", str(target))) == "TIYU-ARC-0008"
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert code_of(get(batch(), "--to", str(tmp_path / "link"))) == "TIYU-ARC-0008"
    assert code_of(get(batch(), "--to", str(settings().site_root))) == "TIYU-ARC-0008"
    assert code_of(get(batch(), "--to", str(target / "water_other.csv"))) == "TIYU-ARC-0008"
    assert not settings().site_root.exists()


def test_who_asked_and_why_is_kept_before_the_first_byte(drop, tmp_path, monkeypatch):
    def dying(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retrieval, "_write", dying)
        with pytest.raises(KeyboardInterrupt):
            retrieval.retrieve(batch(), tmp_path / "a", account="wang", role="system_admin", reason="核对 19900000001")
    get(batch(), "--to", str(tmp_path / "b"))
    shown = json.loads(CliRunner().invoke(main.build_app(), ["archive", "log", "--json"]).stdout)
    assert shown["count"] == 2
    newest, first = shown["accesses"]
    assert (newest["returned_count"], newest["role"], newest["reason"]) == (3, "system_admin", "试验")
    assert (first["account"], first["returned_count"]) == ("wang", 0)
    assert "19900000001" not in first["reason"]
    assert "试验" in CliRunner().invoke(main.build_app(), ["archive", "log"]).output
    with pytest.raises(TiyuError, match="TIYU-ARC-0009"):
        retrieval.retrieve(batch(), tmp_path / "c", account="wang", role="system_admin", reason=" ")


@pytest.mark.parametrize("role", ["analyst", "catalogue_editor", "auditor", "security_admin", "leader"])
def test_only_the_role_that_the_policy_names_may(drop, tmp_path, role):
    assert code_of(get(batch(), "--to", str(tmp_path / "x"), "--as-role", role)) == "TIYU-POL-0009"
    assert not (tmp_path / "x").exists()
    assert ledger.archive_accesses() == []


def test_a_flipped_byte_is_found_by_get_and_by_ingest_and_the_others_come_back(drop, tmp_path, monkeypatch):
    objects = ledger.objects(batch())
    path = archive.object_path(WATER, objects[0]["sha256"])
    for position in (3, 40, len(path.read_bytes()) // 2, -1):  # magic, header, wrapped key or content, last tag
        whole = path.read_bytes()
        data = bytearray(whole)
        data[position] ^= 1
        path.write_bytes(data)
        result = get(batch(), "--to", str(tmp_path / f"out{position}"))
        report = json.loads(result.stdout)
        assert result.exit_code == 3
        assert list(report["damaged"]) == [objects[0]["sha256"]]
        assert len(report["objects"]) == len(list((tmp_path / f"out{position}").iterdir())) == 2
        path.write_bytes(whole)
    shown = CliRunner().invoke(
        main.build_app(), ["archive", "get", batch(), "--reason", "x", "--to", str(tmp_path / "o")]
    )
    assert shown.exit_code == 0
    assert "3 个对象与哈希逐一相符" in shown.output


def spoil(how: str) -> None:
    path = settings().key_file
    content = json.loads(path.read_text("utf-8"))
    entry = content["purposes"]["archive"]["keys"]
    if how == "missing":
        path.unlink()
        return
    if how == "world-readable":
        path.chmod(0o604)
        return
    if how == "wrong":
        entry["k1"] = base64.b64encode(secrets.token_bytes(32)).decode()
    elif how == "short":
        entry["k1"] = base64.b64encode(base64.b64decode(entry["k1"])[:16]).decode()
    elif how == "destroyed":
        entry["k2"] = entry.pop("k1")
        content["purposes"]["archive"]["current"] = "k2"
    path.write_text("{" if how == "cut" else json.dumps(content), "utf-8")


KEY_CODES = {
    "missing": "TIYU-KEY-0001", "world-readable": "TIYU-KEY-0002", "destroyed": "TIYU-KEY-0003", "wrong": "TIYU-KEY-0004",
    "short": "TIYU-KEY-0005", "cut": "TIYU-KEY-0005",
}  # fmt: skip


@pytest.mark.parametrize("how", KEY_CODES)
def test_a_key_that_is_not_right_is_refused_and_nothing_is_blamed_on_the_objects(drop, tmp_path, how):
    spoil(how)
    before = sorted(settings().archive_root.rglob("*.tiyu"))
    assert code_of(get(batch(), "--to", str(tmp_path / "x"))) == KEY_CODES[how]
    assert list((tmp_path / "x").glob("*")) == []
    checked = CliRunner().invoke(main.build_app(), ["archive", "check", WATER])
    assert code_of(checked) == KEY_CODES[how]
    (drop / "supervision" / "water_reading" / "20261110" / "water_more.csv").write_text("a\n1\n")
    taken = CliRunner().invoke(main.build_app(), ["ingest", WATER, "--json"])
    if how == "destroyed":  # a new key is there to seal with; what the old one sealed stays closed
        assert taken.exit_code in (0, 1)
        return
    assert code_of(taken) == KEY_CODES[how]
    assert sorted(settings().archive_root.rglob("*.tiyu")) == before, "nothing is sealed with it, nothing set aside"


def test_a_token_key_that_was_exchanged_is_noticed_too(drop):
    path = settings().key_file
    content = json.loads(path.read_text("utf-8"))
    content["purposes"]["token"]["keys"]["k1"] = base64.b64encode(secrets.token_bytes(32)).decode()
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(TiyuError, match="TIYU-KEY-0004"):
        archive.verify(WATER, ledger.objects(batch())[0]["sha256"])
    note = settings().archive_root / keys.CHECKS
    note.write_text("{", "utf-8")  # a damaged note keeps nobody from the data
    archive.verify(WATER, ledger.objects(batch())[0]["sha256"])
    assert json.loads(note.read_text("utf-8"))["token"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a/b/水质.csv", "水质.csv"),
        ("../../etc/passwd", "passwd"),
        ("..", "object"),
        ("-rf.csv", "rf.csv"),
        (".hidden", "hidden"),
        ("a\x1b[31m\n.csv", "a_[31m_.csv"),
        ("items?cursor=1&x=;rm", "items_cursor=1_x=_rm"),
        ("folder\\win.csv", "win.csv"),
    ],
)
def test_names_are_made_safe(name, file):
    assert retrieval.file_names([("a" * 64, name)]) == {"a" * 64: file}


def test_names_that_would_be_one_file_are_told_apart_and_long_ones_fit():
    names = retrieval.file_names(
        [("a" * 64, "x/Data.CSV"), ("b" * 64, "y/data.csv"), ("c" * 64, "z/" + "长" * 300 + ".csv")]
    )
    assert names["a" * 64] == f"Data.{'a' * 12}.CSV"
    assert names["b" * 64] == f"data.{'b' * 12}.csv"
    assert len(names["c" * 64].encode()) <= 200
    assert names["c" * 64].endswith(".csv")
