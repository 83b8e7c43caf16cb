"""The control ledger: small transactional state beside the lake (SQLite by default, Postgres in production).

It holds batches and what became of them, objects, watermarks, checked versions, quality results, alerts, deliveries
and published dataset versions. Data never lives here. It can be repaired from Delta commit metadata, where every
ingest commit carries its ``batch_id`` (see ``ingestion.pipeline``).

All functions open a short transaction of their own. Times are timezone-aware UTC.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from lake import migrations, storage
from lake.clock import as_of, utc_now
from lake.errors import EXIT_UNAVAILABLE, TiyuError
from lake.settings import settings


class UtcDateTime(sa.TypeDecorator[datetime]):
    """A timestamp that is always stored and returned in UTC (SQLite keeps no offset of its own)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData()

ingest_run = sa.Table(
    "ingest_run",
    metadata,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("resource", sa.String, nullable=False, index=True),
    sa.Column("status", sa.String, nullable=False),  # running | success | nothing_new | failed
    sa.Column("received_objects", sa.Integer, nullable=False, default=0),
    sa.Column("duplicate_objects", sa.Integer, nullable=False, default=0),
    sa.Column("batch_id", sa.String),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("as_of_at", UtcDateTime),  # business instant of the run
    sa.Column("error_code", sa.String),
    sa.Column("error_message", sa.String),
)
batch = sa.Table(
    "batch",
    metadata,
    sa.Column("batch_id", sa.String, primary_key=True),
    sa.Column("resource", sa.String, nullable=False, index=True),
    sa.Column("contract_version", sa.String, nullable=False),
    sa.Column("run_id", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),  # archived | accepted | partial | refused | withdrawn | held
    sa.Column("object_count", sa.Integer, nullable=False, default=0),
    sa.Column("decoded_count", sa.BigInteger, nullable=False, default=0),
    sa.Column("accepted_count", sa.BigInteger, nullable=False, default=0),
    sa.Column("quarantined_count", sa.BigInteger, nullable=False, default=0),
    sa.Column("duplicate_count", sa.BigInteger, nullable=False, default=0),
    sa.Column("first_part_date", sa.Date),
    sa.Column("last_part_date", sa.Date),
    sa.Column("failures", sa.Integer, nullable=False, default=0),  # unforeseen errors while processing
    sa.Column("watermark", sa.Text),  # connector state that becomes current when the batch is done
    sa.Column("as_of_at", UtcDateTime),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("supersedes", sa.String),  # the batch of an earlier contract version whose objects this one re-reads
)
batch_object = sa.Table(
    "batch_object",
    metadata,
    sa.Column("batch_id", sa.String, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("sha256", sa.String, nullable=False, index=True),
    sa.Column("resource", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("media_type", sa.String, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("status", sa.String, nullable=False),  # archived | accepted | partial | refused
    sa.Column("reason", sa.String),
    sa.Column("decoded_count", sa.BigInteger, nullable=False, default=0),
    sa.Column("accepted_count", sa.BigInteger, nullable=False, default=0),
    sa.Column("quarantined_count", sa.BigInteger, nullable=False, default=0),
    sa.Column("duplicate_count", sa.BigInteger, nullable=False, default=0),
    sa.UniqueConstraint("resource", "sha256", name="object_once_per_resource"),
)
seen_signature = sa.Table(
    "seen_signature",
    metadata,
    sa.Column("resource", sa.String, primary_key=True),
    sa.Column("signature", sa.String, primary_key=True),
    sa.Column("sha256", sa.String, nullable=False),
)
watermark = sa.Table(
    "watermark",
    metadata,
    sa.Column("resource", sa.String, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)
checked = sa.Table(
    "checked_version",
    metadata,
    sa.Column("table_name", sa.String, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("checked_at", UtcDateTime, nullable=False),
    sa.Column("run_id", sa.String, nullable=False),
)
checked_history = sa.Table(
    "checked_version_history",
    metadata,
    sa.Column("table_name", sa.String, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("checked_at", UtcDateTime, nullable=False),
    sa.Column("run_id", sa.String, nullable=False),
)
checked_as_of = (
    sa.Table(  # the business instant at which a checked version appeared, for "what changed since yesterday"
        "checked_version_as_of",
        metadata,
        sa.Column("table_name", sa.String, primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True),
        sa.Column("as_of_at", UtcDateTime, nullable=False),
    )
)
quarantine_replay = sa.Table(  # decisions about quarantined records; the quarantine rows themselves stay as they are
    "quarantine_replay",
    metadata,
    sa.Column("replay_id", sa.String, primary_key=True),
    sa.Column("batch_id", sa.String, primary_key=True),
    sa.Column("source_object", sa.String, primary_key=True),
    sa.Column("record_from", sa.BigInteger, primary_key=True),  # a run of records, both ends included
    sa.Column("record_to", sa.BigInteger, nullable=False),
    # accepted | duplicate | reread (the object reads differently now) | rejudged (refused still, or again, for rule_id)
    # | discarded (a person gave it up); of several decisions about a record the last one counts
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("replayed_at", UtcDateTime, nullable=False),  # strictly later than every decision before it
    sa.Column("revoked_at", UtcDateTime),  # taken back: the batch was withdrawn, or the person thought better of it
    sa.Column("rule_id", sa.String),
    sa.Column("reason", sa.String),  # of the rule, or of the person
    sa.Column("decided_by", sa.String),  # account; null: a replay
)
tombstone = sa.Table(  # what was erased by law: the object was sealed again without it, its old key destroyed
    "tombstone",
    metadata,
    sa.Column("tombstone_id", sa.String, primary_key=True),
    sa.Column("resource", sa.String, nullable=False),
    sa.Column("sha256", sa.String, nullable=False, index=True),  # the object as it was received
    sa.Column("record_from", sa.BigInteger),  # a run of records, both ends included; null: all of the object
    sa.Column("record_to", sa.BigInteger),
    sa.Column("successor_sha256", sa.String),  # the object sealed without them; null: nothing was left
    sa.Column("reason", sa.String, nullable=False),  # the legal ground, never who
    sa.Column("erased_at", UtcDateTime, nullable=False),
)
archive_access = sa.Table(  # who had raw objects given back, why, and how many files were written
    "archive_access",
    metadata,
    sa.Column("access_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("batch_id", sa.String, nullable=False),
    sa.Column("resource", sa.String, nullable=False),
    sa.Column("sha256", sa.String),  # one object; null: all of the batch
    sa.Column("object_count", sa.Integer, nullable=False),
    sa.Column("account", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("requested_at", UtcDateTime, nullable=False),
    sa.Column("returned_count", sa.Integer),  # null: never came to its end
    sa.Column("finished_at", UtcDateTime),
)
quality_result = sa.Table(
    "quality_result",
    metadata,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("table_name", sa.String, primary_key=True),
    sa.Column("rule_id", sa.String, primary_key=True),
    sa.Column("layer", sa.String, nullable=False),
    sa.Column("outcome", sa.String, nullable=False),  # pass | fail | error
    sa.Column("examined_count", sa.BigInteger, nullable=False),
    sa.Column("failed_count", sa.BigInteger, nullable=False),
    sa.Column("part_date_from", sa.Date),
    sa.Column("part_date_to", sa.Date),
    sa.Column("message", sa.String),
    sa.Column("checked_at", UtcDateTime, nullable=False),
)
ingest_finding = (
    sa.Table(  # what was noted about a batch while it was judged: counts, dates and names of codes, never values
        "ingest_finding",
        metadata,
        sa.Column("batch_id", sa.String, primary_key=True),
        sa.Column("rule_id", sa.String, primary_key=True),
        sa.Column("resource", sa.String, nullable=False, index=True),
        sa.Column("table_name", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),  # batch | row | correction | drift
        sa.Column("outcome", sa.String, nullable=False),  # pass | warn | stop | released | applied
        sa.Column("examined_count", sa.BigInteger, nullable=False),
        sa.Column("found_count", sa.BigInteger, nullable=False),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("found_at", UtcDateTime, nullable=False),
    )
)
breaker_certificate = sa.Table(
    "breaker_certificate",
    metadata,
    sa.Column("table_name", sa.String, primary_key=True),
    sa.Column("column_name", sa.String, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),  # of the table that shows the column
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),  # valid | invalid | empty
    sa.Column("group_count", sa.BigInteger, nullable=False),
    sa.Column("smallest_group", sa.BigInteger),
    sa.Column("l_diversity", sa.BigInteger),
    sa.Column("top1_share", sa.Float),
    sa.Column("top2_share", sa.Float),
    sa.Column("p_percent", sa.Float),
    sa.Column("problems", sa.Text, nullable=False),  # JSON list of Chinese sentences; numbers of groups, never values
    sa.Column("approver", sa.String, nullable=False),
    sa.Column("expires", sa.Date, nullable=False),
    sa.Column("fingerprint", sa.String, nullable=False),  # of SQL, declaration and limits
    sa.Column("inputs", sa.Text, nullable=False),  # JSON: table → version read
    sa.Column("computed_at", UtcDateTime, nullable=False),
    sa.Column("run_id", sa.String, nullable=False),
)
alert = sa.Table(
    "alert",
    metadata,
    sa.Column("alert_id", sa.String, primary_key=True),
    sa.Column("rule_code", sa.String, nullable=False),
    sa.Column("subject_type", sa.String, nullable=False),
    sa.Column("subject_id", sa.String, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("message", sa.String, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False, default="{}"),
    sa.Column("status", sa.String, nullable=False),  # open | closed
    sa.Column("opened_at", UtcDateTime, nullable=False),
    sa.Column("closed_at", UtcDateTime),
)
delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("delivery_id", sa.String, primary_key=True),
    sa.Column("resource", sa.String, nullable=False),
    sa.Column("mode", sa.String, nullable=False),  # F | I
    sa.Column("business_date", sa.Date, nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("status", sa.String, nullable=False),  # preparing | sent
    sa.Column("stem", sa.String),
    sa.Column("path", sa.String),
    sa.Column("row_count", sa.BigInteger),
    sa.Column("insert_count", sa.BigInteger),
    sa.Column("update_count", sa.BigInteger),
    sa.Column("delete_count", sa.BigInteger),
    sa.Column("source_table", sa.String),
    sa.Column("source_version", sa.BigInteger),
    sa.Column("due_at", UtcDateTime, nullable=False),
    sa.Column("sent_at", UtcDateTime),
    sa.Column("detail", sa.Text, nullable=False, default="{}"),
    sa.UniqueConstraint("resource", "business_date", "sequence", name="delivery_once"),
)
receipt = sa.Table(
    "receipt",
    metadata,
    sa.Column("receipt_id", sa.String, primary_key=True),  # SM3 of the file: the same file twice is one receipt
    sa.Column("delivery_id", sa.String, nullable=False, index=True),
    sa.Column("resource", sa.String, nullable=False, index=True),
    sa.Column("business_date", sa.Date, nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("status", sa.String, nullable=False),  # ACCEPTED | PARTIAL | REJECTED
    sa.Column("rows_in", sa.BigInteger, nullable=False),
    sa.Column("rows_ok", sa.BigInteger, nullable=False),
    sa.Column("rows_bad", sa.BigInteger, nullable=False),
    sa.Column("says_held", sa.Boolean, nullable=False, default=False),
    sa.Column("held_batch_id", sa.String),  # what the receiver holds; null with says_held: nothing
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("recorded_at", UtcDateTime, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
dataset_version = sa.Table(
    "dataset_version",
    metadata,
    sa.Column("dataset", sa.String, primary_key=True),
    sa.Column("version", sa.String, primary_key=True),
    sa.Column("source_table", sa.String, nullable=False),
    sa.Column("source_version", sa.BigInteger, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("published_at", UtcDateTime, nullable=False),
    sa.Column("detail", sa.Text, nullable=False, default="{}"),
)
grade_decision = sa.Table(  # append-only: the newest row of a subject is its grade
    "grade_decision",
    metadata,
    sa.Column("decision_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("scope", sa.String, nullable=False),  # field | table | resource
    sa.Column("subject", sa.String, nullable=False, index=True),  # table.column, table, or resource
    sa.Column("level", sa.String, nullable=False),
    sa.Column("mark", sa.String, nullable=False),
    sa.Column("previous_level", sa.String),
    sa.Column("rules", sa.String, nullable=False),  # rule ids, comma separated; `declared` when no rule speaks of it
    sa.Column("evidence", sa.Text, nullable=False),  # names and counts, never a value
    sa.Column("affected_object", sa.String),
    sa.Column("degree", sa.String),
    sa.Column("author", sa.String, nullable=False),
    sa.Column("person_count", sa.BigInteger),
    sa.Column("table_version", sa.BigInteger),
    sa.Column("decided_at", UtcDateTime, nullable=False),
)


@functools.cache
def _engine_for(url: str) -> Engine:
    if url.startswith("sqlite:///"):
        with storage.coded():
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": 60} if url.startswith("sqlite") else {})
    if url.startswith("sqlite"):

        @sa.event.listens_for(engine, "connect")
        def _pragmas(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA busy_timeout=60000")

    sa.event.listen(engine, "handle_error", _name_the_fault)
    try:
        _refuse_a_lost_ledger(engine)
        migrations.migrate(engine, metadata)
    except TiyuError:
        engine.dispose()  # a connection kept open would hold a lock on a file that somebody is about to replace
        raise
    except sa.exc.DatabaseError as error:
        raced = isinstance(error, sa.exc.OperationalError) and "already exists" in str(error)
        if not raced:  # two processes may create the schema at the same instant
            raise TiyuError(
                "TIYU-LED-0001",
                "打不开控制台账",
                "检查 TIYU_LEDGER_URL 指向的数据库是否可写、未损坏",
                EXIT_UNAVAILABLE,
                reason=type(error).__name__,
            ) from error
    return engine


def _refuse_a_lost_ledger(engine: Engine) -> None:
    """An empty ledger beside an archive that holds objects is a lost one (every run is entered before its first object
    is stored): starting over silently would load everything again and show nothing.

    Raises TIYU-LED-0005.
    """
    archive = settings().archive_root
    if not sa.inspect(engine).get_table_names() and next(archive.glob("*/??/*.tiyu"), None) is not None:
        raise TiyuError(
            "TIYU-LED-0005",
            "控制台账丢失：归档里有对象，台账却是空的",
            "停止调度和服务，从备份恢复：tiyu restore 备份目录 --force；没有可用备份则 tiyu ledger rebuild，从归档与数据表重建",
            EXIT_UNAVAILABLE,
        )


_UNSAID = ("unable to open database file", "disk i/o error")  # what SQLite says of its side files, whatever the cause
_DAMAGED = ("malformed", "file is not a database", "disk image", "file is encrypted")


def _name_the_fault(context: Any) -> None:
    """Turn what the database says about its file into a coded error, whichever statement met it."""
    text = str(context.original_exception).lower()
    if any(word in text for word in _DAMAGED):
        raise TiyuError(
            "TIYU-LED-0003",
            "控制台账已损坏",
            "停止调度和服务，从备份恢复：tiyu restore 备份目录 --force；没有可用备份则 tiyu ledger rebuild，从归档与数据表重建",
            EXIT_UNAVAILABLE,
            reason=type(context.original_exception).__name__,
        ) from None
    if "database is locked" in text:
        raise TiyuError(
            "TIYU-LED-0004",
            "控制台账被别的进程长时间占用",
            "等占用它的任务结束，或结束卡住的进程后重跑",
            EXIT_UNAVAILABLE,
        ) from None
    if any(word in text for word in _UNSAID) and (found := _unwritable()):
        raise found from None
    if found := storage.from_text(text):
        raise found from None


def _unwritable() -> TiyuError | None:
    """Why SQLite cannot use its files, found by writing as much as it would beside them."""
    folder = Path(settings().ledger_url.removeprefix("sqlite:///")).parent
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x" * 65536)
            probe.flush()
    except OSError as error:
        return storage.fault(error)
    return None


def engine() -> Engine:
    """The engine of the configured ledger, schema created on first use."""
    return _engine_for(settings().ledger_url)


def disconnect() -> None:
    """Close every connection of this process, before the ledger's file is replaced."""
    if _engine_for.cache_info().currsize:
        with suppress(TiyuError):
            engine().dispose()
    _engine_for.cache_clear()


@contextmanager
def transaction() -> Iterator[Connection]:
    """One write transaction; SQLite takes the write lock at once so that read-then-write cannot deadlock."""
    with engine().connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
        else:
            with connection.begin():
                yield connection


def read(statement: sa.Select[Any]) -> list[dict[str, Any]]:
    """Run a select and return plain dictionaries."""
    with engine().connect() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def upsert(table: sa.Table, values: Mapping[str, Any]) -> None:
    """Insert or update one row by primary key."""
    keys = [column.name for column in table.primary_key.columns]
    with transaction() as connection:
        where = sa.and_(*(table.c[key] == values[key] for key in keys))
        changed = connection.execute(sa.update(table).where(where).values(**values)).rowcount
        if not changed:
            connection.execute(sa.insert(table).values(**values))


def insert_many(table: sa.Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows in one transaction."""
    rows = list(rows)
    if rows:
        with transaction() as connection:
            connection.execute(sa.insert(table), rows)


# --- runs, batches, objects -------------------------------------------------------------------------------------


def start_run(run_id: str, resource: str, as_of_at: datetime) -> None:
    """Record that an ingest run of a resource began."""
    upsert(
        ingest_run,
        {"run_id": run_id, "resource": resource, "status": "running", "started_at": utc_now(), "as_of_at": as_of_at},
    )


INTERRUPTED = TiyuError(
    "TIYU-ING-0030",
    "汇聚被强行中断（断电、内存不足或被终止）",
    "无需处理：下一次汇聚从中断处续作，不会重复入库",
    EXIT_UNAVAILABLE,
)
"""What the ledger says of a run that never came to its end."""


def end_interrupted_runs(resource: str) -> int:
    """Close runs of a resource that were killed; the caller holds the resource's lock, so none can be at work."""
    with transaction() as connection:
        result = connection.execute(
            sa.update(ingest_run)
            .where(ingest_run.c.resource == resource, ingest_run.c.status == "running")
            .values(
                status="failed",
                finished_at=utc_now(),
                error_code=INTERRUPTED.code,
                error_message=INTERRUPTED.message_zh,
            )
        )
        return int(result.rowcount)


def finish_run(run_id: str, status: str, **values: Any) -> None:
    """Record how an ingest run ended: success | nothing_new | failed."""
    with transaction() as connection:
        connection.execute(
            sa.update(ingest_run)
            .where(ingest_run.c.run_id == run_id)
            .values(status=status, finished_at=utc_now(), **values)
        )


def open_batch(values: Mapping[str, Any], objects: Sequence[Mapping[str, Any]], signatures: Mapping[str, str]) -> None:
    """Record a fully archived batch, its objects and their cheap signatures, in one transaction.

    A batch that is already there (same content, same contract version) is left as it is.
    """
    with transaction() as connection:
        if connection.execute(sa.select(batch.c.batch_id).where(batch.c.batch_id == values["batch_id"])).first():
            return
        connection.execute(sa.insert(batch).values(**values))
        connection.execute(sa.insert(batch_object), objects)
        _remember(connection, values["resource"], signatures)


def _remember(connection: Connection, resource: str, signatures: Mapping[str, str]) -> None:
    """Remember ``signature -> sha256``; a file whose content moved on gets a new signature, so rows only ever add up."""
    if not signatures:
        return
    known: set[str] = set(
        connection.execute(sa.select(seen_signature.c.signature).where(seen_signature.c.resource == resource)).scalars()
    )
    fresh = [
        {"resource": resource, "signature": signature, "sha256": sha256}
        for signature, sha256 in signatures.items()
        if signature not in known
    ]
    if fresh:
        connection.execute(sa.insert(seen_signature), fresh)


def remember_signatures(resource: str, signatures: Mapping[str, str]) -> None:
    """Remember signatures of objects that turned out to be duplicates."""
    with transaction() as connection:
        _remember(connection, resource, signatures)


def known_signatures(resource: str) -> set[str]:
    """Signatures of source objects that need not be read again."""
    rows = read(sa.select(seen_signature.c.signature).where(seen_signature.c.resource == resource))
    return {row["signature"] for row in rows}


def known_objects(resource: str) -> set[str]:
    """sha256 of every object of the resource that is in some batch."""
    return {row["sha256"] for row in read(sa.select(batch_object.c.sha256).where(batch_object.c.resource == resource))}


def batches(resource: str | None = None, status: str | None = None) -> list[dict[str, Any]]:
    """Batches in the order they were opened."""
    statement = sa.select(batch).order_by(batch.c.started_at, batch.c.batch_id)
    if resource:
        statement = statement.where(batch.c.resource == resource)
    if status:
        statement = statement.where(batch.c.status == status)
    return read(statement)


def objects(batch_id: str) -> list[dict[str, Any]]:
    """Objects of a batch in order."""
    return read(sa.select(batch_object).where(batch_object.c.batch_id == batch_id).order_by(batch_object.c.seq))


def objects_of(resource: str) -> list[dict[str, Any]]:
    """Objects of all batches of a resource."""
    return read(sa.select(batch_object).where(batch_object.c.resource == resource))


def finish_batch(batch_id: str, values: Mapping[str, Any], objects_outcome: Sequence[Mapping[str, Any]]) -> None:
    """Close a batch: counts, object outcomes and the connector's watermark move in one transaction."""
    with transaction() as connection:
        row = connection.execute(sa.select(batch).where(batch.c.batch_id == batch_id)).mappings().one()
        connection.execute(sa.update(batch).where(batch.c.batch_id == batch_id).values(finished_at=utc_now(), **values))
        if objects_outcome:
            connection.execute(
                sa.update(batch_object)
                .where(batch_object.c.batch_id == batch_id, batch_object.c.seq == sa.bindparam("b_seq"))
                .values(
                    status=sa.bindparam("b_status"),
                    reason=sa.bindparam("b_reason"),
                    decoded_count=sa.bindparam("b_decoded"),
                    accepted_count=sa.bindparam("b_accepted"),
                    quarantined_count=sa.bindparam("b_quarantined"),
                    duplicate_count=sa.bindparam("b_duplicate"),
                ),
                [{f"b_{key}": value for key, value in outcome.items()} for outcome in objects_outcome],
            )
        if row["watermark"]:
            _set_watermark(connection, row["resource"], row["watermark"])


def supersede_batches(batches_to: Mapping[str, str], contract_version: str, reread_id: str) -> None:
    """Open batches again under another contract version, in one transaction (``batches_to``: old id → new id).

    Objects, order and business instant stay; counts start anew and no watermark moves. What the old batches had in
    quarantine is decided: its records are read again.
    """
    now = next_decision_at()
    anew = {f"{name}_count": 0 for name in ("decoded", "accepted", "quarantined", "duplicate")}
    with transaction() as connection:
        for old, new in batches_to.items():
            mine = batch_object.c.batch_id == old
            wanted = sa.select(batch_object.c.sha256).where(mine, batch_object.c.quarantined_count > 0)
            quarantined: list[str] = list(connection.execute(wanted).scalars())
            decisions = [
                {
                    "replay_id": reread_id,
                    "batch_id": old,
                    "source_object": sha256,
                    "record_from": 0,
                    "record_to": 2**62,
                    "outcome": "reread",
                    "replayed_at": now,
                }
                for sha256 in quarantined
            ]
            given_up = sa.select(quarantine_replay).where(
                quarantine_replay.c.batch_id == old,
                quarantine_replay.c.outcome == "discarded",
                quarantine_replay.c.revoked_at.is_(None),
            )  # what a person gave up stays given up, as far as it is refused again
            kept = [{**row, "batch_id": new} for row in connection.execute(given_up).mappings()]
            for rows in (decisions, kept):
                if rows:
                    connection.execute(sa.insert(quarantine_replay), rows)
            connection.execute(
                sa.update(batch_object).where(mine).values(batch_id=new, status="archived", reason=None, **anew)
            )
            connection.execute(
                sa.update(batch)
                .where(batch.c.batch_id == old)
                .values(
                    batch_id=new,
                    supersedes=old,
                    contract_version=contract_version,
                    status="archived",
                    first_part_date=None,
                    last_part_date=None,
                    failures=0,
                    watermark=None,
                    finished_at=None,
                    **anew,
                )
            )


def count_failure(batch_id: str) -> int:
    """Count an unforeseen error of a batch; returns how many there have been."""
    with transaction() as connection:
        connection.execute(sa.update(batch).where(batch.c.batch_id == batch_id).values(failures=batch.c.failures + 1))
        return int(connection.execute(sa.select(batch.c.failures).where(batch.c.batch_id == batch_id)).scalar_one())


def _set_watermark(connection: Connection, resource: str, state: str) -> None:
    values = {"state": state, "updated_at": utc_now()}
    changed = connection.execute(sa.update(watermark).where(watermark.c.resource == resource).values(**values)).rowcount
    if not changed:
        connection.execute(sa.insert(watermark).values(resource=resource, **values))


def get_watermark(resource: str) -> dict[str, Any]:
    """Where the connector of a resource left off (empty at first)."""
    rows = read(sa.select(watermark.c.state).where(watermark.c.resource == resource))
    return json.loads(rows[0]["state"]) if rows else {}


def runs(resource: str | None = None) -> list[dict[str, Any]]:
    """Ingest runs in the order they began."""
    statement = sa.select(ingest_run).order_by(ingest_run.c.started_at)
    if resource:
        statement = statement.where(ingest_run.c.resource == resource)
    return read(statement)


# --- checked versions -------------------------------------------------------------------------------------------


def checked_version(table_name: str) -> int | None:
    """The version of a table that every reader sees, or None while nothing has passed its quality gate."""
    rows = read(sa.select(checked.c.version).where(checked.c.table_name == table_name))
    return int(rows[0]["version"]) if rows else None


def checked_versions() -> dict[str, int]:
    """All checked versions."""
    return {row["table_name"]: int(row["version"]) for row in read(sa.select(checked))}


def set_checked_version(table_name: str, version: int, run_id: str) -> None:
    """Move one table's checked version (see :func:`set_checked_versions`)."""
    set_checked_versions({table_name: version}, run_id)


def set_checked_versions(versions: Mapping[str, int], run_id: str) -> None:
    """Move the checked versions of several tables together, keeping the history vacuum must respect."""
    now, business_instant = utc_now(), as_of()
    with transaction() as connection:
        for table_name, version in versions.items():
            values = {"version": version, "checked_at": now, "run_id": run_id}
            current = connection.execute(
                sa.select(checked.c.version).where(checked.c.table_name == table_name)
            ).scalar_one_or_none()
            if current == version:
                continue
            if current is None:
                connection.execute(sa.insert(checked).values(table_name=table_name, **values))
            else:
                connection.execute(sa.update(checked).where(checked.c.table_name == table_name).values(**values))
            if not connection.execute(
                sa.select(checked_history.c.version).where(
                    checked_history.c.table_name == table_name, checked_history.c.version == version
                )
            ).first():
                connection.execute(sa.insert(checked_history).values(table_name=table_name, **values))
                connection.execute(
                    sa.insert(checked_as_of).values(table_name=table_name, version=version, as_of_at=business_instant)
                )


def checked_history_of(table_name: str) -> list[dict[str, Any]]:
    """Checked versions of a table, oldest first: ``version, checked_at, run_id, as_of_at``.

    ``as_of_at`` is the business instant; for versions recorded before the ledger kept it, the time of the check.
    """
    both = sa.and_(
        checked_as_of.c.table_name == checked_history.c.table_name, checked_as_of.c.version == checked_history.c.version
    )
    rows = read(
        sa.select(checked_history, checked_as_of.c.as_of_at)
        .join(checked_as_of, both, isouter=True)
        .where(checked_history.c.table_name == table_name)
        .order_by(checked_history.c.version)
    )
    return [{**row, "as_of_at": row["as_of_at"] or row["checked_at"]} for row in rows]


def forget_checked_versions(table_name: str, versions: Iterable[int]) -> None:
    """No longer keep these checked versions, never the present one: a vacuum may then remove their files."""
    gone = sorted(set(versions) - {checked_version(table_name)})
    with transaction() as connection:
        for one in (checked_history, checked_as_of):
            for first in range(0, len(gone), 500):
                connection.execute(
                    sa.delete(one).where(one.c.table_name == table_name, one.c.version.in_(gone[first : first + 500]))
                )


# --- replayed quarantine ----------------------------------------------------------------------------------------


def next_decision_at() -> datetime:
    """An instant later than every decision in the ledger, also when the clock of the machine was set back."""
    with engine().connect() as connection:
        last: datetime | None = connection.execute(sa.select(sa.func.max(quarantine_replay.c.replayed_at))).scalar_one()
    now = utc_now()
    return now if last is None or now > last else last + timedelta(microseconds=1)


def replays(batch_ids: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Decisions about quarantined records that were not taken back, oldest first."""
    statement = (
        sa.select(quarantine_replay)
        .where(quarantine_replay.c.revoked_at.is_(None))
        .order_by(quarantine_replay.c.replayed_at, quarantine_replay.c.source_object, quarantine_replay.c.record_from)
    )
    if batch_ids is not None:
        statement = statement.where(quarantine_replay.c.batch_id.in_(batch_ids))
    return read(statement)


def decisions_of(batch_id: str, source_object: str) -> list[dict[str, Any]]:
    """Every decision about records of one object, taken back or not, oldest first."""
    return read(
        sa.select(quarantine_replay)
        .where(quarantine_replay.c.batch_id == batch_id, quarantine_replay.c.source_object == source_object)
        .order_by(quarantine_replay.c.replayed_at, quarantine_replay.c.record_from)
    )


def record_decisions(decisions: Sequence[Mapping[str, Any]]) -> None:
    """Record decisions that move no counts."""
    insert_many(quarantine_replay, decisions)


def revoke_decisions(replay_id: str, outcome: str) -> int:
    """Take back all decisions of one undertaking with an outcome; returns how many runs of records."""
    with transaction() as connection:
        return int(
            connection.execute(
                sa.update(quarantine_replay)
                .where(
                    quarantine_replay.c.replay_id == replay_id,
                    quarantine_replay.c.outcome == outcome,
                    quarantine_replay.c.revoked_at.is_(None),
                )
                .values(revoked_at=utc_now())
            ).rowcount
        )


def move_to_quarantine(counts: Sequence[tuple[str, str, str, int]], decisions: Sequence[Mapping[str, Any]]) -> None:
    """Records that were accepted or duplicates are refused now: counts of objects and batches move, and the decisions are
    recorded, in one transaction. ``counts``: batch, sha256, accepted | duplicate, how many."""
    with transaction() as connection:
        for batch_id, sha256, was, count in counts:
            column = f"{was}_count"
            for table, where in (
                (batch_object, sa.and_(batch_object.c.batch_id == batch_id, batch_object.c.sha256 == sha256)),
                (batch, batch.c.batch_id == batch_id),
            ):
                connection.execute(
                    sa.update(table)
                    .where(where)
                    .values(
                        {
                            column: table.c[column] - count,
                            "quarantined_count": table.c.quarantined_count + count,
                            "status": sa.case((table.c.status == "accepted", "partial"), else_=table.c.status),
                        }
                    )
                )
        connection.execute(sa.insert(quarantine_replay), list(decisions))


def record_replay(
    batch_id: str,
    values: Mapping[str, Any],
    objects_outcome: Sequence[Mapping[str, Any]],
    decisions: Sequence[Mapping[str, Any]],
) -> None:
    """Record a replay of one batch in one transaction: its new counts, its objects' new counts, the decisions."""
    with transaction() as connection:
        connection.execute(sa.update(batch).where(batch.c.batch_id == batch_id).values(**values))
        for outcome in objects_outcome:
            connection.execute(
                sa.update(batch_object)
                .where(batch_object.c.batch_id == batch_id, batch_object.c.seq == outcome["seq"])
                .values({key: value for key, value in outcome.items() if key != "seq"})
            )
        if decisions:
            connection.execute(sa.insert(quarantine_replay), list(decisions))


# --- raw objects given back -------------------------------------------------------------------------------------


def open_archive_access(**values: Any) -> int:
    """Enter that somebody is given raw objects (columns of `archive_access`), before the first byte; returns its number."""
    with transaction() as connection:
        result = connection.execute(sa.insert(archive_access).values(requested_at=utc_now(), **values))
        return int(result.inserted_primary_key[0])  # type: ignore[index]


def close_archive_access(access_id: int, returned: int) -> None:
    """Enter how many objects were given back."""
    with transaction() as connection:
        connection.execute(
            sa.update(archive_access)
            .where(archive_access.c.access_id == access_id)
            .values(returned_count=returned, finished_at=utc_now())
        )


def tombstones(resource: str, sha256: str) -> list[dict[str, Any]]:
    """What was erased of an object."""
    return read(
        sa.select(tombstone)
        .where(tombstone.c.resource == resource, tombstone.c.sha256 == sha256)
        .order_by(tombstone.c.erased_at)
    )


def archive_accesses() -> list[dict[str, Any]]:
    """Who was given raw objects, newest first."""
    return read(sa.select(archive_access).order_by(archive_access.c.access_id.desc()))


# --- quality results and alerts ---------------------------------------------------------------------------------


def record_quality(rows: Iterable[Mapping[str, Any]]) -> None:
    """Store results of one gate run (counts only, never values)."""
    insert_many(quality_result, rows)


def quality_results(run_id: str | None = None, table_name: str | None = None) -> list[dict[str, Any]]:
    """Quality results, oldest first."""
    statement = sa.select(quality_result).order_by(quality_result.c.checked_at, quality_result.c.rule_id)
    if run_id:
        statement = statement.where(quality_result.c.run_id == run_id)
    if table_name:
        statement = statement.where(quality_result.c.table_name == table_name)
    return read(statement)


def record_findings(batch_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Note what was found about a batch, in place of what an earlier attempt at it noted."""
    now = utc_now()
    values = [{"found_at": now, **row, "batch_id": batch_id} for row in rows]
    with transaction() as connection:
        connection.execute(sa.delete(ingest_finding).where(ingest_finding.c.batch_id == batch_id))
        if values:
            connection.execute(sa.insert(ingest_finding), values)


def findings(batch_id: str | None = None, resource: str | None = None) -> list[dict[str, Any]]:
    """What was noted about batches, oldest first."""
    statement = sa.select(ingest_finding).order_by(
        ingest_finding.c.found_at, ingest_finding.c.batch_id, ingest_finding.c.rule_id
    )
    if batch_id:
        statement = statement.where(ingest_finding.c.batch_id == batch_id)
    if resource:
        statement = statement.where(ingest_finding.c.resource == resource)
    return read(statement)


def release_batch(batch_id: str) -> None:
    """A person let a held batch in: the rules that held it are noted as released."""
    with transaction() as connection:
        connection.execute(
            sa.update(ingest_finding)
            .where(ingest_finding.c.batch_id == batch_id, ingest_finding.c.outcome == "stop")
            .values(outcome="released")
        )


def record_certificates(rows: Iterable[Mapping[str, Any]]) -> None:
    """Store certificates of breakers; one of the same column and version is replaced."""
    keys = ("table_name", "column_name", "version")
    with transaction() as connection:
        for row in rows:
            connection.execute(
                sa.delete(breaker_certificate).where(*(breaker_certificate.c[key] == row[key] for key in keys))
            )
            connection.execute(sa.insert(breaker_certificate).values(**row))


def certificates(table_name: str | None = None) -> list[dict[str, Any]]:
    """Certificates, oldest version first; `problems` and `inputs` are JSON text."""
    statement = sa.select(breaker_certificate).order_by(
        breaker_certificate.c.table_name, breaker_certificate.c.column_name, breaker_certificate.c.version
    )
    if table_name:
        statement = statement.where(breaker_certificate.c.table_name == table_name)
    return read(statement)


def open_alert(
    rule_code: str,
    subject_type: str,
    subject_id: str,
    *,
    severity: str,
    message: str,
    evidence: Mapping[str, Any] | None = None,
) -> str:
    """Open an operational alert, or refresh the open one of the same rule and subject; returns its id."""
    alert_id = f"{rule_code}:{subject_type}:{subject_id}"
    values = {
        "severity": severity,
        "message": message,
        "evidence": json.dumps(dict(evidence or {}), ensure_ascii=False, default=str),
    }
    with transaction() as connection:
        row = connection.execute(sa.select(alert.c.status).where(alert.c.alert_id == alert_id)).first()
        if row is None:
            connection.execute(
                sa.insert(alert).values(
                    alert_id=alert_id,
                    rule_code=rule_code,
                    subject_type=subject_type,
                    subject_id=subject_id,
                    status="open",
                    opened_at=utc_now(),
                    **values,
                )
            )
        else:
            reopened = {"status": "open", "opened_at": utc_now(), "closed_at": None} if row.status == "closed" else {}
            connection.execute(sa.update(alert).where(alert.c.alert_id == alert_id).values(**values, **reopened))
    return alert_id


def close_alert(rule_code: str, subject_type: str, subject_id: str) -> bool:
    """Close the open alert of a rule and subject; True when there was one."""
    with transaction() as connection:
        result = connection.execute(
            sa.update(alert)
            .where(alert.c.alert_id == f"{rule_code}:{subject_type}:{subject_id}", alert.c.status == "open")
            .values(status="closed", closed_at=utc_now())
        )
        return bool(result.rowcount)


def alerts(status: str | None = None) -> list[dict[str, Any]]:
    """Operational alerts, newest first."""
    statement = sa.select(alert).order_by(alert.c.opened_at.desc())
    if status:
        statement = statement.where(alert.c.status == status)
    return read(statement)


# --- deliveries and published versions --------------------------------------------------------------------------


def deliveries(resource: str | None = None, business_date: date | None = None) -> list[dict[str, Any]]:
    """Deliveries, oldest business date first."""
    statement = sa.select(delivery).order_by(delivery.c.business_date, delivery.c.resource, delivery.c.sequence)
    if resource:
        statement = statement.where(delivery.c.resource == resource)
    if business_date:
        statement = statement.where(delivery.c.business_date == business_date)
    return read(statement)


def receipts(resource: str | None = None) -> list[dict[str, Any]]:
    """Recorded receipts in the order the receiver wrote them."""
    statement = sa.select(receipt).order_by(
        receipt.c.received_at, receipt.c.recorded_at, receipt.c.business_date, receipt.c.sequence
    )
    if resource:
        statement = statement.where(receipt.c.resource == resource)
    return read(statement)


def dataset_versions(dataset: str | None = None) -> list[dict[str, Any]]:
    """Published versions of open datasets, oldest first."""
    statement = sa.select(dataset_version).order_by(dataset_version.c.published_at, dataset_version.c.version)
    if dataset:
        statement = statement.where(dataset_version.c.dataset == dataset)
    return read(statement)


def record_grades(rows: Sequence[Mapping[str, Any]]) -> None:
    """Append grade decisions (columns as in the table, without `decision_id`)."""
    insert_many(grade_decision, rows)


def grade_decisions(subject: str | None = None) -> list[dict[str, Any]]:
    """All decisions in the order they were taken, of one subject or of all."""
    statement = sa.select(grade_decision).order_by(grade_decision.c.decision_id)
    if subject is not None:
        statement = statement.where(grade_decision.c.subject == subject)
    return read(statement)
