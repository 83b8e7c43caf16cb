"""The demo, run as `make demo` runs it, on a city with canaries: what its services leave behind, and where to look for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.policy.canary import plant, search
from tests.policy.canary.live_run import STEPS, STOPPED, file_name

ROOT = Path(__file__).resolve().parents[3]
SWITCHES = Path(__file__).resolve().parent / "switched_off"
PORTS = {"whole": 23600, "again": 23800}
"""Where the search for free ports begins."""
SERVICES = ("airflow-api", "airflow-scheduler", "airflow-dag-processor", "city", "center", "cockpit", "site")
"""Every process that the demo starts and that stays; each has a log of its own. There is no triggerer."""
QUIET = {"site"}
"""Services that write a line only when something is wrong."""
AIRFLOW_TABLES = ("xcom", "task_instance", "rendered_task_instance_fields", "dag_run", "log", "serialized_dag", "job")
"""Tables of Airflow's database that say what ran, with which values."""
SOURCES, SEALED = "city", "archive"
"""Folders of the demo's state: the simulated source systems, whose own the canaries are, and what came from them, encrypted."""


@dataclass
class Live:
    """One demo with canaries. `console` is what it wrote on the screen, `temporary` its folder for temporary files."""

    base: Path
    runs: dict[str, str] = field(default_factory=dict)
    """Run → what it printed."""

    @property
    def home(self) -> Path:
        """The state folder."""
        return self.base / "home"

    @property
    def temporary(self) -> Path:
        """What the processes take for /tmp."""
        return self.base / "t"

    @property
    def console(self) -> Path:
        """What a person at the console saw."""
        return self.base / "console"

    def run(self, mode: str, *, off: Path | None = None) -> None:
        """The demo to its end (see `live_run`); raises AssertionError with its last words when it did not go as it should."""
        for folder in (self.temporary, self.console):
            folder.mkdir(exist_ok=True)
        left = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("TIYU_", "LAKE_", "AIRFLOW", "SUPERSET_", "FLASK_", "PYTEST_", "COV_"))
        }
        paths = [*([str(SWITCHES)] if off else []), str(ROOT)]
        left |= {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(self.temporary)}
        if off:
            left["TIYU_CANARY_OFF"] = str(off)
        output = self.console / f"{mode}.txt"
        with output.open("wb") as file:
            done = subprocess.run(
                [sys.executable, "-m", "tests.policy.canary.live_run", mode, str(self.home), str(PORTS[mode])],
                cwd=ROOT, env=left, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False, timeout=1500,
            )  # fmt: skip
        self.runs[mode] = output.read_text("utf-8", "replace")
        assert done.returncode == 0, self.runs[mode][-6000:]


def begin(base: Path) -> Live:
    """The city with its canaries; the stopped delivery of the turnstiles is named after a phone besides."""
    live = Live(base)
    live.home.mkdir(parents=True)
    planted = plant.plant(plant.city(live.home / SOURCES))
    bad = planted["venue.entry"][1]
    bad.rename(bad.with_name(file_name(97)))
    return live


def places(live: Live) -> dict[str, Callable[[search.Search], search.Findings]]:
    """Name → search of one place. Together these are every byte below the state folder but the source systems, what was on the
    screen, and the temporary files that are left."""
    logs = live.home / "demo" / "log"
    found: dict[str, Callable[[search.Search], search.Findings]] = {
        f"log of {name}": _tree(logs / f"{name}.log") for name in SERVICES
    }
    for folder in sorted((live.home / "airflow" / "logs").iterdir()):
        found[f"airflow logs: {folder.name}"] = _tree(folder)
    found["airflow database"] = _tree(live.home / "airflow" / "airflow.db")
    apart = {logs, live.home / "airflow" / "logs", live.home / "airflow" / "airflow.db"}
    for top in sorted(live.home.iterdir()):
        if top.name != SOURCES:
            found[f"state: {top.name}"] = _tree(top, apart)
    found["console"] = _tree(live.console)
    found["temporary files"] = _tree(live.temporary)
    return found


def _tree(root: Path, apart: set[Path] | frozenset[Path] = frozenset()) -> Callable[[search.Search], search.Findings]:
    return lambda seek: seek.tree(root, skip=lambda path: bool(apart & {path, *path.parents}))


def service_logs(live: Live) -> set[str]:
    """Names of the logs that the demo's processes wrote."""
    return {path.stem for path in (live.home / "demo" / "log").iterdir()}


def step_logs(live: Live) -> Iterator[tuple[str, str, Path]]:
    """(step, DAG, folder of its task logs) of the runs of `again`."""
    for line in live.runs["again"].splitlines():
        if line.startswith("log "):
            _, step, dag_id, folder = line.split(" ", 3)
            assert step in STEPS
            assert dag_id in (STOPPED, "exchange_answers")
            yield step, dag_id, Path(folder)
