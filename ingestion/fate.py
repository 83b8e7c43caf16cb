"""What became of a received record, and by which way: worked out from archive, ledger and tables, nothing is kept per row.

One of: *accepted* (stored), *replaced* (stored, but a later delivery says something newer), *quarantined*, *discarded* (a
person gave it up), *duplicate* (the same was stored before), *erased* (a tombstone stands in its place), *waiting* (archived,
not processed yet). Names and reasons only; no value of the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from catalog import contracts
from catalog.contracts import Contract
from ingestion import pipeline, same_activity
from ingestion.finding import Place, Progress, Search, find
from ingestion.replay import judge_again
from lake import ledger, query, tables
from lake.query import quote_name
from protection import redaction
from quality import quarantine, row_events

SURFACE = "quarantine"
STATES_ZH = {
    "accepted": "已入库",
    "replaced": "已被更新的替代",
    "quarantined": "隔离",
    "discarded": "已放弃",
    "duplicate": "重复",
    "erased": "已依法擦除",
    "waiting": "已归档，待处理",
    "absent": "对象中没有这条记录",
}
_FINDINGS_ZH = {"warn": "提醒", "stop": "整批扣下", "released": "曾扣下，已放行"}


@dataclass(frozen=True)
class Other:
    """Another record that this one stands in a relation with."""

    batch_id: str
    object: str
    record_no: int


@dataclass
class Decision:
    """One decision about a quarantined record: by a replay, a withdrawal or a person."""

    at: datetime
    outcome: str
    rule_id: str | None
    reason: str | None
    decided_by: str | None
    taken_back_at: datetime | None
    undertaking: str


@dataclass
class Fate:
    """State of a record (or, with `record_no` None, of an object), why, and its way through the platform.

    `visible`: whether readers see it (it is in the checked version). `other`: of a duplicate the record that is stored, of a
    replaced one its successor, of a conflict the one it contradicts. `counts`: of an object, its records by state.
    `corrections`: rules that mended the record on its way in. `findings`: what the rules for whole deliveries said of its batch.
    """

    resource: str
    object: str
    object_name: str
    record_no: int | None
    state: str
    reason: str | None
    rule_id: str | None
    since: datetime | None
    table: str
    batch_id: str
    batch_status: str
    supersedes: str | None
    contract_version: str
    run_id: str
    received_at: datetime
    as_of_at: datetime | None
    visible: bool
    checked_version: int | None
    other: Other | None = None
    corrections: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass
class Answer:
    """The fates of the records found (the first `limit`), how many there are, and what was searched."""

    found: int
    fates: list[Fate]
    searched: Search


def ask(words: list[str], *, limit: int = 20, progress: Progress | None = None) -> Answer:
    """Find records (see `ingestion.finding.find`) and tell what became of them."""
    search = find(words, progress)
    return Answer(len(search.places), [fate_of(place) for place in search.places[:limit]], search)


def fate_of(place: Place) -> Fate:
    """What became of one record or object."""
    contract = contracts.load(place.resource)
    item = next(row for row in ledger.objects_of(place.resource) if row["sha256"] == place.sha256)
    batch = next(row for row in ledger.batches(place.resource) if row["batch_id"] == item["batch_id"])
    fate = Fate(
        resource=place.resource,
        object=place.sha256,
        object_name=redaction.redact(item["name"], SURFACE),
        record_no=place.record_no,
        state=item["status"],
        reason=None,
        rule_id=None,
        since=batch["finished_at"],
        table=contract.root.table,
        batch_id=batch["batch_id"],
        batch_status=batch["status"],
        supersedes=batch["supersedes"],
        contract_version=batch["contract_version"],
        run_id=batch["run_id"],
        received_at=batch["started_at"],
        as_of_at=batch["as_of_at"],
        visible=False,
        checked_version=ledger.checked_version(contract.root.table),
    )
    fate.decisions = [
        Decision(
            row["replayed_at"], row["outcome"], row["rule_id"], row["reason"], row["decided_by"], row["revoked_at"], row["replay_id"],
        )
        for row in ledger.decisions_of(batch["batch_id"], place.sha256)
        if place.record_no is None or row["record_from"] <= place.record_no <= row["record_to"]
    ]  # fmt: skip
    fate.findings = [
        f"{row['rule_id']}：{row['message']}（{_FINDINGS_ZH.get(row['outcome'], row['outcome'])}）"
        for row in ledger.findings(batch["batch_id"])
        if row["kind"] == "batch" and row["outcome"] != "pass"
    ]
    con = query.connect()
    try:
        quarantine.register_open(con)
        if _erased(fate):
            return fate
        if place.record_no is None:
            _object(con, fate, item)
        else:
            _record(con, contract, batch, item, fate)
    finally:
        con.close()
    return fate


def _erased(fate: Fate) -> bool:
    """A tombstone speaks for the whole object or for a run of its records."""
    for stone in ledger.tombstones(fate.resource, fate.object):
        whole = stone["record_from"] is None
        inside = (
            not whole and fate.record_no is not None and stone["record_from"] <= fate.record_no <= stone["record_to"]
        )
        if whole or inside:
            fate.state, fate.reason, fate.since = "erased", stone["reason"], stone["erased_at"]
            return True
    return False


def _object(con: duckdb.DuckDBPyConnection, fate: Fate, item: dict[str, Any]) -> None:
    """The counts of an object, and why it was refused as a whole if it was."""
    fate.counts = {
        "收到": item["decoded_count"],
        "入库": item["accepted_count"],
        "隔离": item["quarantined_count"],
        "重复": item["duplicate_count"],
    }
    row = con.execute(
        "select rule_id, reason, outcome from judged_quarantine where batch_id = ? and source_object = ? and record_no = 0"
        " and (outcome is null or outcome in ('rejudged', 'discarded')) limit 1",
        [fate.batch_id, fate.object],
    ).fetchone()
    if fate.batch_status == "archived":
        fate.state = "waiting"
    elif row:
        fate.state = "discarded" if row[2] == "discarded" else "quarantined"
        fate.rule_id, fate.reason = row[0], row[1]
    else:
        fate.state = "quarantined" if item["status"] == "refused" else "accepted"
        fate.reason = item["reason"]
    fate.visible = _visible(con, fate)


def _visible(con: duckdb.DuckDBPyConnection, fate: Fate) -> bool:
    """Whether the checked version of the table holds the record (or any of the object)."""
    if fate.checked_version is None:
        return False
    return bool(_rows(con, fate.table, fate.checked_version, fate))


def _rows(con: duckdb.DuckDBPyConnection, table: str, version: int, fate: Fate) -> list[Any]:
    number = "" if fate.record_no is None else f" and _record_no = {int(fate.record_no)}"
    return con.execute(
        f"select * from {query.scan_sql(table, version)} where _batch_id = ? and _source_object = ?{number} limit 1",
        [fate.batch_id, fate.object],
    ).fetchall()


def _record(
    con: duckdb.DuckDBPyConnection, contract: Contract, batch: dict[str, Any], item: dict[str, Any], fate: Fate
) -> None:
    fate.visible = _visible(con, fate)
    if batch["status"] == "archived":
        fate.state, fate.reason = "waiting", "批次已归档，尚未处理；再运行 tiyu ingest 即续作"
        return
    fate.corrections = _events(con, fate, "corrected")
    head = tables.version(contract.root.table)
    for obj in contract.roots:
        at = tables.version(obj.table)
        if at is None or not _rows(con, obj.table, at, fate):
            continue
        fate.state, fate.table, fate.checked_version = "accepted", obj.table, ledger.checked_version(obj.table)
        fate.visible = _visible(con, fate)
        back = [row.at for row in fate.decisions if row.outcome == "accepted" and row.taken_back_at is None]
        fate.since = back[-1] if back else fate.since
        if back:
            fate.reason = "曾被隔离，重放后入库"
        if obj is contract.root:
            _newer(con, contract, at, fate)
        if obj.deletes.by != "none":
            _marked(con, at, fate)
        return
    if _replaced_by_event(con, fate):
        return
    row = con.execute(
        "select rule_id, reason, outcome, quarantined_at from judged_quarantine where batch_id = ? and source_object = ?"
        " and record_no in (?, 0) and (record_no = ? or rule_id like 'TIYU-%')"
        " and (outcome is null or outcome in ('rejudged', 'discarded')) order by record_no desc limit 1",
        [fate.batch_id, fate.object, fate.record_no, fate.record_no],
    ).fetchone()
    judged = judge_again(contract, batch, [item])
    mine = judged.accepted.filter(pl.col("_record_no") == fate.record_no)
    if row:
        fate.rule_id, fate.reason, outcome, fate.since = row
        fate.state = "discarded" if outcome == "discarded" else "quarantined"
        if outcome is not None:
            last = [decision for decision in fate.decisions if decision.taken_back_at is None][-1]
            fate.since = last.at
            fate.reason = f"{fate.reason}；放弃的理由：{last.reason}" if outcome == "discarded" else fate.reason
        if str(fate.rule_id).endswith(".dedup.conflict") and head is not None:
            fate.other = _stored_like(con, contract, head, mine, fate.batch_id)
        return
    others = [rows["_record_no"] for rows in (judged.repeated, *judged.others.values())]
    numbers = pl.concat([judged.accepted["_record_no"], judged.refused["_record_no"], *others])
    there: list[int] = numbers.to_list()
    if fate.record_no not in there:
        fate.state = "absent"
        fate.reason = f"对象现在解码出 {len(there)} 条记录" + (f"，编号 {min(there)} 至 {max(there)}" if there else "")
        return
    fate.state = "duplicate"
    fate.other = _stored_like(con, contract, head, mine, fate.batch_id) if head is not None else None
    fate.reason = (
        (
            "同一次训练的另一份文件内容更全，已经入库"
            if pipeline.is_activity(contract)
            else "同一主键、同样内容的记录已经入库"
        )
        if fate.other
        else "入库时按重复计；与它相同的那一条现在不在表中（撤回、擦除，或契约已变）"
    )


def _stored_like(
    con: duckdb.DuckDBPyConnection, contract: Contract, head: int, mine: pl.DataFrame, batch_id: str
) -> Other | None:
    """The stored record with the key of a decoded one, of an activity the one that is the same."""
    if mine.is_empty():
        return None
    if pipeline.is_activity(contract):
        copy = same_activity.stored_copy(mine, contract.root, batch_id)
        return Other(*copy) if copy else None
    con.register("mine", mine.to_arrow())
    on = " and ".join(f"s.{quote_name(key)} is not distinct from m.{quote_name(key)}" for key in contract.root.dedup)
    found = con.execute(
        f"select s._batch_id, s._source_object, s._record_no from {query.scan_sql(contract.root.table, head)} s, mine m"
        f" where {on} limit 1"
    ).fetchone()
    con.unregister("mine")
    return Other(*found) if found else None


def _newer(con: duckdb.DuckDBPyConnection, contract: Contract, head: int, fate: Fate) -> None:
    """A key that ends in the time of the update keeps all versions of a record: the newest one speaks for it."""
    obj = contract.root
    if "updated_at" not in obj.dedup or len(obj.dedup) < 2:
        return
    same = " and ".join(
        f"n.{quote_name(key)} is not distinct from o.{quote_name(key)}" for key in obj.dedup if key != "updated_at"
    )
    scan = query.scan_sql(obj.table, head)
    found = con.execute(
        f"select n._batch_id, n._source_object, n._record_no from {scan} o join {scan} n on {same} and n.updated_at > o.updated_at"
        " where o._batch_id = ? and o._source_object = ? and o._record_no = ? order by n.updated_at desc limit 1",
        [fate.batch_id, fate.object, fate.record_no],
    ).fetchone()
    if found:
        fate.state, fate.other = "replaced", Other(*found)
        fate.reason = "同一编号有更新时间更晚的记录，明细层取最新的一条；本行仍在贴源表中"


def _marked(con: duckdb.DuckDBPyConnection, head: int, fate: Fate) -> None:
    """A stored row that its source says is gone: it stays, and readers of the layers above leave it out."""
    found = con.execute(
        f"select _deleted_at, _deleted_by from {query.scan_sql(fate.table, head)} where _batch_id = ? and _source_object = ?"
        " and _record_no = ? and _deleted_at is not null",
        [fate.batch_id, fate.object, fate.record_no],
    ).fetchone()
    if found:
        fate.since = found[0]
        fate.reason = f"来源说这条已删除（由批次 {found[1]} 得知），行保留并作标记，明细层起不再使用"


def _events(con: duckdb.DuckDBPyConnection, fate: Fate, event: str) -> list[str]:
    """Rules of events that were noted about the record."""
    head = tables.version(row_events.TABLE)
    if head is None:
        return []
    rows = con.execute(
        f"select distinct rule_id from {query.scan_sql(row_events.TABLE, head)} where batch_id = ? and source_object = ? and record_no = ?"
        " and event = ? and rule_id is not null order by 1",
        [fate.batch_id, fate.object, fate.record_no, event],
    ).fetchall()
    return [row[0] for row in rows]


def _replaced_by_event(con: duckdb.DuckDBPyConnection, fate: Fate) -> bool:
    """Whether a later delivery took the record's row out of the table (`ops_ingest__row_event`)."""
    head = tables.version(row_events.TABLE)
    if head is None:
        return False
    found = con.execute(
        "select event, by_batch_id, by_source_object, by_record_no, event_at"
        f" from {query.scan_sql(row_events.TABLE, head)} where batch_id = ? and source_object = ? and record_no = ?"
        " and event in ('replaced', 'restored') order by event_at desc limit 1",
        [fate.batch_id, fate.object, fate.record_no],
    ).fetchone()
    if not found or found[0] != "replaced":
        return False
    fate.state, fate.since = "replaced", found[4]
    fate.other = Other(found[1], found[2], found[3]) if found[1] else None
    fate.reason = "后来的一次报送以新内容替代了这一行"
    return True


__all__ = ["STATES_ZH", "Answer", "Fate", "ask", "fate_of"]
