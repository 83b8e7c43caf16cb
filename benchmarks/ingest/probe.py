"""What every measured process says about itself: one line of JSON on standard output. Standard library only, since the
peers' environment has nothing of ours."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any


def peak_mb() -> float:
    """The most memory this process ever had resident, in MiB."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM:"))


def measure(work: Callable[[], dict[str, Any]], **about: Any) -> None:
    """Run ``work`` and print its seconds, CPU seconds (children too), the process's peak memory and what it returns."""
    before, started = os.times(), time.perf_counter()
    found = work()
    seconds, after = time.perf_counter() - started, os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    print("\n" + json.dumps({"seconds": seconds, "cpu_s": cpu, "peak_mb": peak_mb(), **about, **found}), flush=True)
