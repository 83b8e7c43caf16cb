"""The two REST sources of the city: bookings of the venue system, check-ins of the fitness code.

``GET /api/v1/{bookings|checkins}?updated_since=ISO&cursor=&limit=`` with ``Authorization: Bearer TOKEN`` answers
``{"items": [...], "next_cursor": str|null, "high_water": ISO|null}``. Rows come in order of ``updated_at``; ``updated_since`` is
exclusive; ``limit`` is 1 to 5000 (default 1000). The same request gives the same bytes. ``GET /health`` needs no token.
When ``advance`` moves the city on, new rows appear at the end; an interface that is down on that day answers 503.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import gzip
import hmac
import json
import re
import signal
import sys
import threading
from collections import OrderedDict
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl

from simulation.advance import INTERFACES, today
from simulation.sizes import SHANGHAI
from simulation.times import iso_text

DEFAULT_LIMIT, MAX_LIMIT = 1_000, 5_000
RESOURCES = {"venue": ("bookings", "payments"), "fitness": ("checkins", "physique-tests")}
"""System → its interfaces; the first is the one that an incident takes down."""
_CACHED_PARTS = 4
_ALIGNED = datetime(1970, 1, 1, tzinfo=SHANGHAI)


class BadRequest(ValueError):
    """A request parameter that the interface does not allow; becomes HTTP 400."""


class Feed:
    """Rows of one resource over its daily files, in serving order. Files are read when needed and a few are kept."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.paths = sorted(folder.glob(f"{name}-*.parquet"))
        if not self.paths:
            raise FileNotFoundError(f"no {name} files in {folder}; run generate first")
        summary = [pl.scan_parquet(p).select(pl.len(), pl.col("updated_ts").max()).collect().row(0) for p in self.paths]
        self.starts = [0]
        for rows, _ in summary:
            self.starts.append(self.starts[-1] + int(rows))
        self.last = [int(x) for _, x in summary]
        self.high_water = iso_text(self.last[-1])
        self._parts: OrderedDict[int, tuple[list[int], list[str]]] = OrderedDict()
        self._lock = threading.Lock()

    def _part(self, number: int) -> tuple[list[int], list[str]]:
        with self._lock:
            if number not in self._parts:
                frame = pl.read_parquet(self.paths[number], columns=["updated_ts", "body"])
                self._parts[number] = (frame["updated_ts"].to_list(), frame["body"].to_list())
            self._parts.move_to_end(number)
            while len(self._parts) > _CACHED_PARTS:
                self._parts.popitem(last=False)
            return self._parts[number]

    def position_after(self, since: float) -> int:
        """Position of the first row updated later than ``since`` (seconds of Shanghai wall-clock time)."""
        number = bisect.bisect_right(self.last, since)
        if number == len(self.paths):
            return self.starts[-1]
        return self.starts[number] + bisect.bisect_right(self._part(number)[0], since)

    def rows(self, position: int, limit: int) -> list[str]:
        found: list[str] = []
        while len(found) < limit and position < self.starts[-1]:
            number = bisect.bisect_right(self.starts, position) - 1
            bodies = self._part(number)[1]
            offset = position - self.starts[number]
            taken = bodies[offset : offset + limit - len(found)]
            found += taken
            position += len(taken)
        return found

    def page(self, updated_since: str | None, cursor: str | None, limit: str | None) -> bytes:
        """One page as JSON bytes. Raises BadRequest for a parameter the interface does not allow."""
        count = _limit(limit)
        if cursor:
            position = _read_cursor(cursor, self.name)
            if position > self.starts[-1]:
                raise BadRequest("cursor is behind the end")
        else:
            position = self.position_after(_instant(updated_since)) if updated_since else 0
        rows = self.rows(position, count)
        end = position + len(rows)
        following = json.dumps(_make_cursor(end, self.name)) if end < self.starts[-1] else "null"
        return f'{{"items":[{",".join(rows)}],"next_cursor":{following},"high_water":"{self.high_water}"}}'.encode()


def _limit(text: str | None) -> int:
    if text is None or text == "":
        return DEFAULT_LIMIT
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_LIMIT:
        raise BadRequest(f"limit must be a number from 1 to {MAX_LIMIT}")
    return int(text)


def _instant(text: str) -> float:
    """ISO 8601 with offset to seconds of Shanghai wall-clock time."""
    # An unescaped plus of the offset arrives as a blank; every HTTP client has done that to someone.
    repaired = re.sub(r" (\d\d:?\d\d)$", r"+\1", text.strip())
    try:
        value = datetime.fromisoformat(repaired)
    except ValueError as error:
        raise BadRequest("updated_since must be an ISO 8601 instant") from error
    if value.tzinfo is None:
        raise BadRequest("updated_since needs a UTC offset")
    return (value - _ALIGNED) / timedelta(seconds=1)


def _make_cursor(position: int, name: str) -> str:
    return base64.urlsafe_b64encode(f"{name}:{position}".encode()).decode().rstrip("=")


def _read_cursor(text: str, name: str) -> int:
    try:
        kind, position = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").split(":")
        if kind == name and position.isascii() and position.isdigit():
            return int(position)
    except (binascii.Error, ValueError):
        pass
    raise BadRequest("cursor was not given out by this resource")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, folder: Path, system: str, token: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.folder, self.system, self.token = folder, system, token
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._present = (self._feeds(), False)
        self.present()

    def _feeds(self) -> dict[str, Feed]:
        return {name: Feed(self.folder / "api", name) for name in RESOURCES[self.system]}

    def present(self) -> tuple[dict[str, Feed], bool]:
        """The rows known by now, and whether the first interface is down. The city may have moved on while we serve."""
        try:
            found = (self.folder / "today.json").stat()
        except FileNotFoundError:
            return self._present
        with self._lock:
            if (found.st_mtime_ns, found.st_ino) != self._seen:
                down = INTERFACES.get(today(self.folder)["down"]) == self.system
                self._present = (self._feeds(), down)
                self._seen = (found.st_mtime_ns, found.st_ino)
            return self._present


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "simulation", ""
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        feeds, down = self.server.present()
        main = RESOURCES[self.server.system][0]
        if url.path == "/health":
            feed = feeds[main]
            health = {
                "status": "down" if down else "ok",
                "resource": feed.name,
                "rows": feed.starts[-1],
                "high_water": feed.high_water,
            }
            return self._answer(200, json.dumps(health).encode())
        name = url.path.removeprefix("/api/v1/")
        if url.path == name or name not in feeds:
            return self._error(404, "not_found", "no such resource")
        feed = feeds[name]
        if down and name == main:
            return self._error(503, "unavailable", "the system is down for repairs")
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode()):
            return self._error(401, "unauthorized", "a valid bearer token is required")
        query = {k: v[-1] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        try:
            unknown = query.keys() - {"updated_since", "cursor", "limit"}
            if unknown:
                raise BadRequest(f"unknown parameter: {', '.join(sorted(unknown))}")
            return self._answer(200, feed.page(query.get("updated_since"), query.get("cursor"), query.get("limit")))
        except BadRequest as error:
            return self._error(400, "bad_request", str(error))

    def _error(self, status: int, code: str, message: str) -> None:
        self._answer(status, json.dumps({"error": code, "message": message}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if "gzip" in self.headers.get("Accept-Encoding", "") and len(body) > 1_000:
            body = gzip.compress(body, 1, mtime=0)
            self.send_header("Content-Encoding", "gzip")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Vary", "Accept-Encoding")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: request lines hold cursors and would fill the log of a demo."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return "Thu, 01 Jan 1970 00:00:00 GMT"  # the same request gives the same bytes


class Running:
    """Both APIs serving from threads of this process. Use as a context manager or call ``close``."""

    def __init__(self, directory: Path | str, port_venue: int = 0, port_fitness: int = 0) -> None:
        folder = Path(directory)
        self.tokens: dict[str, str] = json.loads((folder / "tokens.json").read_text("utf-8"))
        self._servers: dict[str, _Server] = {}
        try:
            for name, port in (("venue", port_venue), ("fitness", port_fitness)):
                self._servers[name] = _Server(port, folder, name, self.tokens[name])
        except BaseException:
            for server in self._servers.values():
                server.server_close()
            raise
        self.ports = {name: int(s.server_address[1]) for name, s in self._servers.items()}
        self.venue_url = f"http://127.0.0.1:{self.ports['venue']}"
        self.fitness_url = f"http://127.0.0.1:{self.ports['fitness']}"
        self.connections = {
            "TIYU_CONN_CITY_DROP": (folder / "drops").resolve().as_uri(),
            "TIYU_CONN_VENUE_API": f"http://:{self.tokens['venue']}@127.0.0.1:{self.ports['venue']}",
            "TIYU_CONN_FITNESS_API": f"http://:{self.tokens['fitness']}@127.0.0.1:{self.ports['fitness']}",
        }
        self._threads = [
            threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.1}, name=f"simulation-{n}", daemon=True)
            for n, s in self._servers.items()
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop both servers and free their ports."""
        for server in self._servers.values():
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start(directory: Path | str, port_venue: int = 0, port_fitness: int = 0) -> Running:
    """Serve a generated folder from threads; port 0 takes a free one.

    Raises FileNotFoundError when the folder was not generated, OSError when a port is taken.
    """
    return Running(directory, port_venue, port_fitness)


def serve_forever(directory: Path | str, *, port_venue: int, port_fitness: int) -> int:
    """Serve until SIGTERM or SIGINT, then exit 0. The first line of stdout is JSON with the two URLs (no tokens).

    Returns 3 when a port is taken.
    """
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    try:
        running = start(directory, port_venue, port_fitness)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        print(f"simulation: cannot listen on {port_venue} and {port_fitness}: {error}", file=sys.stderr)
        return 3
    with running:
        print(json.dumps({"venue_url": running.venue_url, "fitness_url": running.fitness_url}), flush=True)
        stop.wait()
    return 0
