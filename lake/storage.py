"""A full, read-only or failing disk, recognised whoever reports it: one code, one thing to do.

Every library says it in its own way: Python with an ``errno``, DuckDB, Delta, Polars and SQLite with a sentence. None of
them says what the operator should do, and some of the sentences quote what was being written. Here the cause becomes one
of three errors; the place is named by the folder of the installation only.

Nothing is half done after any of them: objects, commits, files and ledger rows become visible whole or not at all, so
the remedy is always to mend the disk and run the same command again.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lake.errors import EXIT_UNAVAILABLE, TiyuError
from lake.settings import settings

_FULL = re.compile(
    r"no space left on device|disk quota exceeded|file too large|os error (28|122|27)\b|database or disk is full"
    r"|failed to offload data block|TIYU-DISK-0001",
    re.IGNORECASE,
)
_READ_ONLY = re.compile(
    r"read-only file system|os error (30|13|1)\)|attempt to write a readonly database|permission denied"
    r"|operation not permitted|TIYU-DISK-0002",
    re.IGNORECASE,
)
_BROKEN = re.compile(r"input/output error|os error 5\)|disk i/o error|TIYU-DISK-0003", re.IGNORECASE)
_NUMBERS = {
    errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EFBIG: "full",
    errno.EROFS: "read_only", errno.EACCES: "read_only", errno.EPERM: "read_only",
    errno.EIO: "broken",
}  # fmt: skip


def fault(error: BaseException) -> TiyuError | None:
    """The coded error behind an exception (or behind what caused it), None when the disk is not to blame.

    TIYU-DISK-0001 full, 0002 not writable, 0003 failing.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TiyuError):
            return None
        number = seen.errno if isinstance(seen, OSError) else None
        kind = _NUMBERS.get(number) if number is not None else None
        if kind:
            return _coded(kind, str(getattr(seen, "filename", None) or seen))
        if found := from_text(str(seen)):
            return found
        seen = seen.__cause__ or seen.__context__
    return None


def from_text(message: str | None) -> TiyuError | None:
    """The coded error behind a library's sentence (which may quote one of ours), None when it is about something else."""
    text = message or ""
    kinds = (("full", _FULL), ("read_only", _READ_ONLY), ("broken", _BROKEN))
    kind = next((kind for kind, pattern in kinds if pattern.search(text)), None)
    return _coded(kind, text) if kind else None


@contextmanager
def coded() -> Iterator[None]:
    """Let a fault of the disk leave a block as its coded error, everything else as it is. Also a decorator."""
    try:
        yield
    except TiyuError:
        raise
    except Exception as error:
        if found := fault(error):
            raise found from None
        raise


def _coded(kind: str, text: str) -> TiyuError:
    place, root = _place(text)
    if kind == "full":
        return TiyuError(
            "TIYU-DISK-0001",
            "磁盘空间不足，写入未完成",
            "腾出空间或扩容后重跑同一命令；写了一半的内容不会被看到，也不会重复",
            EXIT_UNAVAILABLE,
            place=place,
            free_mib=_free_mib(root),
        )
    if kind == "read_only":
        return TiyuError(
            "TIYU-DISK-0002",
            "目录只读或没有写权限",
            "检查磁盘是否被系统改挂为只读、目录的属主与权限，修复后重跑同一命令；已有数据未受影响",
            EXIT_UNAVAILABLE,
            place=place,
        )
    return TiyuError(
        "TIYU-DISK-0003",
        "磁盘读写出错",
        "查看系统日志（dmesg），更换或修复磁盘；必要时用 tiyu restore 从备份恢复，然后重跑同一命令",
        EXIT_UNAVAILABLE,
        place=place,
    )


def _place(text: str) -> tuple[str | None, Path]:
    """The part of the installation that a message names (two levels at most: deeper names may hold anything)."""
    where = settings()
    roots = [Path(where.lake_root)] if "://" not in where.lake_root else []
    for root in sorted([*roots, where.home], key=lambda item: -len(str(item))):
        at = text.find(f"{root}/")
        if at >= 0:
            rest = re.split(r"[\"'\s:,]", text[at + len(str(root)) + 1 :], maxsplit=1)[0]
            first = [part for part in rest.split("/") if not part.startswith(".")][:1]
            return "/".join([root.name, *first]), root
    return None, where.home


def _free_mib(place: Path) -> int | None:
    """Free space where it failed, in MiB."""
    try:
        while not os.path.exists(place):
            place = place.parent
        return shutil.disk_usage(place).free >> 20
    except OSError:
        return None
