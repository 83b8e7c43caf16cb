"""The open-data door against a real server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy import doors

pytestmark = pytest.mark.integration


class Quiet(SimpleHTTPRequestHandler):
    """A file server that does not log."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder served on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_open_data_door(site: tuple[Path, str]) -> None:
    folder, url = site
    names = [f"d{number}.csv" for number in range(8)]
    for name in names:
        (folder / name).write_text("a\n1\n")
    links = "".join(f'<a href="{name}">x</a>' for name in names)
    (folder / "index.html").write_text(f'<html>{links}<a href="https://elsewhere.example/">y</a></html>')
    door = doors.open_data(url)
    assert door.ok
    assert door.examined == 9
    (folder / "d3.csv").unlink()
    broken = doors.open_data(url)
    assert not broken.ok
    assert "/d3.csv → 404" in broken.note
    (folder / "index.html").write_text("<html></html>")
    assert not doors.open_data(url).ok, "a page without files is not an open door"
