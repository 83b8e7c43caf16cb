"""Real folders: what is taken, in which order, and what is left for the next batch."""

from __future__ import annotations

import os
import threading
import time

import pytest

from ingestion import archive, connectors
from ingestion.connectors.base import ObjectChanged
from lake.errors import TiyuError

pytestmark = pytest.mark.integration

BIG = 1 << 40


def put(folder, name: str, content: bytes = b"x", age: float = 60.0):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def drop(folder, pattern="venue/entry/*/entry_*.ndjson", seen=(), **options):
    return connectors.create(
        {"kind": "file_drop", "connection": "CITY_DROP", "pattern": pattern, **options},
        folder.as_uri(),
        lambda signature: signature in seen,
    )


def names(connector, state=None, max_bytes=BIG) -> list[str]:
    return [item.name for item in connector.fetch(state or {}, max_bytes=max_bytes)]


def test_takes_settled_files_of_the_pattern_in_order_of_names(tmp_path):
    put(tmp_path, "venue/entry/20261102/entry_20261102_08.ndjson", b"2")
    put(tmp_path, "venue/entry/20261101/entry_20261101_09.ndjson", b"1")
    put(tmp_path, "venue/entry/20261101/entry_20261101_08.ndjson", b"0")
    for name in (
        "venue/entry/20261101/entry_20261101_10.ndjson.tmp",
        "venue/entry/20261101/.entry_20261101_10.ndjson",
        "venue/entry/20261101/other.ndjson",
        "venue/entry/deep/er/entry_1.ndjson",
        "venue/register/entry_1.ndjson",
    ):
        put(tmp_path, name)
    connector = drop(tmp_path)
    found = list(connector.fetch({}, max_bytes=BIG))
    assert [item.open().read() for item in found] == [b"0", b"1", b"2"]
    assert found[0].name == "venue/entry/20261101/entry_20261101_08.ndjson"
    assert (found[0].size, found[0].media_type) == (1, "application/x-ndjson")
    assert connector.next_state() == {"more": False}


def test_unchanged_files_are_skipped_unread_and_changed_ones_come_again(tmp_path):
    path = put(tmp_path, "a/x.csv")
    first = list(drop(tmp_path, "a/*.csv").fetch({}, max_bytes=BIG))
    seen = {item.signature for item in first}
    path.chmod(0)
    assert names(drop(tmp_path, "a/*.csv", seen)) == []
    path.chmod(0o644)
    put(tmp_path, "a/x.csv", b"longer")
    assert names(drop(tmp_path, "a/*.csv", seen)) == ["a/x.csv"]


def test_batch_is_bounded_by_bytes_but_never_empty(tmp_path):
    for number in range(4):
        put(tmp_path, f"a/{number}.csv", b"x" * 10)
    connector = drop(tmp_path, "a/*.csv")
    assert names(connector, max_bytes=25) == ["a/0.csv", "a/1.csv"]
    assert connector.next_state()["more"] is True
    assert names(drop(tmp_path, "a/*.csv"), max_bytes=1) == ["a/0.csv"]


def test_growing_file_waits_for_the_next_batch(tmp_path):
    put(tmp_path, "a/old.csv")
    growing = put(tmp_path, "a/growing.csv", age=0)
    put(tmp_path, "a/fresh.csv", age=0)
    stop = threading.Event()

    def write():
        while not stop.wait(0.05):
            with growing.open("ab") as stream:
                stream.write(b"more")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        connector = drop(tmp_path, "a/*.csv", settle_seconds=0.4)
        assert names(connector) == ["a/fresh.csv", "a/old.csv"]
        assert connector.next_state()["growing_count"] == 1
    finally:
        stop.set()
        writer.join()
    assert "a/growing.csv" in names(drop(tmp_path, "a/*.csv", settle_seconds=0.4))


def test_folder_of_an_operator_takes_everything_below_it(tmp_path):
    put(tmp_path, "b/x.fit")
    put(tmp_path, "a.tcx")
    connector = connectors.create(
        {"kind": "file_drop", "pattern": "training/activity/**/*"}, None, lambda _: False, from_dir=tmp_path
    )
    assert names(connector) == ["a.tcx", "b/x.fit"]


def test_missing_folder_is_an_error_and_an_undelivered_one_is_empty(tmp_path):
    with pytest.raises(TiyuError) as caught:
        names(drop(tmp_path / "nowhere"))
    assert (caught.value.code, caught.value.exit_code) == ("TIYU-ING-0110", 3)
    assert names(drop(tmp_path)) == []


@pytest.mark.parametrize(
    ("options", "uri", "code"),
    [
        ({"kind": "ftp"}, "file:///tmp", "TIYU-ING-0101"),
        ({"kind": "file_drop", "glob": "*"}, "file:///tmp", "TIYU-ING-0102"),
        ({"kind": "file_drop", "path": "../x"}, "file:///tmp", "TIYU-ING-0102"),
        ({"kind": "file_drop"}, None, "TIYU-ING-0102"),
        ({"kind": "file_drop"}, "http://:t@127.0.0.1:1", "TIYU-ING-0102"),
        ({"kind": "file_drop"}, "relative/folder", "TIYU-ING-0104"),
        ({"kind": "rest", "path": "/x"}, "http://:t@127.0.0.1:notaport", "TIYU-ING-0104"),
        ({"kind": "rest"}, "http://:t@127.0.0.1:1", "TIYU-ING-0102"),
    ],
)
def test_wrong_configuration_is_refused(options, uri, code):
    with pytest.raises(TiyuError) as caught:
        connectors.create(options, uri, lambda _: False)
    assert caught.value.code == code


def test_connections_come_from_the_environment_and_hide_their_secret():
    assert connectors.uri_from_environment("X", {"TIYU_CONN_X": "file:///d"}) == "file:///d"
    with pytest.raises(TiyuError) as caught:
        connectors.uri_from_environment("X", {})
    assert caught.value.code == "TIYU-ING-0103"
    connection = connectors.parse_connection("https://u:s%40cret@host:8443/base/")
    assert (connection.endpoint, connection.secret, connection.user) == ("https://host:8443/base", "s@cret", "u")
    assert "s@cret" not in repr(connection)


# ── partial uploads, renames, changed content ──


def test_an_upload_under_a_temporary_name_is_taken_when_it_is_renamed(tmp_path):
    part = put(tmp_path, "a/x.csv.part", b"half")
    assert names(drop(tmp_path, "a/*")) == []
    part.rename(tmp_path / "a/x.csv")
    assert names(drop(tmp_path, "a/*")) == ["a/x.csv"]


def test_a_renamed_file_is_known_by_its_content(tmp_path, home):
    put(tmp_path, "a/x.csv", b"same bytes")
    (first,) = drop(tmp_path, "a/*").fetch({}, max_bytes=BIG)
    with first.open() as stream:
        stored = archive.store("venue.register", stream)
    (tmp_path / "a/x.csv").rename(tmp_path / "a/y.csv")
    (renamed,) = drop(tmp_path, "a/*", {first.signature}).fetch({}, max_bytes=BIG)
    with renamed.open() as stream:
        again = archive.store("venue.register", stream)
    assert (renamed.name, again.sha256, again.was_present) == ("a/y.csv", stored.sha256, True)


@pytest.mark.parametrize("change", ["grown", "cut", "replaced", "deleted"])
def test_a_file_that_changes_while_it_is_read_is_not_taken_half(tmp_path, change):
    path = put(tmp_path, "a/x.csv", b"x" * 10)
    (found,) = drop(tmp_path, "a/*").fetch({}, max_bytes=BIG)
    if change == "deleted":
        path.unlink()
        with pytest.raises(ObjectChanged):
            found.open()
        return
    with found.open() as stream:
        assert stream.read(4) == b"xxxx"
        {
            "grown": lambda: path.write_bytes(b"x" * 20),
            "cut": lambda: path.write_bytes(b"x"),
            "replaced": lambda: path.write_bytes(b"y" * 10),
        }[change]()
        with pytest.raises(ObjectChanged) as caught:
            stream.read()
    assert caught.value.code == "TIYU-ING-0112"
    put(tmp_path, "a/x.csv", b"done")
    (again,) = drop(tmp_path, "a/*", {found.signature}).fetch({}, max_bytes=BIG)
    assert again.open().read() == b"done"


def test_a_file_that_is_too_large_is_told_behind_all_others(tmp_path):
    with open(put(tmp_path, "a/huge.csv"), "r+b") as huge:
        huge.truncate(10 << 30)  # ten GiB without a block on the disk
    put(tmp_path, "a/small.csv")
    connector = drop(tmp_path, "a/*")
    (found,) = connector.fetch({}, max_bytes=BIG)
    assert (found.name, connector.next_state()["more"]) == ("a/small.csv", True)
    with pytest.raises(TiyuError) as caught:
        names(drop(tmp_path, "a/*", {found.signature}))
    assert (caught.value.code, caught.value.exit_code) == ("TIYU-ING-0113", 3)


def test_a_huge_listing_is_held_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("ingestion.connectors.files.BATCH_FILES", 7)
    for number in range(30):
        put(tmp_path, f"a/{number:03d}.csv")
    seen, taken = set(), []
    while True:
        connector = drop(tmp_path, "a/*.csv", seen)
        found = list(connector.fetch({}, max_bytes=BIG))
        assert len(found) <= 7
        seen |= {item.signature for item in found}
        taken += [item.name for item in found]
        if not connector.next_state()["more"]:
            break
    assert taken == [f"a/{number:03d}.csv" for number in range(30)]
