"""Killing a running demo in a chosen step: a seeded plan, a watcher that sees the step, and the kill itself.

A process of the platform carries the step it is in as its name (``lake.steps``). The watcher waits until a process of the
demo enters the wanted step, lets a drawn time pass, freezes that process (SIGSTOP) and looks again: only when it still is
in the step is the whole process group killed, so a kill is counted for the step it really hit. The frozen process can do
nothing more; everything else dies by the kill of the group or, in sessions of its own, by the demo's guardian.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.processes import marked
from lake.steps import PREFIX, STEPS
from tests.faults.support import ROOT

INGEST = ("archive", "decode", "rules", "ods", "ledger", "gate-ods")
#: Steps whose work may be over in a parallel run while another is being killed come first.
ORDER = (*STEPS[: STEPS.index("serving")], "exchange", "serving", "open_data")
LONGEST_S = {"dwd": 0.3, "gate-dwd": 0.1, "dws": 0.02, "gate-dws": 0.02, "ads": 0.02, "gate-ads": 0.05, "serving": 0.3}
"""Longest time drawn between entering a step and the kill; 4 ms for the others, which are over at once in a tiny city."""


@dataclass(frozen=True)
class Target:
    """One planned kill: in which step, in which visit to it (0 = the first seen), how long after entering it."""

    step: str
    visit: int
    after_s: float


@dataclass
class Kill:
    """One kill that happened. ``at_s``: since the start of that demo; ``tasks``: Airflow tasks that were running."""

    target: Target
    at_s: float
    waited_s: float
    steps: list[str]
    tasks: list[str]
    processes: int


def plan(seed: int, count: int = 20) -> list[Target]:
    """``count`` kills in the order the data goes: every step once, the rest drawn; the same seed, the same plan."""
    draw = random.Random(seed)
    extra = sorted(draw.choices(STEPS, k=count - len(STEPS)), key=ORDER.index)
    first = [step for step in extra if step in INGEST]  # these hit the first source, which is loaded alone
    later = sorted([*(step for step in STEPS), *(step for step in extra if step not in INGEST)], key=ORDER.index)
    return [
        Target(step, draw.randint(0, 1) if number >= len(first) and step in ("archive", "decode") else 0,
               round(draw.uniform(0, LONGEST_S.get(step, 0.004)), 3))
        for number, step in enumerate([*first, *later])
    ]  # fmt: skip


def start(home: Path, log: Path, port_base: int) -> subprocess.Popen[bytes]:
    """`make demo HEADLESS=1 SIZE=tiny` without make, in a process group of its own."""
    command = [sys.executable, "-m", "deploy.demo", "--size", "tiny", "--seed", "7", "--headless"]
    command += ["--port-base", str(port_base), "--home", str(home)]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("TIYU_", "AIRFLOW"))}
    with log.open("ab") as out:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True)


def step_of(pid: int) -> str:
    """The step a process is in, or an empty text."""
    try:
        name = Path("/proc", str(pid), "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else ""


def _frozen(pid: int) -> bool:
    """Freeze a process; False when it is gone."""
    try:
        os.kill(pid, signal.SIGSTOP)
        for _ in range(2000):
            state = Path("/proc", str(pid), "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            if state in "TtZX":
                return state in "Tt"
            time.sleep(0.0005)
    except OSError:
        pass
    return False


def _visits(process: subprocess.Popen[bytes], mark: str, seconds: float) -> Iterator[tuple[int, dict[int, str]]]:
    """(process id, steps of all) each time a process of the demo enters a step; ends with the demo."""
    deadline, refresh = time.monotonic() + seconds, 0.0
    pids: list[int] = []
    before: dict[int, str] = {}
    while process.poll() is None:
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"the demo did not get there in {seconds:.0f} s")
        if now > refresh:
            pids, refresh = marked(mark), now + 0.1
        steps = {pid: step for pid in pids if (step := step_of(pid))}
        for pid, step in steps.items():
            if before.get(pid) != step:
                yield pid, steps
        before = steps
        time.sleep(0.0007)


def kill_in(process: subprocess.Popen[bytes], home: Path, mark: str, target: Target, seconds: float) -> Kill | None:
    """Kill the demo's group in the wanted step; None when it ended before (then nothing was killed)."""
    started, seen, wait = time.monotonic(), 0, target.after_s
    for pid, steps in _visits(process, mark, seconds):
        if steps[pid] != target.step:
            continue
        seen += 1
        if seen <= target.visit:
            continue
        time.sleep(wait)
        if not _frozen(pid) or step_of(pid) != target.step:
            _continue(pid)
            wait = 0.0  # it was over already: at once in the next visit
            continue
        found = sorted({step for other in marked(mark) if (step := step_of(other))})
        processes = len(marked(mark))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return Kill(target, time.monotonic() - started, wait, found, _tasks(home), processes)
    return None


def _continue(pid: int) -> None:
    with suppress(OSError):
        os.kill(pid, signal.SIGCONT)


def _tasks(home: Path) -> list[str]:
    """Airflow tasks that were running when everything was killed."""
    with closing(sqlite3.connect(f"file:{home / 'airflow' / 'airflow.db'}?mode=ro", uri=True, timeout=10)) as con:
        return [f"{dag}.{task}" for dag, task in con.execute(
            "select dag_id, task_id from task_instance where state = 'running' order by 1, 2").fetchall()]  # fmt: skip


def gone(mark: str, seconds: float = 30) -> list[int]:
    """Processes of the demo that are left after the guardian had its time."""
    deadline = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
