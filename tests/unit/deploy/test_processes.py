"""Processes of the demo: marks, groups, the guardian, free ports. Real processes, no network."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.measure import MemorySampler
from deploy.processes import MARK, Processes, free_port, mark_of, marked, sweep

ROOT = Path(__file__).resolve().parents[3]
# A child with a grandchild in a session of its own that ignores TERM: what a scheduler's task looks like at its worst.
STUBBORN = """
import os, signal, subprocess, sys, time
subprocess.Popen([sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(120)"], start_new_session=True)
time.sleep(120)
"""


def wait(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Poll a condition."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def processes(tmp_path: Path):
    """Processes of a demo on an empty folder; whatever a test leaves is killed."""
    found = Processes(tmp_path, tmp_path / "log")
    yield found
    sweep(mark_of(tmp_path))


def test_stop_ends_children_and_their_stubborn_grandchildren(processes: Processes) -> None:
    processes.start_guardian()
    processes.spawn("stubborn", [sys.executable, "-c", STUBBORN])
    assert wait(lambda: len(marked(processes.mark)) == 2)
    killed = processes.stop(seconds=3)
    assert killed == 1, "the grandchild in its own session had to be killed"
    assert marked(processes.mark) == []


def test_sweep_finds_every_run_of_a_folder_and_no_other_folder(tmp_path: Path) -> None:
    first, second = Processes(tmp_path / "a", tmp_path), Processes(tmp_path / "b", tmp_path)
    first.spawn("one", [sys.executable, "-c", "import time; time.sleep(60)"])
    second.spawn("two", [sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert wait(lambda: len(marked(first.mark)) == 1 and len(marked(second.mark)) == 1)
        assert marked(mark_of(tmp_path / "a") + ":other-run") == []
        assert sweep(mark_of(tmp_path / "a")) == 1
        assert len(marked(second.mark)) == 1
    finally:
        first.stop(seconds=1)
        second.stop(seconds=1)


def test_guardian_kills_everything_after_sigkill_of_the_supervisors_group(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from deploy.processes import Processes\n"
        "p = Processes(Path(sys.argv[1]), Path(sys.argv[1]) / 'log')\n"
        "p.start_guardian()\n"
        f"p.spawn('stubborn', [sys.executable, '-c', {STUBBORN!r}])\n"
        "print(p.mark, flush=True)\n"
        "time.sleep(120)\n"
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert supervisor.stdout is not None
    mark = supervisor.stdout.readline().strip()
    assert wait(lambda: len(marked(mark)) == 2)
    os.killpg(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    supervisor.stdout.close()
    assert wait(lambda: not marked(mark)), "orphans are left"


def test_a_service_that_ends_by_itself_is_reported_with_its_last_words(processes: Processes) -> None:
    child = processes.spawn("brief", [sys.executable, "-c", "print('no space left'); raise SystemExit(3)"])
    child.process.wait(timeout=10)
    with pytest.raises(RuntimeError, match=r"brief ended with code 3(.|\n)*no space left"):
        processes.check()


def test_children_keep_their_environment_readable(processes: Processes) -> None:
    """setproctitle would overwrite it, and with it the mark."""
    environment = processes.environment()
    assert environment["SPT_NOENV"] == "1"
    assert environment[MARK] == processes.mark
    code = "import setproctitle, time; setproctitle.setproctitle('x' * 400); time.sleep(60)"
    processes.spawn("titled", [sys.executable, "-c", code])
    time.sleep(0.5)
    assert wait(lambda: len(marked(processes.mark)) == 1)
    processes.stop(seconds=2)


def test_free_port_steps_aside() -> None:
    taken: set[int] = set()
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        number = busy.getsockname()[1]
        found = free_port(number, taken)
        assert found != number
        assert free_port(found, taken) != found, "a port handed out once is not handed out again"


def test_memory_counts_marked_processes(processes: Processes) -> None:
    sampler = MemorySampler(processes.mark)
    alone = sampler.sample()
    processes.spawn("big", [sys.executable, "-c", "x = bytearray(80_000_000); import time; time.sleep(60)"])
    assert wait(lambda: sampler.sample() > alone + 70_000_000)
    assert sampler.samples >= 2
    processes.stop(seconds=2)
