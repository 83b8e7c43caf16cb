"""Taking a batch back out of the lake after the quality gate refused it.

Order matters, because a crash may come between any two steps:

1. the *decision*: one ledger transaction sets the batch `withdrawn` and moves its accepted records to quarantined, so
   that accepted + quarantined + duplicate = decoded still holds;
2. quarantine rows for the batch's root records (object and record number, no values), guarded by an app transaction;
3. the batch's rows are deleted from the head of every table of the contract, child tables first.

Rows that the batch had replaced come back before its own are deleted, and rows that its snapshot marked as gone lose the
mark. Steps 2 and 3 can be repeated without harm, and `repair` repeats them for every batch that is decided but still has
rows; the gate calls it before it looks at anything. The batch was never in a checked version, so no reader saw it.
"""

from __future__ import annotations

import uuid
from datetime import date
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow as pa
import sqlalchemy as sa

from lake import ledger, tables
from lake.clock import utc_now
from lake.query import scan_sql
from quality import quarantine, row_events
from quality.engine import Range, literal_list, rows_sql

if TYPE_CHECKING:
    from catalog.contracts import Contract

RULE_ID = "QG-01"
_RECORD = ["batch_id", "source_object", "record_no"]
_BY = ["by_batch_id", "by_source_object", "by_record_no"]
WITHDRAWN = "tiyu.withdrawn"
REPLACED_BY = "tiyu.replaced_by"
"""Metadata of a commit that takes out rows which rows of a batch replace: the batch."""


def decide(batch_id: str, reason: str) -> bool:
    """Record in the ledger that a batch is withdrawn; False when it already was (or is unknown)."""
    batch, objects = ledger.batch, ledger.batch_object
    with ledger.transaction() as connection:
        changed = connection.execute(
            sa.update(batch)
            .where(batch.c.batch_id == batch_id, batch.c.status != "withdrawn")
            .values(
                status="withdrawn",
                quarantined_count=batch.c.quarantined_count + batch.c.accepted_count,
                accepted_count=0,
            )
        ).rowcount
        if changed:
            connection.execute(
                sa.update(objects)
                .where(objects.c.batch_id == batch_id)
                .values(
                    status="refused",
                    reason=reason,
                    quarantined_count=objects.c.quarantined_count + objects.c.accepted_count,
                    accepted_count=0,
                )
            )
            replay = ledger.quarantine_replay
            connection.execute(  # records that a replay had accepted are quarantined again
                sa.update(replay)
                .where(replay.c.batch_id == batch_id, replay.c.outcome == "accepted", replay.c.revoked_at.is_(None))
                .values(revoked_at=utc_now())
            )
        return bool(changed)


Con = duckdb.DuckDBPyConnection


def _rows_by_date(con: Con, table: str, batch_ids: list[str], ranges: tuple[Range, ...] | None) -> dict[date, int]:
    """Rows of the batches at the head of a table, per part_date."""
    head = tables.version(table)
    if head is None or not batch_ids:
        return {}
    sql = (
        f"SELECT part_date, count(*) FROM ({rows_sql(table, head, ranges)}) AS head"
        f" WHERE _batch_id IN ({literal_list(batch_ids)}) GROUP BY part_date"
    )
    return dict(con.execute(sql).fetchall())


def _quarantine(con: Con, contract: Contract, batch_id: str, ranges: tuple[Range, ...] | None, reason: str) -> int:
    """Write one quarantine row per root record of the batch that has none; a second time nothing is written.

    A record that was refused at first and accepted by a replay has its row already.
    """
    heads = {obj.table: head for obj in contract.roots if (head := tables.version(obj.table)) is not None}
    if not heads:
        return 0
    quarantine.register_open(con)
    every = " UNION ALL ".join(
        f"SELECT _batch_id, _source_object, _record_no FROM ({rows_sql(table, head, ranges)}) AS head"
        for table, head in heads.items()
    )
    sql = (
        f"SELECT _source_object, _record_no FROM ({every}) AS head"
        " ANTI JOIN open_quarantine AS q ON q.batch_id = head._batch_id AND q.source_object = head._source_object"
        " AND q.record_no = head._record_no"
        f" WHERE _batch_id IN ({literal_list([batch_id])}) ORDER BY ALL"
    )
    rows = con.execute(sql).to_arrow_table()
    replaced = row_events.replaced_now(contract.id).filter(pl.col("batch_id") == batch_id)
    if not replaced.is_empty():  # accepted once, so it is the batch's like those at the head
        con.register("replaced", replaced.to_arrow())
        sql = (
            "SELECT source_object AS _source_object, record_no AS _record_no FROM replaced ANTI JOIN open_quarantine AS q"
            " USING (batch_id, source_object, record_no) ORDER BY ALL"
        )
        rows = pa.concat_tables([rows, con.execute(sql).to_arrow_table().cast(rows.schema)])
        con.unregister("replaced")
    if rows.num_rows:
        objects = rows.column("_source_object").to_pylist()
        quarantine.append_quarantine(
            quarantine.build(
                batch_id=batch_id,
                resource=contract.id,
                table_name=contract.root.table,
                source_object=objects,
                object_name=_object_names(batch_id, objects),
                record_no=rows.column("_record_no").to_pylist(),
                rule_id=RULE_ID,
                reason=reason,
                quarantined_at=utc_now(),
            ),
            _key(batch_id),
        )
    return rows.num_rows


def _key(batch_id: str) -> str:
    """Key of the quarantine commit; a batch that was replayed may be withdrawn again."""
    key = f"{batch_id}:withdrawn"
    return f"{key}:{uuid.uuid4().hex[:8]}" if tables.has_batch(quarantine.TABLE, key) else key


def withdrawal_recorded(batch_id: str) -> bool:
    """Whether the quarantine says that a batch was withdrawn (also when the ledger cannot be asked)."""
    return tables.has_batch(quarantine.TABLE, f"{batch_id}:withdrawn")


def _object_names(batch_id: str, objects: list[str]) -> list[str | None]:
    """The protected names under which the objects arrived, in the order of `objects`."""
    names = {entry["sha256"]: entry["name"] for entry in ledger.objects(batch_id)}
    return [names.get(sha256) for sha256 in objects]


def _undo(con: Con, contract: Contract, batch_ids: list[str], ranges: tuple[Range, ...] | None) -> None:
    """Bring back what rows of these batches at the head replaced, and take back what their snapshots marked as gone."""
    root, head = contract.root, tables.version(contract.root.table)
    if head is None:
        return
    listed = literal_list(batch_ids)
    events = row_events.of("replaced").filter(pl.col("resource") == contract.id)
    if not events.is_empty():
        frontier = con.execute(
            "SELECT _batch_id AS by_batch_id, _source_object AS by_source_object, _record_no AS by_record_no"
            f" FROM ({rows_sql(root.table, head, ranges)}) AS head WHERE _batch_id IN ({listed})"
        ).pl()
        events = events.join(row_events.replaced_now(contract.id), on=_RECORD, how="semi")
        aside = [row["batch_id"] for row in ledger.batches(contract.id) if row["status"] in ("withdrawn", "held")]
        back = [events.clear()]
        while (
            not frontier.is_empty()
        ):  # a replaced row may itself be of a batch that was taken back: then the one before it
            before = events.join(frontier, on=_BY, how="semi")
            back.append(before.filter(~pl.col("batch_id").is_in(aside)))
            frontier = before.filter(pl.col("batch_id").is_in(aside)).select(
                *(pl.col(old).alias(new) for old, new in zip(_RECORD, _BY, strict=True))
            )
        _restore(con, contract, pl.concat(back))
    if root.deletes.by == "absence":
        marked = con.execute(
            f"SELECT part_date, _batch_id, _source_object, _record_no FROM {scan_sql(root.table, head)}"
            f" WHERE _deleted_by IN ({listed}) AND _batch_id NOT IN ({listed})"
        ).pl()
        if not marked.is_empty():
            cleared = {
                "_deleted_at": "arrow_cast(NULL, 'Timestamp(Microsecond, Some(\"UTC\"))')",
                "_deleted_by": "CAST(NULL AS STRING)",
            }
            tables.change_rows(root.table, marked, ("_batch_id", "_source_object", "_record_no"), updates=cleared)


def _restore_rows(con: Con, table: str, records: pl.DataFrame) -> None:
    """Append what a table held of replaced records before they were taken out, unless it is there."""
    wanted = set(records["by_batch_id"])
    for entry in tables.history(table):
        if entry.get(REPLACED_BY) not in wanted:
            continue
        con.register("wanted", records.to_arrow())
        same = "o._batch_id = w.batch_id AND o._source_object = w.source_object AND o._record_no = w.record_no"
        try:
            rows = con.execute(
                f"SELECT o.* FROM {scan_sql(table, entry['version'] - 1)} AS o SEMI JOIN wanted AS w ON {same}"
                f" ANTI JOIN {scan_sql(table, int(tables.version(table) or 0))} AS h"
                " ON h._batch_id = o._batch_id AND h._source_object = o._source_object AND h._record_no = o._record_no"
            ).to_arrow_table()
        except (
            duckdb.Error
        ):  # the files of that version were cleaned away: the archive has the records, the table no longer
            ledger.open_alert(
                "QG-02",
                "table",
                table,
                severity="orange",
                message="撤回的批次所取代的旧行已随旧版本文件清理，未能恢复：提高契约版本后运行 tiyu reread",
                evidence={"version": entry["version"] - 1, "records": records.height},
            )
            continue
        finally:
            con.unregister("wanted")
        if rows.num_rows:
            tables.append(table, rows, batch_id=f"restored:{uuid.uuid4().hex}")


def _restore(con: Con, contract: Contract, records: pl.DataFrame) -> None:
    """Append replaced records again as they were; one that was never stored (it came too late to be) is left where it is."""
    table = contract.root.table
    if records.is_empty():
        return
    for obj in sorted(contract.objects, key=lambda item: item.is_root):
        if tables.exists(obj.table) and (obj.is_root == (obj.table == table)):
            _restore_rows(con, obj.table, records)
    head = scan_sql(table, int(tables.version(table) or 0))
    con.register("wanted", records.to_arrow())
    there = con.execute(
        f"SELECT w.* FROM wanted AS w SEMI JOIN {head} AS h"
        " ON h._batch_id = w.batch_id AND h._source_object = w.source_object AND h._record_no = w.record_no"
    ).pl()
    con.unregister("wanted")
    row_events.append(
        there.select(*_RECORD, *_BY),
        f"restored:{uuid.uuid4().hex}",
        resource=contract.id,
        table=table,
        event="restored",
    )


def _erase(con: Con, contract: Contract, batch_ids: list[str], ranges: tuple[Range, ...] | None) -> dict[str, int]:
    """Delete the batches' rows from the head of every table of the contract, children first; rows deleted per table."""
    deleted: dict[str, int] = {}
    _undo(con, contract, batch_ids, ranges)
    for obj in sorted(contract.objects, key=lambda item: item.is_root):
        found = _rows_by_date(con, obj.table, batch_ids, ranges)
        if not found:
            continue
        low, high = min(found), max(found)
        tables.delete(
            obj.table,
            f"part_date >= '{low.isoformat()}' AND part_date <= '{high.isoformat()}'"
            f" AND _batch_id IN ({literal_list(batch_ids)})",
            part_dates=sorted(found),
            metadata={WITHDRAWN: sorted(batch_ids)},
        )
        deleted[obj.table] = sum(found.values())
    return deleted


def withdraw(
    con: Con, contract: Contract, batch_ids: list[str], reason: str, ranges: tuple[Range, ...] | None = None
) -> dict[str, int]:
    """Withdraw batches from all tables of a contract; returns rows deleted per table.

    `ranges` may limit the search to the partitions that hold the batches. Only for batches that are in no checked
    version, or on an operator's explicit decision.
    """
    for batch_id in batch_ids:
        decide(batch_id, reason)
        _quarantine(con, contract, batch_id, ranges, reason)
    return _erase(con, contract, batch_ids, ranges)


def _window(batches: list[dict[str, object]]) -> tuple[Range, ...] | None:
    days: set[date] = set()
    for batch in batches:
        first, last = batch["first_part_date"], batch["last_part_date"]
        if not isinstance(first, date) or not isinstance(last, date):
            return None
        days |= {first, last}
    return ((min(days), max(days)),) if days else None


def repair(con: Con, contract: Contract) -> dict[str, int]:
    """Finish withdrawals that a crash interrupted; returns rows deleted per table (empty when nothing was left)."""
    withdrawn = ledger.batches(contract.id, "withdrawn")
    if not withdrawn:
        return {}
    ranges = _window(withdrawn)
    batch_ids = [str(batch["batch_id"]) for batch in withdrawn]
    if not any(_rows_by_date(con, obj.table, batch_ids, ranges) for obj in contract.objects):
        return {}
    reasons = {str(batch["batch_id"]): _reason(str(batch["batch_id"])) for batch in withdrawn}
    for batch_id, reason in reasons.items():
        _quarantine(con, contract, batch_id, ranges, reason)
    return _erase(con, contract, batch_ids, ranges)


def _reason(batch_id: str) -> str:
    for entry in ledger.objects(batch_id):
        if entry["reason"]:
            return str(entry["reason"])
    return "质量闸门未通过，整批撤回"


__all__ = ["RULE_ID", "WITHDRAWN", "decide", "repair", "withdraw", "withdrawal_recorded"]
