"""Which step of the way of the data a process is in, told to the operating system and nobody else.

The name of the main thread (``ps -o comm``, ``top``) becomes ``tiyu:STEP`` while the step lasts: an operator sees what a
busy process does without a log, a database or a file, also when the disk is full. The kernel keeps 15 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "tiyu:"
STEPS = (
    "archive",  # fetch, seal, store
    "decode",  # acceptance and decoding
    "rules",  # row rules, identifier checks, tokens
    "ods",  # rows into quarantine, child tables, root table
    "ledger",  # a batch opened or closed in the control ledger
    "gate-ods",
    "dwd",  # a DIM or DWD model written
    "gate-dwd",  # the layer's dbt tests, then its checked versions
    "dws",
    "gate-dws",
    "ads",
    "gate-ads",
    "serving",
    "exchange",
    "open_data",
)
"""The steps in the order data takes them (design §4)."""

_COMM = Path("/proc/self/comm")


@contextmanager
def step(name: str | None) -> Iterator[None]:
    """Show a step for the time of a block, then what was shown before. Costs a few microseconds; never fails.

    Without a name nothing is shown at first: the block calls :func:`enter` when it knows.
    """
    before = current()
    if name:
        enter(name)
    try:
        yield
    finally:
        _show(before)


def enter(name: str) -> None:
    """Show a step until the next one, inside a :func:`step` block that clears it."""
    if name not in STEPS:
        raise ValueError(f"{name} is not a step")
    _show(PREFIX + name)


def current() -> str:
    """The name the process carries now (empty where the system has no such name)."""
    with suppress(OSError):
        return _COMM.read_text(encoding="utf-8", errors="replace").strip()
    return ""


def _show(text: str) -> None:
    with suppress(OSError):
        _COMM.write_text(text[:15], encoding="utf-8")
