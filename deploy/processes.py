"""Processes of the demo: started in sessions of their own, and none left behind.

Three nets, because a demo that leaves a scheduler running silently corrupts the next one:

1. ``Processes.stop()``: TERM to every group, wait, KILL, then look whether anything with our mark is left.
2. The **guardian**, a small process in a session of its own, holds a pipe to the supervisor. When the supervisor dies without
   stopping (SIGKILL of its group), the pipe closes and the guardian kills everything with the mark.
3. ``sweep()`` at the next start kills what a killed guardian could not.

The mark is the environment variable ``TIYU_DEMO_MARK`` (hash of the state folder): every descendant inherits it, however deep, also
after it changed its session or its parent died. ``SPT_NOENV`` keeps setproctitle (Airflow, gunicorn) from overwriting it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MARK = "TIYU_DEMO_MARK"
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def mark_of(home: Path) -> str:
    """The mark of one state folder: two demos on different folders do not touch each other.

    A run appends its own word (``mark:word``): the guardian of a killed run must not touch the run that follows it.
    """
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:24]


def free_port(preferred: int, taken: set[int] | None = None) -> int:
    """The preferred loopback port, or the next free one within 200, or any free one."""
    taken = set() if taken is None else taken
    for port in [*range(preferred, preferred + 200), 0]:
        if port in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            number = int(probe.getsockname()[1])
        taken.add(number)
        return number
    raise RuntimeError("no free port on 127.0.0.1")


def marked(mark: str, *, besides: set[int] | None = None) -> list[int]:
    """Process ids whose environment carries the mark: of one run (``mark:word``), or of all runs (``mark``)."""
    needle = f"{MARK}={mark}".encode()
    besides = besides or set()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in besides:
            continue
        try:
            environment = Path("/proc", entry, "environ").read_bytes()
            if any(item == needle or item.startswith(needle + b":") for item in environment.split(b"\0")):
                found.append(int(entry))
        except OSError:  # gone, or another user's
            continue
    return found


def sweep(mark: str, *, besides: set[int] | None = None, seconds: float = 15.0) -> int:
    """Kill everything that carries the mark; returns how many processes were killed.

    Looks again until nothing is found, because a process may have forked between the look and the kill.
    """
    besides = (besides or set()) | {os.getpid()}
    killed: set[int] = set()
    deadline = time.monotonic() + seconds
    while left := marked(mark, besides=besides):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed.add(pid)
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes {left} carry the demo's mark and cannot be killed")
        time.sleep(0.05)
    return len(killed)


def _die_with_parent() -> None:
    """In the child before exec: SIGKILL when the thread that started it ends. Only the main thread starts children."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Child:
    """One started process and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def failed(self) -> bool:
        """True when it has ended, for whatever reason: none of the services ends by itself."""
        return self.process.poll() is not None

    def tail(self, lines: int = 15) -> str:
        """Last lines of its log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


@dataclass
class Processes:
    """All processes of one demo."""

    home: Path
    log_folder: Path
    children: list[Child] = field(default_factory=list)
    guardian: subprocess.Popen[bytes] | None = None
    word: str = field(default_factory=lambda: secrets.token_hex(8))
    _pipe: int = -1

    @property
    def mark(self) -> str:
        """The mark every process of this run carries."""
        return f"{mark_of(self.home)}:{self.word}"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Environment of a child: ours, the mark, and ``extra``."""
        env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        return env | {MARK: self.mark, "SPT_NOENV": "1", "PYTHONUNBUFFERED": "1"} | dict(extra or {})

    def start_guardian(self) -> None:
        """Start the watcher that outlives us. It must not carry the mark: it would kill itself first."""
        reader, self._pipe = os.pipe()
        env = {key: value for key, value in os.environ.items() if key != MARK}
        self.guardian = subprocess.Popen(
            [sys.executable, "-S", "-m", "deploy.guardian", str(reader), self.mark],
            pass_fds=[reader],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=env,
            cwd=Path(__file__).resolve().parent.parent,
        )
        os.close(reader)

    def spawn(
        self, name: str, command: list[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Child:
        """Start a service in a session of its own, its output in ``<logs>/<name>.log``."""
        self.log_folder.mkdir(parents=True, exist_ok=True)
        log = self.log_folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environment(env),
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        child = Child(name, process, log)
        self.children.append(child)
        return child

    def check(self) -> None:
        """Raise when a service has ended by itself."""
        for child in self.children:
            if child.failed():
                raise RuntimeError(
                    f"{child.name} ended with code {child.process.returncode}; {child.log}:\n{child.tail()}"
                )

    def stop(self, seconds: float = 8.0) -> int:
        """Stop everything; returns how many processes had to be killed after the polite request."""
        for child in reversed(self.children):
            _signal_group(child.process, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(child.process.poll() is None for child in self.children):
            time.sleep(0.05)
        for child in self.children:
            _signal_group(child.process, signal.SIGKILL)
            child.process.wait(timeout=10)
        killed = sweep(self.mark)
        self.children.clear()
        if self.guardian is not None:
            os.close(self._pipe)
            self.guardian.wait(timeout=20)
            self.guardian = None
        if left := marked(self.mark, besides={os.getpid()}):
            raise RuntimeError(f"processes {left} are left")
        return killed


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a child's whole group; its leader may be gone while members live."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
