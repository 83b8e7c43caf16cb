"""Memory of the whole demo: proportional set size (shared pages counted once), sampled in the background."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from deploy.processes import marked


def pss_bytes(pid: int) -> int:
    """Proportional set size of one process, 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


class MemorySampler:
    """Keeps the peak of the sum over all processes that carry the mark, and over this one, and when it was reached."""

    def __init__(self, mark: str, seconds: float = 2.0) -> None:
        self.mark, self.seconds = mark, seconds
        self.peak, self.peak_at, self.samples = 0, 0.0, 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def start(self) -> MemorySampler:
        """Begin sampling."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End sampling."""
        self._end.set()
        self._thread.join(timeout=5)

    def sample(self) -> int:
        """Sum now, in bytes."""
        total = sum(pss_bytes(pid) for pid in {os.getpid(), *marked(self.mark)})
        if total > self.peak:
            self.peak, self.peak_at = total, time.monotonic()
        self.samples += 1
        return total

    def _run(self) -> None:
        while not self._end.wait(self.seconds):
            self.sample()
