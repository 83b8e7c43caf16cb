"""The REST sources as a client meets them: token, paging, exclusive updated_since, same bytes, clean exit."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from simulation.advance import INTERFACES, advance
from simulation.api import Running, start
from simulation.generate import generate

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("city")
    generate("tiny", 7, out, say=lambda _: None)
    return out


@pytest.fixture(scope="module")
def running(city: Path) -> Iterator[Running]:
    with start(city) as served:
        yield served


@pytest.fixture(scope="module")
def checkins(running: Running) -> Iterator[httpx.Client]:
    token = running.tokens["fitness"]
    with httpx.Client(base_url=running.fitness_url, headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


def walk(client: httpx.Client, path: str, **params: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        answer = client.get(path, params={**params, **({"cursor": cursor} if cursor else {})}).json()
        assert set(answer) == {"items", "next_cursor", "high_water"}
        rows += answer["items"]
        cursor = answer["next_cursor"]
        if cursor is None:
            return rows


def test_without_the_right_token_nothing_is_told(running: Running) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {running.tokens['venue']}"}):
        answer = httpx.get(f"{running.fitness_url}/api/v1/checkins", headers=headers)
        assert answer.status_code == 401
        assert "checkin_id" not in answer.text
    assert httpx.get(f"{running.fitness_url}/health").json()["status"] == "ok"


@pytest.mark.parametrize("limit", [1_000, 777, 5_000])
def test_pages_hold_every_row_once_whatever_their_size(checkins: httpx.Client, city: Path, limit: int) -> None:
    rows = walk(checkins, "/api/v1/checkins", limit=limit)
    sent = json.loads((city / "truth/counts.json").read_text("utf-8"))["fitness.checkin"]["records_sent"]
    assert len(rows) == sent
    times = [r["updated_at"] for r in rows]
    assert times == sorted(times)


def test_updated_since_is_exclusive_and_the_high_water_closes_the_loop(checkins: httpx.Client) -> None:
    rows = walk(checkins, "/api/v1/checkins", limit=5_000)
    middle = rows[len(rows) // 2]["updated_at"]
    later = walk(checkins, "/api/v1/checkins", limit=900, updated_since=middle)
    assert later == [r for r in rows if r["updated_at"] > middle]
    end = checkins.get("/api/v1/checkins").json()["high_water"]
    assert end == rows[-1]["updated_at"]
    assert walk(checkins, "/api/v1/checkins", updated_since=end) == []
    # Another offset means the same instant.
    assert len(walk(checkins, "/api/v1/checkins", limit=5_000, updated_since="2026-11-19T16:00:00Z")) == sum(
        r["updated_at"] > "2026-11-20T00:00:00+08:00" for r in rows
    )


def test_the_same_request_gives_the_same_bytes_also_compressed(checkins: httpx.Client) -> None:
    first, again = (checkins.get("/api/v1/checkins", headers={"Accept-Encoding": "gzip"}) for _ in range(2))
    plain = checkins.get("/api/v1/checkins", headers={"Accept-Encoding": "identity"})
    assert first.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert first.content == again.content == plain.content
    assert first.headers["date"] == again.headers["date"]


@pytest.mark.parametrize(
    "params", [{"limit": 5_001}, {"limit": 0}, {"limit": "x"}, {"cursor": "nonsense"}, {"updated_since": "gestern"},
               {"updated_since": "2026-11-11T00:00:00"}, {"updatedsince": "2026-11-11T00:00:00+08:00"}],
)  # fmt: skip
def test_a_wrong_parameter_is_refused_not_ignored(checkins: httpx.Client, params: dict[str, Any]) -> None:
    answer = checkins.get("/api/v1/checkins", params=params)
    assert answer.status_code == 400
    assert answer.json()["error"] == "bad_request"


def test_bookings_bring_later_updates(running: Running) -> None:
    with httpx.Client(
        base_url=running.venue_url, headers={"Authorization": f"Bearer {running.tokens['venue']}"}
    ) as client:
        rows = walk(client, "/api/v1/bookings", limit=5_000)
        assert client.get("/api/v1/checkins").status_code == 404
    states: dict[str, set[str]] = {}
    for r in rows:
        states.setdefault(r["booking_id"], set()).add(r["status"])
    assert sum({"booked", "checked_in"} <= s for s in states.values()) > 100
    assert sum({"booked", "cancelled"} <= s for s in states.values()) > 20


def test_serve_exits_cleanly_on_sigterm_and_frees_its_ports(city: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "simulation",
        "serve",
        "--dir",
        str(city),
        "--port-venue",
        "0",
        "--port-fitness",
        "0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        urls = json.loads(process.stdout.readline())
        assert httpx.get(f"{urls['venue_url']}/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0
    assert err == ""
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{urls['venue_url']}/health")


def test_a_taken_port_and_a_missing_city_are_told(city: Path, running: Running, tmp_path: Path) -> None:
    base = [
        sys.executable,
        "-m",
        "simulation",
        "serve",
        "--port-venue",
        str(running.ports["venue"]),
        "--port-fitness",
        "0",
    ]
    taken = subprocess.run(
        [*base, "--dir", str(city)], capture_output=True, text=True, timeout=30, check=False, cwd=ROOT
    )
    assert taken.returncode == 3
    assert "cannot listen" in taken.stderr
    missing = subprocess.run(
        [*base, "--dir", str(tmp_path)], capture_output=True, text=True, timeout=30, check=False, cwd=ROOT
    )
    assert missing.returncode == 2


def test_an_interface_that_is_down_says_so_and_has_its_rows_the_next_day(city: Path, tmp_path: Path) -> None:
    moved = tmp_path / "city"
    shutil.copytree(city, moved)
    with start(moved) as served:
        paths = {"venue.booking": "/api/v1/bookings", "fitness.checkin": "/api/v1/checkins"}
        urls = {"venue": served.venue_url, "fitness": served.fitness_url}

        def ask(resource: str, **params: str) -> httpx.Response:
            name = INTERFACES[resource]
            token = {"Authorization": f"Bearer {served.tokens[name]}"}
            return httpx.get(f"{urls[name]}{paths[resource]}", params=params, headers=token, trust_env=False)

        # which interface is down, and when, is decided by the city's seed
        for _ in range(14):
            before = {resource: ask(resource).json()["high_water"] for resource in paths}
            moment = advance(moved, say=lambda _: None)
            down = moment["down"]
            if down in paths:
                break
        assert down in paths
        assert ask(down).status_code == 503
        for name, url in urls.items():
            state = httpx.get(f"{url}/health", trust_env=False).json()["status"]
            assert state == ("down" if name == INTERFACES[down] else "ok")
        advance(moved, say=lambda _: None)
        fresh = ask(down, updated_since=before[down], limit="5000").json()
    days = sorted({row["updated_at"][:10] for row in fresh["items"]})
    assert len(days) == 3, "the rest of the day before, the day it was down, and the day after"
    assert moment["today"] == days[1]
    assert len(fresh["items"]) > 200
