"""Who is at work on the state: every command and task holds a shared lock, a restore holds it alone.

The lock is a file under ``$TIYU_HOME/locks``, released by the kernel when its process dies.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lake.errors import EXIT_UNAVAILABLE, TiyuError
from lake.settings import settings


def lock_file() -> Path:
    """Where the lock is; `lake.backup.restore` takes every lock of this folder."""
    return settings().home / "locks" / "state.lock"


@contextmanager
def in_use() -> Iterator[None]:
    """Hold the state for a piece of work; any number may. Raises TIYU-BAK-0012 while a restore replaces it.

    Without a home there is nothing to protect, and who may not write there cannot be in a restore's way.
    """
    if not settings().home.is_dir():
        yield
        return
    try:
        lock_file().parent.mkdir(exist_ok=True)
        file = open(lock_file(), "a")  # noqa: SIM115 - held until the work is done
    except OSError:
        yield
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TiyuError(
                "TIYU-BAK-0012", "正在恢复备份，暂不能运行", "等恢复结束后重跑", EXIT_UNAVAILABLE
            ) from None  # fmt: skip
        yield


__all__ = ["in_use", "lock_file"]
