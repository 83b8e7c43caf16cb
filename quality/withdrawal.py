"""Taking a batch back out of the lake after the quality gate refused it.

Order matters, because a crash may come between any two steps:

1. the *decision*: one ledger transaction sets the batch `withdrawn` and moves its accepted records to quarantined, so
   that accepted + quarantined + duplicate = decoded still holds;
2. quarantine rows for the batch's root records (object and record number, no values), guarded by an app transaction;
3. the batch's rows are deleted from the head of every table of the contract, child tables first.

Steps 2 and 3 can be repeated without harm, and `repair` repeats them for every batch that is decided but still has
rows; the gate calls it before it looks at anything. The batch was never in a checked version, so no reader saw it.
"""

from __future__ import annotations

import uuid
from datetime import date
from typing import TYPE_CHECKING

import duckdb
import sqlalchemy as sa

from lake import ledger, tables
from lake.clock import utc_now
from quality import quarantine
from quality.engine import Range, literal_list, rows_sql

if TYPE_CHECKING:
    from catalog.contracts import Contract

RULE_ID = "QG-01"
WITHDRAWN = "tiyu.withdrawn"


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
    root = contract.root.table
    head = tables.version(root)
    if head is None:
        return 0
    quarantine.register_open(con)
    sql = (
        f"SELECT _source_object, _record_no FROM ({rows_sql(root, head, ranges)}) AS head"
        " ANTI JOIN open_quarantine AS q ON q.batch_id = head._batch_id AND q.source_object = head._source_object"
        " AND q.record_no = head._record_no"
        f" WHERE _batch_id IN ({literal_list([batch_id])}) ORDER BY ALL"
    )
    rows = con.execute(sql).to_arrow_table()
    if rows.num_rows:
        objects = rows.column("_source_object").to_pylist()
        quarantine.append_quarantine(
            quarantine.build(
                batch_id=batch_id,
                resource=contract.id,
                table_name=root,
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


def _erase(con: Con, contract: Contract, batch_ids: list[str], ranges: tuple[Range, ...] | None) -> dict[str, int]:
    """Delete the batches' rows from the head of every table of the contract, children first; rows deleted per table."""
    deleted: dict[str, int] = {}
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
