"""Delta tables: paths, commits that carry their own history, and nothing else.

Every commit carries in its metadata what recovery and the incremental planner need:
``tiyu.part_dates`` (JSON list of the dates it touched, absent = everything), ``tiyu.batch_id`` for an ingest commit
(also as app transaction, which makes a retry a no-op) and whatever the caller adds under ``tiyu.*``.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from lake import storage, words
from lake.data_files import COMPRESSION_LEVEL, DataFile
from lake.errors import EXIT_INTERNAL, TiyuError
from lake.settings import settings

LAYERS = ("ods", "dim", "dwd", "dws", "ads", "ops")
PART_DATES = "tiyu.part_dates"
BATCH_ID = "tiyu.batch_id"
WRITER = WriterProperties(compression="ZSTD", compression_level=COMPRESSION_LEVEL)
"""How every data file is written."""
_ATTEMPTS = 6

Data: TypeAlias = pa.Table | pa.RecordBatchReader | pl.DataFrame


def layer_of(name: str) -> str:
    """The layer prefix of a table name; raises TIYU-LAKE-0001 for a name outside the grammar."""
    layer = name.split("_", 1)[0]
    if layer not in LAYERS:
        raise TiyuError(
            "TIYU-LAKE-0001",
            "表名不符合命名规则",
            "表名以 ods_ dim_ dwd_ dws_ ads_ ops_ 之一开头",
            EXIT_INTERNAL,
            table=name,
        )
    return layer


def path(name: str) -> str:
    """Location of a table: ``{lake_root}/{layer}/{name}``."""
    return f"{settings().lake_root}/{layer_of(name)}/{name}"


def _storage_options() -> dict[str, str] | None:
    if "://" not in settings().lake_root:
        return None
    options = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    return options or None


def exists(name: str) -> bool:
    """Whether the table has at least one commit."""
    location = path(name)
    if "://" not in location:
        log = Path(location) / "_delta_log"
        return log.is_dir() and any(log.glob("*.json"))
    return DeltaTable.is_deltatable(location, storage_options=_storage_options())


def open_table(name: str, version: int | None = None) -> DeltaTable:
    """The deltalake handle; only for metadata and commits, never ``to_pyarrow_*`` (aborts the interpreter at exit)."""
    return DeltaTable(path(name), version=version, storage_options=_storage_options())


def version(name: str) -> int | None:
    """Head version, or None when the table does not exist."""
    return open_table(name).version() if exists(name) else None


def all_tables() -> list[str]:
    """Names of the tables present under a local lake root, sorted."""
    root = Path(settings().lake_root)
    found = []
    for layer in LAYERS:
        if (root / layer).is_dir():
            found += [entry.name for entry in (root / layer).iterdir() if (entry / "_delta_log").is_dir()]
    return sorted(found)


def _metadata(metadata: Mapping[str, Any] | None, part_dates: Iterable[date] | None) -> dict[str, str]:
    result = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in (metadata or {}).items()
    }
    if part_dates is not None:
        result[PART_DATES] = json.dumps(sorted(day.isoformat() for day in part_dates))
    return result


def retry(name: str, commit: Callable[[], int]) -> int:
    """Run a commit, reloading the table and trying again when a concurrent writer won the race.

    Delta's own messages may preview the refused rows, so they never leave this function.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return commit()
        except CommitFailedError as error:
            if found := storage.fault(error):
                raise found from None
            time.sleep(random.uniform(0.05, 0.2) * 2**attempt)
        except OSError as error:
            raise storage.fault(error) or error from None
        except DeltaError as error:
            if found := storage.fault(error):
                raise found from None
            kind = "约束检查" if "validation check" in str(error) else type(error).__name__
            raise TiyuError(
                "TIYU-LAKE-0004",
                "数据表拒绝了这次写入",
                "检查写入的行是否都在声明的日期窗口和列结构之内",
                EXIT_INTERNAL,
                table=name,
                reason=kind,
            ) from None
    raise TiyuError(
        "TIYU-LAKE-0002",
        "多次重试后仍无法提交数据表",
        "确认没有别的任务在写同一张表，然后重跑",
        EXIT_INTERNAL,
        table=name,
    )


def _once(name: str, data: Any, commit: Callable[[], int]) -> int:
    """Commit with retries, except for a stream: a reader is consumed by the first attempt, so losing a race is final
    (the caller, who holds the table's writer pool, runs the step again)."""
    if not isinstance(data, pa.RecordBatchReader):
        return retry(name, commit)

    def single() -> int:
        try:
            return commit()
        except CommitFailedError as error:
            if found := storage.fault(error):
                raise found from None
            raise TiyuError(
                "TIYU-LAKE-0002",
                "另一个任务同时写了这张表",
                "确认没有别的任务在写同一张表，然后重跑",
                EXIT_INTERNAL,
                table=name,
            ) from None

    return retry(name, single)


def _part_dates_of(data: Data) -> list[date] | None:
    if isinstance(data, pa.RecordBatchReader) or "part_date" not in (
        data.columns if isinstance(data, pl.DataFrame) else data.schema.names
    ):
        return None
    column = data["part_date"] if isinstance(data, pl.DataFrame) else pl.Series(data["part_date"])
    return column.drop_nulls().unique().to_list()


def append(
    name: str,
    data: pa.Table | pl.DataFrame,
    *,
    batch_id: str,
    metadata: Mapping[str, Any] | None = None,
    partition_by: tuple[str, ...] = ("part_date",),
) -> int:
    """Append the rows of one batch, exactly once, and return the version that holds them.

    The same ``batch_id`` a second time writes nothing (the batch is an app transaction checked against the very
    snapshot the commit is made on, so two racing processes cannot both succeed). An empty batch is still recorded,
    so that recovery sees it was done.
    """
    arrow = data.to_arrow() if isinstance(data, pl.DataFrame) else data
    return _once_per_batch(
        name, _writing(lambda: arrow), arrow.schema, _part_dates_of(arrow), batch_id, metadata, partition_by
    )


def append_stream(
    name: str,
    batches: Callable[[], Iterator[pa.RecordBatch]],
    schema: pa.Schema,
    *,
    part_dates: Iterable[date],
    batch_id: str,
    metadata: Mapping[str, Any] | None = None,
    partition_by: tuple[str, ...] = ("part_date",),
) -> int:
    """The same for rows that need not all be held at once: ``batches`` starts a new stream of them, once per attempt.

    ``part_dates`` are the dates of the rows, which a stream cannot tell before it is written.
    """

    def stream() -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(schema, batches())

    return _once_per_batch(name, _writing(stream), schema, list(part_dates), batch_id, metadata, partition_by)


def _writing(rows: Callable[[], pa.Table | pa.RecordBatchReader]) -> Callable[[DeltaTable, CommitProperties], None]:
    """A commit that appends rows, which are asked for once per attempt."""

    def write(table: DeltaTable, properties: CommitProperties) -> None:
        write_deltalake(table, rows(), mode="append", writer_properties=WRITER, commit_properties=properties)

    return write


def _once_per_batch(
    name: str,
    write: Callable[[DeltaTable, CommitProperties], None],
    schema: pa.Schema,
    part_dates: list[date] | None,
    batch_id: str,
    metadata: Mapping[str, Any] | None,
    partition_by: tuple[str, ...],
) -> int:
    """Let ``write`` commit what a batch adds, unless the table has the batch already; returns the version that holds it."""
    app_id = f"tiyu:{batch_id}"
    properties = CommitProperties(
        custom_metadata=_metadata({**(metadata or {}), BATCH_ID: batch_id}, part_dates),
        app_transactions=[Transaction(app_id, 1)],
    )

    def commit() -> int:
        if not exists(name):
            _create(name, schema, partition_by)
        table = open_table(name)
        if table.transaction_version(app_id) is not None:
            return table.version()
        write(table, properties)
        return table.version()

    return retry(name, commit)


def append_files(
    name: str,
    files: Sequence[DataFile],
    schema: pa.Schema,
    *,
    part_dates: Iterable[date],
    batch_id: str,
    metadata: Mapping[str, Any] | None = None,
    partition_by: tuple[str, ...] = ("part_date",),
) -> int:
    """The same as :func:`append` for rows that are files already (`lake.data_files`): they move into the table.

    A crash before the commit leaves files that no version of the table names, as one in the middle of any other write does.
    """
    moved: list[AddAction | RemoveAction] = []

    def write(table: DeltaTable, properties: CommitProperties) -> None:
        stored, given = delta_types(pa.schema(table.schema())), delta_types(schema)
        if stored != given:
            raise TiyuError(
                "TIYU-LAKE-0004",
                "数据表拒绝了这次写入",
                "检查写入的行是否都在声明的日期窗口和列结构之内",
                EXIT_INTERNAL,
                table=name,
                reason="schema",
            )
        if not moved:
            moved.extend(_place(name, file) for file in files)
        table.create_write_transaction(
            moved, "append", table.schema(), list(partition_by), commit_properties=properties
        )
        table.update_incremental()  # the handle stays where it was

    return _once_per_batch(name, write, schema, list(part_dates), batch_id, metadata, partition_by)


def _place(name: str, file: DataFile) -> AddAction:
    """Move a data file to its place below a table."""
    folder = "/".join(
        f"{column}={value if value is not None else '__HIVE_DEFAULT_PARTITION__'}"
        for column, value in file.partition.items()
    )
    relative = f"{folder}/part-{uuid.uuid4()}.parquet" if folder else f"part-{uuid.uuid4()}.parquet"
    size = file.path.stat().st_size
    location = path(name)
    if "://" in location:
        import obstore
        from obstore.store import from_url

        plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
        # credentials and endpoint come from AWS_* variables, as for delta-rs
        store = from_url(location, client_options={"allow_http": True} if plain else None)
        obstore.put(store, relative, file.path)
    else:
        target = Path(location) / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(file.path, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copyfile(file.path, target)  # the lake is on another disk
    return AddAction(relative, size, dict(file.partition), int(time.time() * 1000), True, file.stats)


def has_batch(name: str, batch_id: str) -> bool:
    """Whether the batch's commit is in the table's history."""
    return exists(name) and open_table(name).transaction_version(f"tiyu:{batch_id}") is not None


def _worded(name: str, schema: pa.Schema) -> pa.Schema:
    """The schema with what the catalogue says of each column."""
    meaning = words.of(name)
    return pa.schema([f.with_metadata(dict(meaning[f.name])) if f.name in meaning else f for f in schema])


def _create(name: str, schema: pa.Schema, partition_by: tuple[str, ...]) -> None:
    """Create an empty table (version 0), tolerating a concurrent creator."""
    try:
        DeltaTable.create(
            path(name),
            schema=_worded(name, schema),
            mode="ignore",
            partition_by=[column for column in partition_by if column in schema.names] or None,
            commit_properties=CommitProperties(custom_metadata={PART_DATES: "[]"}),
            storage_options=_storage_options(),
        )
    except CommitFailedError:
        if not exists(name):
            raise


def replace_table(
    name: str,
    data: Data,
    *,
    metadata: Mapping[str, Any] | None = None,
    partition_by: tuple[str, ...] = (),
    batch_id: str | None = None,
) -> int:
    """Replace the whole content (and schema) of a table in one commit; returns the new version.

    With ``batch_id`` (an app transaction, see `append`) it happens once, however often it is asked for.
    """
    app_id = f"tiyu:{batch_id}"
    properties = CommitProperties(
        custom_metadata=_metadata(metadata, None),
        app_transactions=[Transaction(app_id, 1)] if batch_id else None,
    )
    arrow = data.to_arrow() if isinstance(data, pl.DataFrame) else data
    schema = _worded(name, arrow.schema)
    arrow = (
        pa.RecordBatchReader.from_batches(schema, arrow)
        if isinstance(arrow, pa.RecordBatchReader)
        else arrow.cast(schema)
    )

    def commit() -> int:
        if batch_id and exists(name) and open_table(name).transaction_version(app_id) is not None:
            return open_table(name).version()
        write_deltalake(
            path(name),
            arrow,
            mode="overwrite",
            schema_mode="overwrite" if exists(name) else None,
            partition_by=list(partition_by) or None,
            writer_properties=WRITER,
            commit_properties=properties,
            storage_options=_storage_options(),
        )
        return open_table(name).version()

    return _once(name, arrow, commit)


def replace_window(
    name: str,
    data: Data,
    column: str,
    start: date,
    end: date,
    *,
    metadata: Mapping[str, Any] | None = None,
    partition_by: tuple[str, ...] = ("part_date",),
) -> int:
    """Replace exactly the rows with ``start <= column <= end`` (a date column) by ``data``; returns the new version.

    Rows outside the window are refused by Delta. An empty ``data`` clears the window. The touched dates of the
    commit are every date of the window, because a date may have lost all its rows.
    """
    if end < start:
        raise TiyuError(
            "TIYU-LAKE-0003", "替换窗口的终点早于起点", "检查起止日期", EXIT_INTERNAL, table=name, start=start, end=end
        )
    days = (date.fromordinal(n) for n in range(start.toordinal(), end.toordinal() + 1))
    properties = CommitProperties(custom_metadata=_metadata(metadata, days))
    arrow = data.to_arrow() if isinstance(data, pl.DataFrame) else data

    if not exists(name):
        _create(name, arrow.schema, partition_by)

    def commit() -> int:
        write_deltalake(
            path(name),
            arrow,
            mode="overwrite",
            predicate=f"{column} >= '{start.isoformat()}' AND {column} <= '{end.isoformat()}'",
            writer_properties=WRITER,
            commit_properties=properties,
            storage_options=_storage_options(),
        )
        return open_table(name).version()

    return _once(name, arrow, commit)


def merge(
    name: str,
    data: Data,
    keys: Iterable[str],
    *,
    window: tuple[str, date, date],
    metadata: Mapping[str, Any] | None = None,
) -> int:
    """Upsert by key inside a literal partition window ``(column, start, end)``; returns the new version.

    The literal window is mandatory: a merge on keys alone reads the whole table.
    """
    column, start, end = window
    days = (date.fromordinal(n) for n in range(start.toordinal(), end.toordinal() + 1))
    properties = CommitProperties(custom_metadata=_metadata(metadata, days))
    arrow = data.to_arrow() if isinstance(data, pl.DataFrame) else data
    if not exists(name):
        _create(name, arrow.schema, (column,))
    predicate = " AND ".join(
        [
            f"t.{column} >= '{start.isoformat()}'",
            f"t.{column} <= '{end.isoformat()}'",
            *(f"s.{key} = t.{key}" for key in keys),
        ]
    )

    def commit() -> int:
        table = open_table(name)
        (
            table.merge(
                arrow,
                predicate,
                source_alias="s",
                target_alias="t",
                writer_properties=WRITER,
                commit_properties=properties,
            )
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute()
        )
        return table.version()

    return retry(name, commit)


def delete(name: str, predicate: str, *, part_dates: Iterable[date], metadata: Mapping[str, Any] | None = None) -> int:
    """Delete the rows matching a Delta SQL predicate; ``part_dates`` states which dates that touches."""
    properties = CommitProperties(custom_metadata=_metadata(metadata, part_dates))

    def commit() -> int:
        table = open_table(name)
        table.delete(predicate, writer_properties=WRITER, commit_properties=properties)
        return table.version()

    return retry(name, commit)


def change_rows(
    name: str,
    rows: pl.DataFrame,
    on: Iterable[str],
    *,
    updates: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> int:
    """Delete the rows named by ``rows``, or change them: ``updates`` maps a stored column to an SQL expression over ``s``
    (a row of ``rows``) and ``t`` (the stored row). Returns the new version.

    ``rows`` holds the columns ``on`` and ``part_date``, which bounds what is read and is the commit's touched dates. Rows
    that are not there (any more) are left alone, so it may be repeated.
    """
    days: list[date] = rows["part_date"].unique().sort().to_list()
    properties = CommitProperties(custom_metadata=_metadata(metadata, days))
    window = [f"t.part_date >= '{days[0].isoformat()}'", f"t.part_date <= '{days[-1].isoformat()}'"]
    same = [f"t.{column} = s.{column}" for column in ("part_date", *on)]

    def commit() -> int:
        table = open_table(name)
        merger = table.merge(
            rows.to_arrow(),
            " AND ".join([*window, *same]),
            source_alias="s",
            target_alias="t",
            writer_properties=WRITER,
            commit_properties=properties,
        )
        (merger.when_matched_update(dict(updates)) if updates else merger.when_matched_delete()).execute()
        return table.version()

    return retry(name, commit)


def history(name: str, after: int | None = None, upto: int | None = None) -> list[dict[str, Any]]:
    """Commits with ``after < version <= upto``, newest first, each with ``version`` and its custom metadata."""
    if not exists(name):
        return []
    # of the head: a table opened at an older version still lists all commits, but counts their versions from that one
    return [
        entry
        for entry in open_table(name).history()
        if (after is None or entry["version"] > after) and (upto is None or entry["version"] <= upto)
    ]


def commit_metadata(name: str, at: int) -> dict[str, Any]:
    """The custom metadata of one commit (empty when it carries none)."""
    for entry in history(name, at - 1, at):
        return entry
    return {}


def touched_dates(name: str, after: int | None, upto: int) -> set[date] | None:
    """Dates touched by the commits in ``(after, upto]``; None means "everything" (a full replace or unknown commit).

    Maintenance commits (OPTIMIZE, VACUUM) change no rows and touch nothing.
    """
    if after is None:
        return None
    touched: set[date] = set()
    commits = history(name, after, upto)
    if {entry["version"] for entry in commits} != set(range(after + 1, upto + 1)):
        return None  # log cleaned up: cannot know
    for entry in commits:
        if entry.get("operation") in (
            "OPTIMIZE",
            "VACUUM START",
            "VACUUM END",
            "FSCK",
            "SET TBLPROPERTIES",
            "UPDATE FIELD METADATA",
        ):
            continue
        dates = entry.get(PART_DATES)
        if dates is None:
            return None
        touched.update(date.fromisoformat(text) for text in json.loads(dates))
    return touched


def delta_types(schema: pa.Schema) -> dict[str, str]:
    """Column → type as a stored table names it (`open_table(...).schema()`), for comparing layouts."""
    return {field.name: str(field.type) for field in Schema.from_arrow(schema).fields}


def set_column_metadata(name: str, columns: Mapping[str, Mapping[str, str]]) -> None:
    """Mirror meaning, grade and mark of columns into the Delta schema (no commit when nothing differs)."""
    table = open_table(name)
    current = {field.name: dict(field.metadata) for field in table.schema().fields}
    for column, metadata in columns.items():
        if column in current and any(current[column].get(key) != value for key, value in metadata.items()):
            table.alter.set_column_metadata(column, dict(metadata))
