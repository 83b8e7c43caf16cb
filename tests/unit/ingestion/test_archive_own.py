"""What this process sealed is not hashed again when it is read; whatever else lies under the name is."""

from __future__ import annotations

import hashlib
import io
import shutil

import pytest

from ingestion import archive
from lake.errors import TiyuError
from protection import keys

RESOURCE = "venue.booking"
ONE, OTHER = (
    b"".join(f"{n * 7919 % 1_000_003} {word}\n".encode() for n in range(200_000)) for word in ("one", "other")
)


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("TIYU_HOME", str(tmp_path))
    keys.ensure()
    monkeypatch.setattr(archive, "_own", {})


def stored(content: bytes) -> str:
    return archive.store(RESOURCE, io.BytesIO(content)).sha256


def read(sha256: str) -> bytes:
    whole = archive.read_object(RESOURCE, sha256)
    assert b"".join(archive.read_pieces(RESOURCE, sha256, 65_536)) == whole
    return whole


def hashes_made(monkeypatch, sha256: str) -> int:
    made = 0
    real = hashlib.sha256

    def counted(*args, **options):
        nonlocal made
        made += 1
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("ingestion.archive.hashlib.sha256", counted)
        read(sha256)
    return made


def test_an_own_object_is_hashed_once_and_a_strange_one_at_every_reading(monkeypatch):
    sha256 = stored(ONE)
    assert read(sha256) == ONE
    assert hashes_made(monkeypatch, sha256) == 0
    archive._own.clear()  # as another process would read it
    assert hashes_made(monkeypatch, sha256) == 2


def test_another_object_under_the_name_of_an_own_one_is_found():
    sha256, other = stored(ONE), stored(OTHER)
    shutil.copyfile(archive.object_path(RESOURCE, other), archive.object_path(RESOURCE, sha256))
    for read_it in (
        lambda: archive.read_object(RESOURCE, sha256),
        lambda: list(archive.read_pieces(RESOURCE, sha256, 65_536)),
    ):
        with pytest.raises(TiyuError, match="TIYU-ARC-0002"):
            read_it()


@pytest.mark.parametrize("place", [-1, -5_000, 700])
def test_a_flipped_byte_of_an_own_object_is_found(place):
    path = archive.object_path(RESOURCE, sha256 := stored(ONE))
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(TiyuError, match="TIYU-ARC-0002"):
        archive.read_object(RESOURCE, sha256)
    with pytest.raises(TiyuError, match="TIYU-ARC-0002"):
        list(archive.read_pieces(RESOURCE, sha256, 65_536))


def test_the_end_of_an_own_object_may_not_be_missing():
    path = archive.object_path(RESOURCE, sha256 := stored(b"".join(n.to_bytes(4, "big") for n in range(1_000_000))))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(TiyuError, match="TIYU-ARC-0002"):
        archive.read_object(RESOURCE, sha256)


def test_only_so_many_are_remembered(monkeypatch):
    monkeypatch.setattr(archive, "_OWN_MOST", 2)
    made = [stored(f"{n}\n".encode()) for n in range(4)]
    assert [key for _, key in archive._own] == made[-2:]
    assert [read(sha256) for sha256 in made] == [f"{n}\n".encode() for n in range(4)]
