"""Run a verb that dies at a point chosen by name: ``python -m tests.faults.driver POINT VERB KWARGS OUT``.

A point is ``module:function@before|after#N``: SIGKILL to this process right before or right after the N-th call of the function.
``clock-back#N``: from the N-th reading on, the technical clock stands an hour earlier. ``files:`` before a point: rows become
files as soon as there are any, as those of a large batch do. What is not a point runs undisturbed.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
from datetime import timedelta
from typing import Any

from dags import child

_POINT = re.compile(r"^([a-z_.]+):([a-z_]+)@(before|after)#(\d+)$")


def arm(point: str) -> None:
    """Put the fault in place."""
    if point.startswith("files:"):
        importlib.import_module("ingestion.staging").HELD_BYTES = 1  # type: ignore[attr-defined]
        point = point.removeprefix("files:")
    if match := re.fullmatch(r"clock-back#(\d+)", point):
        _clock_back(int(match[1]))
    elif match := _POINT.match(point):
        _kill(match[1], match[2], match[3], int(match[4]))
    else:
        raise SystemExit(f"no such point: {point}")


def _kill(module_name: str, function: str, side: str, nth: int) -> None:
    module = importlib.import_module(module_name)
    kept = getattr(module, function)
    calls = 0

    def wrapped(*values: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and side == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = kept(*values, **options)
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, function, wrapped)


def _clock_back(nth: int) -> None:
    from lake import clock

    kept, calls = clock.utc_now, 0

    def earlier() -> Any:
        nonlocal calls
        calls += 1
        return kept() - timedelta(hours=1) if calls >= nth else kept()

    clock.utc_now = earlier
    for name in ("lake.ledger", "quality.gate", "quality.quarantine", "ingestion.pipeline", "ingestion.run"):
        module = importlib.import_module(name)
        if hasattr(module, "utc_now"):
            module.utc_now = earlier  # type: ignore[attr-defined]


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.exit(child.main(sys.argv[2:]))
