"""One small city, its servers, and one undisturbed run to compare with."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import httpx
import pytest

from deploy.processes import MARK, free_port, sweep
from tests.faults.kills import Kill
from tests.faults.support import ROOT, Home, contents, delivered, serving, undisturbed


@dataclass
class Reference:
    """The undisturbed run and how to make another state folder with the same keys."""

    home: Home
    tables: dict[str, object]
    serving: dict[str, object]
    delivered: dict[str, str]
    new_home: Callable[[str], Home]
    city: Path


class Results:
    """What a whole run of the fault suite found, written to ``build/faults/RESULTS.md`` at its end."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.parts: list[str] = []
        self.faults: list[tuple[str, str, str]] = []

    def kills(self, seed: int, done: list[Kill], seconds: float) -> None:
        """The table of kills."""
        lines = [f"## Kills of the demo: seed {seed}, {len(done)} of {len(done)} hit, {seconds:.0f} s in all", ""]
        lines += [
            "| no. | step | kill after entering it (s) | after the demo's start (s) | tasks running | steps at work | processes |"
        ]
        lines += ["|---|---|---|---|---|---|---|"]
        lines += [
            f"| {number} | {kill.target.step} | {kill.waited_s:.3f} | {kill.at_s:.0f} | {', '.join(kill.tasks)} "
            f"| {', '.join(kill.steps)} | {kill.processes} |"
            for number, kill in enumerate(done, 1)
        ]
        self.parts.append("\n".join(lines))

    def points(self, seed: int, tried: list[str], different: list[str]) -> None:
        """Kill points and other faults of one ingest, each followed by a second run and a comparison."""
        lines = [f"## Ingest: {len(tried)} faults tried (seed {seed}), {len(different)} differences found", ""]
        lines += [f"- {name}" for name in tried] + [f"- **different** {name}" for name in different]
        self.parts.append("\n".join(lines))

    def fault(self, what: str, message: str, remedy: str) -> None:
        """One storage fault: what was broken, what was said, after what the tables were those of an undisturbed run."""
        code = next((word for word in message.split() if word.startswith("TIYU-")), "?")
        self.faults.append((what, code, remedy))

    def write(self) -> None:
        """The file; nothing is written when no part ran."""
        if self.faults:
            lines = [
                "## Storage faults",
                "",
                "| fault | message | remedy, then the tables of an undisturbed run |",
                "|---|---|---|",
            ]
            self.parts.append("\n".join(lines + [f"| {' | '.join(row)} |" for row in self.faults]))
        if not self.parts:
            return
        commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        versions = {name: metadata.version(name) for name in ("duckdb", "deltalake", "dbt-core", "apache-airflow")}
        head = [
            "# Last full result of `make test-faults`",
            "",
            f"Commit {commit.stdout.strip()} · {platform.system()} {platform.release()} · {os.cpu_count()} CPUs · Python "
            f"{platform.python_version()} · " + " · ".join(f"{name} {version}" for name, version in versions.items()),
            "",
            f"All of it took {time.monotonic() - self.started:.0f} s (load average at the end {os.getloadavg()[1]:.1f}).",
            "",
        ]
        target = ROOT / "build" / "faults" / "RESULTS.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(head) + "\n\n".join(self.parts) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def results() -> Iterator[Results]:
    """Collects what the suite found."""
    found = Results()
    yield found
    found.write()


@dataclass
class World:
    """A tiny city with its source servers running."""

    city: Path
    new_home: Callable[[str], Home]


@contextmanager
def served(base: Path) -> Iterator[World]:
    """Generate the tiny city below ``base`` and run its source servers for the time of a block."""
    city = base / "city"
    generate = [sys.executable, "-m", "simulation", "generate", "--size", "tiny", "--seed", "7", "--out", str(city)]
    subprocess.run(generate, cwd=ROOT, check=True, capture_output=True)
    world = json.loads((city / "world.json").read_text(encoding="utf-8"))
    tokens = json.loads((city / world["tokens_file"]).read_text(encoding="utf-8"))
    taken: set[int] = set()
    venue, fitness = free_port(18701, taken), free_port(18702, taken)
    serve = ["serve", "--dir", str(city), "--port-venue", str(venue), "--port-fitness", str(fitness)]
    servers = subprocess.Popen(
        [sys.executable, "-m", "simulation", *serve], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    marks: list[str] = []
    homes: list[Path] = []

    def new_home(name: str) -> Home:
        path = base / name
        path.mkdir()
        mark = uuid.uuid4().hex
        marks.append(mark)
        env = {
            **os.environ,
            MARK: mark,
            "TIYU_HOME": str(path),
            "TIYU_TODAY": world["last_date"],
            "TIYU_AS_OF": world["as_of"],
            "TIYU_CONN_CITY_DROP": f"file://{city / 'drops'}",
            "TIYU_CONN_VENUE_API": f"http://:{tokens['venue']}@127.0.0.1:{venue}",
            "TIYU_CONN_FITNESS_API": f"http://:{tokens['fitness']}@127.0.0.1:{fitness}",
            "GX_ANALYTICS_ENABLED": "false",
        }
        for variable in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
            env.pop(variable, None)
        if keys := [
            home for home in homes if (home / "keys").exists()
        ]:  # tokens are made with the key: the same key, the same rows
            shutil.copytree(keys[0] / "keys", path / "keys")
        homes.append(path)
        prepare = ["--scale", str(world["demo_scale"]), "--as-of", world["as_of"]]
        subprocess.run([sys.executable, "-m", "deploy.prepare", *prepare], cwd=ROOT, env=env, check=True)
        return Home(path, env)

    try:
        for port in (venue, fitness):
            for _ in range(200):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/", timeout=2, trust_env=False)
                    break
                except httpx.HTTPError:
                    if servers.poll() is not None:
                        raise
                    time.sleep(0.1)
        yield World(city, new_home)
    finally:
        servers.kill()
        servers.wait()
        for mark in marks:
            sweep(mark)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """Tiny city, source servers, an undisturbed run."""
    with served(tmp_path_factory.mktemp("faults")) as world:
        calm = world.new_home("calm")
        for _ in undisturbed(calm):
            pass
        yield Reference(calm, contents(calm), serving(calm), delivered(calm), world.new_home, world.city)
