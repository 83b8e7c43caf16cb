"""Upkeep of Delta tables: many small files become few, and files that no reader can ask for any more are removed.

Neither changes a row. A compaction is a commit of its own, so the checked version follows it where everything before it was
checked; a vacuum keeps the files of every checked version that the ledger remembers.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import polars as pl
from deltalake import CommitProperties

from lake import clock, ledger, storage, tables
from lake.errors import EXIT_USAGE, TiyuError

SMALL_BYTES = 16 << 20
MIN_FILES = 8
"""A partition with at least this many files below 16 MiB is compacted: fewer cost a reader less than the rewrite."""
TARGET_BYTES = 128 << 20
VACUUM_HOURS = 7 * 24
EVERY_VERSION_DAYS = 2
"""How long `thin` keeps every checked version of a day; of earlier days the last one stays."""


@dataclass
class Upkeep:
    """What was done to one table. files_before/after: of the head. removed: files deleted from the store. forgotten: checked
    versions the ledger no longer keeps. version: the head afterwards."""

    table: str
    version: int
    partitions: int = 0
    files_before: int = 0
    files_after: int = 0
    removed: int = 0
    forgotten: int = 0


def small_partitions(name: str) -> list[str]:
    """Dates (``part_date``, ISO) of a table whose partitions consist of many small files; an unpartitioned table counts as one,
    named by an empty text."""
    actions = _files(name)
    counted = Counter(
        day
        for day, size in zip(actions["day"].to_list(), actions["size_bytes"].to_list(), strict=True)
        if size < SMALL_BYTES
    )
    return sorted(day for day, count in counted.items() if count >= MIN_FILES)


def _files(name: str) -> pl.DataFrame:
    actions = pl.DataFrame(tables.open_table(name).get_add_actions(flatten=True))
    column = "partition.part_date"
    day = pl.col(column).cast(pl.String) if column in actions.columns else pl.lit("")
    return actions.select(day.alias("day"), pl.col("size_bytes"))


def file_count(name: str) -> int:
    """Files of the head of a table."""
    return _files(name).height


def compact(name: str) -> Upkeep:
    """Rewrite partitions that consist of many small files, one commit a table; nothing is committed when there are none.

    The checked version moves to the new head when the head before it was checked up to commits without content; otherwise the
    gate moves it. Errors: TIYU-LAKE-0002 another writer won every attempt.
    """
    done = Upkeep(name, int(tables.version(name) or 0), files_before=file_count(name))
    for day in small_partitions(name):
        _compact(name, day)
        done.partitions += 1
    done.files_after = file_count(name) if done.partitions else done.files_before
    done.version = int(tables.version(name) or 0)
    follow(name)
    return done


def _compact(name: str, day: str) -> None:
    def commit() -> int:
        table = tables.open_table(name)
        table.optimize.compact(
            partition_filters=[("part_date", "=", day)] if day else None,
            target_size=TARGET_BYTES,
            max_concurrent_tasks=1,
            writer_properties=tables.WRITER,
            commit_properties=CommitProperties(custom_metadata={tables.PART_DATES: "[]"}),
        )
        return table.version()

    tables.retry(name, commit)


def follow(name: str) -> None:
    """Move the checked version over commits without content, so that readers get the new files."""
    checked, head = ledger.checked_version(name), tables.version(name)
    if checked is None or head is None or head <= checked or tables.touched_dates(name, checked, head) != set():
        return
    ledger.set_checked_version(name, head, f"upkeep-{uuid.uuid4().hex[:12]}")


def thin(name: str) -> int:
    """Let the ledger forget checked versions that were one of many on a day that is over; returns how many.

    A table that a stream feeds is checked every few seconds, and each remembered version pins its files. Kept are: every
    version of the last days, the last one of each Shanghai day before, the present one, and what a delivery was made from.
    """
    history = ledger.checked_history_of(name)
    limit = clock.today() - timedelta(days=EVERY_VERSION_DAYS)
    last_of_day: dict[Any, int] = {}
    for row in history:
        last_of_day[row["as_of_at"].astimezone(clock.SHANGHAI).date()] = row["version"]
    kept = {*last_of_day.values(), ledger.checked_version(name), *_delivered(name)}
    gone = [
        row["version"]
        for row in history
        if row["version"] not in kept and row["as_of_at"].astimezone(clock.SHANGHAI).date() < limit
    ]
    ledger.forget_checked_versions(name, gone)
    return len(gone)


def _delivered(name: str) -> set[int]:
    return {
        int(row["source_version"])
        for row in ledger.deliveries()
        if row["source_table"] == name and row["source_version"] is not None
    }


def vacuum(name: str, *, hours: int = VACUUM_HOURS) -> int:
    """Delete files that neither the head, nor a checked version, nor a version younger than ``hours`` needs; returns how many."""
    keep = [int(row["version"]) for row in ledger.checked_history_of(name)]
    try:
        removed = tables.open_table(name).vacuum(
            retention_hours=hours,
            dry_run=False,
            enforce_retention_duration=False,
            keep_versions=keep or None,
            commit_properties=CommitProperties(custom_metadata={tables.PART_DATES: "[]"}),
        )
    except OSError as error:
        raise storage.fault(error) or error from None
    follow(name)
    return len(removed)


def upkeep(names: Iterable[str] = (), *, clean: bool = False, thinned: Iterable[str] = ()) -> list[Upkeep]:
    """Compact tables (default: every table of the lake), and with ``clean`` remove what nobody can ask for.

    thinned: tables whose remembered versions are thinned before (`thin`): those that streams feed.
    Errors: TIYU-LAKE-0005 there is no such table.
    """
    known = tables.all_tables()
    wanted = list(dict.fromkeys(names)) or known
    if missing := sorted(set(wanted) - set(known)):
        raise TiyuError(
            "TIYU-LAKE-0005", "数据湖中没有这张表", "用 tiyu describe 查看可用的表", EXIT_USAGE, table="、".join(missing)
        )  # fmt: skip
    found = []
    for name in wanted:
        done = compact(name)
        if clean:
            done.forgotten = thin(name) if name in set(thinned) else 0
            done.removed = vacuum(name)
            done.version = int(tables.version(name) or 0)
        found.append(done)
    return found
