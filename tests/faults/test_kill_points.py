"""Kill -9 at every arrow of the way of the data, by name and at random; then run again, and the lake equals a calm run row for row.

Each point is tried in a state folder of its own, which starts as a copy of one that holds the register only. A point that was not
reached fails the test: a kill that did not happen proves nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from catalog import contracts
from deploy.processes import MARK, marked, sweep
from tests.faults.conftest import Results, served
from tests.faults.support import ROOT, Home, contents, differences

pytestmark = pytest.mark.faults

SEED = 20261126
RANDOM_KILLS = 12
INGEST, GATE = "ingestion.run:ingest", "quality.gate:run_gate"

BOTH = ("before", "after")
Points = list[tuple[str, tuple[str, ...], tuple[int, ...]]]
#: function → sides and numbers of the call, in the order of design §4
INGEST_POINTS: Points = [
    ("lake.ledger:start_run", BOTH, (1,)),
    ("ingestion.archive:clean_partials", ("after",), (1,)),
    ("protection.envelope:seal", BOTH, (1,)),  # fetched, being sealed
    ("ingestion.archive:store", BOTH, (1,)),  # sealed
    ("ingestion.archive:sync", BOTH, (1,)),
    ("ingestion.batch_list:write", BOTH, (1,)),
    ("lake.ledger:open_batch", BOTH, (1,)),
    ("ingestion.decoders:decode_many", BOTH, (1,)),
    ("ingestion.split:connect_for", ("after",), (1,)),
    ("quality.quarantine:append_quarantine", BOTH, (1,)),
    ("lake.tables:write_deltalake", BOTH, (1,)),  # data written, committed
    ("lake.ledger:finish_batch", BOTH, (1,)),
    ("ingestion.batch_list:mark_done", BOTH, (1,)),
    ("lake.ledger:finish_run", BOTH, (1,)),
]
#: what only the way of one of them has: rows that become files while they are read, or several objects and child tables
WAY_POINTS: dict[str, Points] = {
    "supervision.water_reading": [
        ("files:lake.tables:_place", BOTH, (1, 2)),
        ("files:lake.tables:append_files", BOTH, (1,)),
        ("files:ingestion.staging:_stamped", BOTH, (2,)),
    ],
    "training.activity": [
        ("protection.envelope:seal", BOTH, (2,)),
        ("ingestion.archive:store", BOTH, (2,)),
        ("lake.tables:write_deltalake", BOTH, (2, 3)),
    ],
}
GATE_POINTS: Points = [
    ("quality.engine:judge", BOTH, (1,)),
    ("lake.ledger:record_quality", BOTH, (1,)),
    ("lake.ledger:set_checked_versions", BOTH, (1,)),
]
RESOURCES = ("venue.booking", "training.activity")
"""One interface with pages; one with child tables and device files."""


def points(groups: Points) -> list[str]:
    return [f"{name}@{side}#{number}" for name, sides, numbers in groups for number in numbers for side in sides]


@dataclass
class Bench:
    """A state folder with the register in it, and what calm runs of the other sources make of it."""

    base: Home
    folder: Path
    drops: Path
    calm: dict[str, dict[str, object]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)

    def home(self, name: str, **env: str) -> Home:
        """A copy of the base."""
        path = self.folder / f"{name}-{uuid.uuid4().hex[:8]}"
        shutil.copytree(self.base.path, path)
        mark = uuid.uuid4().hex
        self.marks.append(mark)
        return Home(path, {**self.base.env, MARK: mark, "TIYU_HOME": str(path), **env})

    def to_the_end(self, home: Home, resource: str) -> dict[str, object]:
        """Ingest and gate again, then what the tables hold; the balance must hold."""
        home.run(INGEST, resource=resource)
        home.run(GATE, names=tables_of(resource))
        balance = home.run("quality.reconcile:reconcile", resource=resource)
        assert balance["ok"], balance["problems"]
        return contents(home)

    def calm_run(self, resource: str) -> dict[str, object]:
        """What an undisturbed run makes, once a resource."""
        if resource not in self.calm:
            home = self.home(f"calm-{resource}")
            begin = time.monotonic()
            home.run(INGEST, resource=resource)
            self.seconds[resource] = time.monotonic() - begin
            self.calm[resource] = self.to_the_end(home, resource)
            stored = self.calm[resource][contracts.load(resource).root.table]
            assert isinstance(stored, list)
            assert stored[0], "a calm run that stores no row proves nothing"
            shutil.rmtree(home.path)
        return self.calm[resource]

    def compare(self, what: str, resource: str, home: Home) -> None:
        """After the fault: again to the end, equal to the calm run."""
        self.tried.append(what)
        found = differences(self.calm_run(resource), self.to_the_end(home, resource))
        if found:
            self.different.append(f"{what}: {found}")
        assert not marked(home.mark), f"{what}: a process outlived its end"
        shutil.rmtree(home.path)
        assert not found, what


def tables_of(resource: str) -> list[str]:
    return [item.table for item in contracts.load(resource).objects]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, results: Results) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("points")
    with served(folder) as world:
        base = world.new_home("base")
        base.run(INGEST, resource="venue.register")
        base.run(GATE, names=tables_of("venue.register"))
        found = Bench(base, folder, world.city / "drops")
        yield found
        for mark in found.marks:
            sweep(mark)
        results.points(SEED, found.tried, found.different)
        print(f"\nkill points tried: {len(found.tried)}, differences found: {len(found.different)}")


def killed_at(home: Home, point: str, verb: str, **arguments: object) -> None:
    out = home.path / "report.json"
    command = [sys.executable, "-m", "tests.faults.driver", point, verb, json.dumps(arguments), str(out)]
    with (home.path / "verbs.log").open("ab") as log:
        code = subprocess.run(
            command, cwd=ROOT, env=home.env, stdout=log, stderr=log, timeout=300, check=False
        ).returncode
    assert code == -signal.SIGKILL, f"{point} was not reached (exit code {code})"


@pytest.mark.parametrize(
    ("resource", "point"),
    [(name, point) for name in RESOURCES for point in points(INGEST_POINTS)]
    + [(name, point) for name, groups in WAY_POINTS.items() for point in points(groups)],
)
def test_killed_in_an_ingest(bench: Bench, resource: str, point: str) -> None:
    home = bench.home(resource)
    killed_at(home, point, INGEST, resource=resource)
    bench.compare(f"{resource} {point}", resource, home)


@pytest.mark.parametrize("point", points(GATE_POINTS))
def test_killed_in_the_gate(bench: Bench, point: str) -> None:
    resource = "training.activity"
    home = bench.home("gate")
    home.run(INGEST, resource=resource)
    killed_at(home, point, GATE, names=tables_of(resource))
    bench.compare(f"gate {point}", resource, home)


def test_killed_at_random_times(bench: Bench) -> None:
    """Twelve kills at times drawn over the length of a calm run; a run that was over by then counts as no kill."""
    draw, hit = random.Random(SEED), 0
    for number in range(RANDOM_KILLS):
        resource = RESOURCES[number % len(RESOURCES)]
        bench.calm_run(resource)
        after = draw.uniform(0.2, 1.0) * bench.seconds[resource]
        home = bench.home(f"random-{number}")
        process = home.start(INGEST, resource=resource)
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            hit += 1
        bench.compare(f"{resource} killed after {after:.2f} s", resource, home)
    assert hit >= RANDOM_KILLS // 2


def test_two_runs_of_one_batch_at_once(bench: Bench) -> None:
    for resource in RESOURCES:
        home = bench.home(f"twice-{resource}")
        both = [
            subprocess.Popen(
                [sys.executable, "-m", "dags.child", INGEST, json.dumps({"resource": resource}), str(home.path / f"{n}.json")],
                cwd=ROOT, env=home.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for n in range(2)
        ]  # fmt: skip
        assert [process.wait(timeout=300) for process in both] == [0, 0]
        bench.compare(f"{resource} two runs at once", resource, home)


@pytest.mark.parametrize("nth", [1, 3, 6])
def test_the_clock_jumps_back(bench: Bench, nth: int) -> None:
    resource = "venue.booking"
    home = bench.home(f"clock-{nth}")
    out = home.path / "report.json"
    command = [
        sys.executable,
        "-m",
        "tests.faults.driver",
        f"clock-back#{nth}",
        INGEST,
        json.dumps({"resource": resource}),
        str(out),
    ]
    assert subprocess.run(command, cwd=ROOT, env=home.env, timeout=300, check=False).returncode == 0
    bench.compare(f"clock an hour back at reading {nth}", resource, home)


class Cut:
    """A source that dies in the middle of an answer: passes ``limit`` bytes of answers on, then closes everything."""

    def __init__(self, target: int, limit: int):
        self.limit, self.passed = limit, 0
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self.passed >= self.limit:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pipe, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pipe, args=(server, client, True), daemon=True).start()

    def _pipe(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(4096):
                if counted:
                    data = data[: max(0, self.limit - self.passed)]
                    self.passed += len(data)
                target.sendall(data)
                if counted and self.passed >= self.limit:
                    break
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_source_dies_in_the_middle_of_a_page(bench: Bench, share: float) -> None:
    resource = "venue.booking"
    bench.calm_run(resource)
    uri = bench.base.env["TIYU_CONN_VENUE_API"]
    port = int(uri.rpartition(":")[2])
    whole = Cut(port, 1 << 40)  # how much a whole run transfers
    home = bench.home("whole", TIYU_CONN_VENUE_API=uri.replace(f":{port}", f":{whole.port}"))
    home.run(INGEST, resource=resource)
    whole.close()
    shutil.rmtree(home.path)
    cut = Cut(port, int(whole.passed * share))
    home = bench.home(f"cut-{share}", TIYU_CONN_VENUE_API=uri.replace(f":{port}", f":{cut.port}"))
    said = home.fails(INGEST, resource=resource)
    cut.close()
    assert said.startswith(("TIYU-ING-0120", "TIYU-ING-0123")), said
    home.env["TIYU_CONN_VENUE_API"] = uri
    bench.compare(f"source dies after {share:.0%} of its bytes", resource, home)


def _water_drop(bench: Bench, name: str, change: Callable[[Path], None]) -> Home:
    """A home whose drop folder is a copy that ``change`` has changed."""
    drops = bench.folder / f"drops-{name}"
    shutil.copytree(bench.drops, drops)
    change(drops / "supervision" / "water_reading")
    return bench.home(name, TIYU_CONN_CITY_DROP=f"file://{drops}")


def test_the_same_file_under_two_names(bench: Bench) -> None:
    resource = "supervision.water_reading"

    def twice(folder: Path) -> None:
        files = sorted(folder.rglob("*.csv"))
        assert files
        for path in files[::3]:
            shutil.copy2(path, path.with_name(path.stem + "_copy.csv"))

    bench.compare("the same file under two names", resource, _water_drop(bench, "two-names", twice))


def test_changed_content_under_one_name(bench: Bench) -> None:
    """A file is delivered, then again under its name with one more row: as if both contents had come under names of their own."""
    resource = "supervision.water_reading"

    def longer(text: str) -> str:
        lines = text.splitlines(keepends=True)
        one = lines[1].split(",")
        pool = one[0]
        return text + lines[1].replace(pool, pool, 1).replace(one[1], "RESENT-1", 1).replace(":0", ":1", 1)

    first: list[Path] = []

    def both(folder: Path) -> None:
        path = sorted(folder.rglob("*.csv"))[0]
        text = path.read_text("utf-8")
        path.with_name(path.stem + "_resent.csv").write_text(longer(text), "utf-8")

    def one(folder: Path) -> None:
        first.append(sorted(folder.rglob("*.csv"))[0])

    expected = bench.to_the_end(_water_drop(bench, "own-names", both), resource)
    home = _water_drop(bench, "one-name", one)
    home.run(INGEST, resource=resource)
    first[0].write_text(longer(first[0].read_text("utf-8")), "utf-8")
    os.utime(first[0], (time.time() + 5, time.time() + 5))
    found = bench.to_the_end(home, resource)
    bench.tried.append("changed content under one name")
    technical = differences(
        {name: value[:1] for name, value in expected.items()}, {name: value[:1] for name, value in found.items()}
    )  # type: ignore[index]
    assert technical == []


def test_a_folder_that_turns_read_only_and_a_point_never_reached(bench: Bench) -> None:
    """The suite itself: a point that does not exist is no success."""
    home = bench.home("never")
    with pytest.raises(AssertionError, match="was not reached"):
        killed_at(home, "lake.tables:delete@before#99", INGEST, resource="venue.booking")
    shutil.rmtree(home.path)
