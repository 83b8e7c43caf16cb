"""A real SSH server: host keys that are agreed, uploads that go on, connections that break, names that lie."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import asyncssh
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import ssh

from ingestion import connectors
from ingestion.connectors import sftp as module
from ingestion.connectors.base import ObjectChanged
from lake.errors import TiyuError

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    folder = tmp_path / "served"
    folder.mkdir()
    with ssh.running(folder) as found:
        yield found


def put(server, name: str, content: bytes = b"x", age: float = 3 * 86_400):
    path = server.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def place(server, seen=(), *, user=ssh.USER, password=ssh.PASSWORD, query=None, port=None, base="/", **options):
    query = f"host_key={quote(server.fingerprint, safe='')}" if query is None else query
    return connectors.create(
        {
            "kind": "sftp",
            "connection": "X",
            "pattern": "**/*.csv",
            "settle_seconds": 0.3,
            "timeout_seconds": 10,
            **options,
        },
        f"sftp://{user}:{password}@127.0.0.1:{port or server.port}{base}?{query}",
        lambda signature: signature in seen,
    )


def pull(connector, max_bytes=1 << 40):
    """Objects with their content, read while the listing is open, as a run does."""
    found = []
    for item in connector.fetch({}, max_bytes=max_bytes):
        with item.open() as stream:
            found.append((item, stream.read()))
    return found, connector.next_state()


def names(connector) -> list[str]:
    return [item.name for item, _ in pull(connector)[0]]


def test_takes_finished_files_of_the_pattern_in_order_of_names(server):
    big = os.urandom(700_000)
    put(server, "d/20261102/b.csv", b"2")
    put(server, "d/20261101/a.csv", big)
    for other in ("d/20261101/a.csv.part", "d/.hidden.csv", "d/readme.txt", "d/.cache/a.csv"):
        put(server, other)
    (server.folder / "d/link.csv").symlink_to("/etc/passwd")
    (server.folder / "d/loop").symlink_to(".")
    os.mkfifo(server.folder / "d/pipe.csv")
    found, state = pull(place(server))
    assert [item.name for item, _ in found] == ["d/20261101/a.csv", "d/20261102/b.csv"]
    assert [content for _, content in found] == [big, b"2"]
    assert (found[0][0].size, found[0][0].media_type, state) == (700_000, "text/csv", {"more": False})
    assert server.logins == 1, "one connection a fetch"
    assert names(place(server, base="/d", path="20261102", pattern="*.csv")) == ["b.csv"]
    assert names(place(server, pattern="nothing/*/x.csv")) == []


def test_seen_files_are_skipped_and_changed_ones_come_again(server):
    put(server, "a.csv", b"one")
    ((first, _),) = pull(place(server))[0]
    assert pull(place(server, {first.signature}))[0] == []
    put(server, "a.csv", b"two", age=2 * 86_400)
    ((_, content),) = pull(place(server, {first.signature}))[0]
    assert content == b"two"


def test_an_upload_that_goes_on_waits_even_when_the_clocks_differ(server):
    put(server, "done.csv", age=7200)
    growing = put(server, "growing.csv", age=7200)  # the server's clock is two hours behind
    stop = threading.Event()

    def write():
        while not stop.wait(0.05):
            with growing.open("ab") as stream:
                stream.write(b"more")
            then = time.time() - 7200
            os.utime(growing, (then, then))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found, state = pull(place(server))
        assert [item.name for item, _ in found] == ["done.csv"]
        assert state["growing_count"] == 1
    finally:
        stop.set()
        writer.join()
    assert names(place(server)) == ["done.csv", "growing.csv"]


@pytest.mark.parametrize("change", ["grown", "deleted", "replaced by a link"])
def test_a_file_that_changes_before_it_is_read_is_left_out(server, change):
    path = put(server, "a.csv", b"x" * 100)
    put(server, "b.csv", b"b")
    reading = place(server).fetch({}, max_bytes=1 << 40)
    first = next(reading)
    if change == "grown":
        path.write_bytes(b"x" * 200)
    else:
        path.unlink()
    if change == "replaced by a link":
        path.symlink_to("b.csv")
    with pytest.raises(ObjectChanged):
        first.open()
    (second,) = reading
    assert second.name == "b.csv"


def test_a_file_that_changes_while_it_is_read_is_not_taken_half(server):
    path = put(server, "a.csv", b"x" * 300_000)

    def change():
        server.on_read = lambda: None
        path.write_bytes(b"y" * 300_000)

    server.on_read = change
    reading = place(server).fetch({}, max_bytes=1 << 40)
    with next(reading).open() as stream, pytest.raises(ObjectChanged):
        stream.read()
    reading.close()


def test_a_connection_that_breaks_is_made_again_where_it_was(server):
    content = os.urandom(3_000_000)
    put(server, "a.csv", content)
    put(server, "b.csv", b"b")
    server.drop_at = {5, 60}
    found, _ = pull(place(server))
    assert [data for _, data in found] == [content, b"b"]
    assert server.logins >= 2


def test_a_server_that_goes_away_is_told(server):
    put(server, "a.csv", b"x" * 100_000)
    server.drop_at = set(range(1, 500))
    with pytest.raises(TiyuError) as caught:
        pull(place(server))
    assert (caught.value.code, caught.value.exit_code) == ("TIYU-ING-0150", 3)
    with pytest.raises(TiyuError) as caught:
        pull(place(server, port=9))
    assert caught.value.code == "TIYU-ING-0150"


def test_another_host_key_is_refused_before_the_password_is_sent(server, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    other = asyncssh.generate_private_key("ssh-ed25519")
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {other.export_public_key().decode()}")
    for query in (f"host_key={quote(other.get_fingerprint(), safe='')}", f"known_hosts={known}"):
        with pytest.raises(TiyuError) as caught:
            pull(place(server, query=query))
        assert (caught.value.code, caught.value.exit_code) == ("TIYU-ING-0152", 3)
        assert caught.value.context["shown"] == server.fingerprint
        assert ssh.PASSWORD not in f"{caught.value!r} {caught.value.as_dict()} {caplog.text}"
    assert server.passwords == []


def test_without_an_agreed_host_key_nothing_is_asked(server):
    with pytest.raises(TiyuError) as caught:
        place(server, query="")
    assert (caught.value.code, server.logins) == ("TIYU-ING-0104", 0)


def test_host_keys_are_agreed_by_fingerprint_or_by_file(server, tmp_path):
    put(server, "a.csv")
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {server.key.export_public_key().decode()}")
    assert names(place(server, query=f"known_hosts={known}")) == ["a.csv"]
    both = f"host_key=SHA256:old&host_key={server.fingerprint}"  # a key that is being changed; a plus sign not escaped
    assert names(place(server, query=both)) == ["a.csv"]


def test_a_private_key_stands_in_place_of_the_password(server, tmp_path):
    put(server, "a.csv")
    key = tmp_path / "id"
    server.client_key.write_private_key(key, passphrase="canary-phrase", rounds=1)
    query = f"host_key={quote(server.fingerprint, safe='')}&key_file={key}"
    assert names(place(server, query=query, password="canary-phrase")) == ["a.csv"]
    with pytest.raises(TiyuError) as caught:
        pull(place(server, query=query, password="wrong"))
    assert caught.value.code == "TIYU-ING-0104"
    assert "wrong" not in str(caught.value.as_dict())


def test_a_refused_account_is_told_and_its_password_is_not(server, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(TiyuError) as caught:
        pull(place(server, password="wrong-canary-6"))
    assert (caught.value.code, len(server.passwords)) == ("TIYU-ING-0151", 1)
    assert "canary" not in f"{caught.value!r} {caught.value.as_dict()} {caplog.text}"


@pytest.mark.parametrize("name", [b"../../etc/passwd.csv", b"a/b.csv", b"x" * 2000 + b".csv", b"\xff\xfe.csv"])
def test_a_name_that_is_no_name_is_refused(server, name):
    attrs = asyncssh.SFTPAttrs(permissions=0o100644, size=1, mtime=1)
    server.names = [asyncssh.SFTPName(name, b"", attrs)]
    with pytest.raises(TiyuError) as caught:
        pull(place(server))
    assert (caught.value.code, caught.value.exit_code) == ("TIYU-ING-0153", 3)


def test_control_characters_are_written_down_harmless(server):
    put(server, "b\nINFO forged.csv")
    assert names(place(server)) == ["b\\nINFO forged.csv"]


def test_a_file_that_is_too_large_is_told_behind_all_others(server):
    with open(put(server, "a_huge.csv"), "r+b") as huge:
        huge.truncate(10 << 30)
    put(server, "b.csv")
    ((found, _),), state = pull(place(server))
    assert (found.name, state["more"]) == ("b.csv", True)
    with pytest.raises(TiyuError) as caught:
        pull(place(server, {found.signature}))
    assert caught.value.code == "TIYU-ING-0113"


def test_a_folder_that_is_not_there(server):
    with pytest.raises(TiyuError) as caught:
        pull(place(server, path="nowhere"))
    assert (caught.value.code, caught.value.exit_code) == ("TIYU-ING-0110", 3)


@pytest.mark.parametrize(
    ("options", "uri"), [({"path": "../x"}, "sftp://u:p@h?host_key=SHA256:x"), ({}, "file:///x"), ({}, None)]
)
def test_wrong_options_are_refused(options, uri):
    with pytest.raises(TiyuError) as caught:
        connectors.create({"kind": "sftp", **options}, uri, lambda _: False)
    assert caught.value.code == "TIYU-ING-0102"
