"""One writer per resource: an advisory file lock that dies with its process."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lake import storage
from lake.errors import EXIT_UNAVAILABLE, TiyuError
from lake.settings import settings


@contextmanager
def resource_lock(resource: str, timeout_s: float = 900) -> Iterator[None]:
    """Hold the lock of a resource; waits for another run to end, then raises TIYU-ING-0003."""
    folder = settings().home / "locks"
    with storage.coded():
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / f"{resource}.lock", "w")  # noqa: SIM115 - closed below, after the caller's block
    deadline = time.monotonic() + timeout_s
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TiyuError(
                        "TIYU-ING-0003",
                        "同一资源的另一次汇聚长时间未结束",
                        "确认没有卡住的任务后重跑",
                        EXIT_UNAVAILABLE,
                        resource=resource,
                    ) from None
                time.sleep(0.2)
        yield
