"""Trying refused records again from the archive: what may pass by now is stored.

A replay decodes the objects of quarantined records anew and judges them by today's contract and reference data, with
times compared to the instant the batch came in. What passes is stored under the batch it came with, unless it is
stored already. The quarantine rows stay; the ledger records the decision. Nothing is decided twice:

1. rows go to the tables, those that an interrupted replay wrote left out;
2. one ledger transaction moves the counts of batch and objects and records which records were decided.

A crash in between is mended by running the replay again. An object that reads differently now (it was refused as a
whole, or its format was misread) is accounted for anew.

Afterwards the tables and the quarantine are those of an installation that had today's rules from the beginning: what is
refused still, is refused for today's reason, and of records that contradict each other the one delivered first is stored
(`ingestion.precedence`). Rules that became *stricter* are not a replay's business, since nobody asked it to take anything
back: it counts the stored records it saw that would be refused now (`now_unfit`), and `ingestion.reread` follows them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import polars as pl

from catalog.contracts import Contract
from ingestion import delivery, pipeline, precedence, sources
from ingestion.dedup import Deduplicated
from ingestion.leaks import BatchStopped
from ingestion.locks import resource_lock
from ingestion.refused import ASIDE
from lake import ledger, query, tables
from lake.errors import EXIT_USAGE, TiyuError
from quality import quarantine
from quality.gate import ALERT_RULE, withdraw_batches

_DONE = ("accepted", "partial", "refused")


@dataclass
class ReplayedBatch:
    """What a replay did to one batch: `examined` quarantined records became accepted, duplicate or stayed; `reread`
    objects were accounted for anew. `rejudged` records stay for another rule or reason than before; `gave_way` counts
    records delivered later that contradicted an accepted one. `now_unfit`: stored records that today's rules would refuse."""

    batch_id: str
    status: str
    examined: int = 0
    accepted: int = 0
    duplicate: int = 0
    still_refused: int = 0
    reread: int = 0
    rejudged: int = 0
    gave_way: int = 0
    now_unfit: int = 0


@dataclass
class ReplayReport:
    """One replay of a resource; `part_dates` are the partitions that gained rows."""

    resource: str
    replay_id: str
    examined: int = 0
    accepted: int = 0
    duplicate: int = 0
    still_refused: int = 0
    rejudged: int = 0
    gave_way: int = 0
    now_unfit: int = 0
    left_withdrawn: int = 0
    batches: list[ReplayedBatch] = field(default_factory=list)
    part_dates: list[date] = field(default_factory=list)


def withdraw(resource: str, batch_ids: Sequence[str], reason: str) -> dict[str, int]:
    """An operator's decision to take stored batches back into quarantine; returns rows deleted per table.

    Raises TIYU-ING-0010 when a batch is not a finished batch of the resource.
    """
    sources.contract_of(resource)
    with resource_lock(resource):
        _known(resource, batch_ids, _DONE)
        return withdraw_batches(resource, list(dict.fromkeys(batch_ids)), reason)


def _known(resource: str, batch_ids: Iterable[str], states: Sequence[str]) -> None:
    status = {row["batch_id"]: row["status"] for row in ledger.batches(resource)}
    for batch_id in batch_ids:
        if status.get(batch_id) not in states:
            raise TiyuError(
                "TIYU-ING-0010", "该资源没有这个可处理的批次", "用 tiyu quarantine list 或 tiyu reconcile 核对批次号与状态", EXIT_USAGE,
                resource=resource, batch=batch_id, status=status.get(batch_id),
            )  # fmt: skip


def replay(resource: str, batch_ids: Sequence[str] = ()) -> ReplayReport:
    """Try the quarantined records of a resource again and return the account.

    A withdrawn or held batch is replayed only when it is named: that is the decision about the batch. It comes in
    unseen and the quality gate judges it; its batch rules are not asked again.
    Raises TIYU-ING-0001, 0005 (reference data not checked yet), 0010 (unknown batch), 0013 (other columns than stored:
    `tiyu reread`).
    """
    contract = sources.contract_of(resource)
    report = ReplayReport(resource, f"replay_{uuid.uuid4().hex[:16]}")
    days: set[date] = set()
    with resource_lock(resource):
        _known(resource, batch_ids, (*_DONE, *ASIDE))
        pipeline.require_layout(contract)
        if precedence.applies(contract):
            precedence.finish(contract)
        waiting = _open_records(resource)
        for batch in ledger.batches(resource):
            mine = waiting.filter(pl.col("batch_id") == batch["batch_id"])
            if mine.is_empty() or batch["status"] == "archived" or (batch_ids and batch["batch_id"] not in batch_ids):
                continue
            if batch["status"] in ASIDE and not batch_ids:
                report.left_withdrawn += mine.height
                continue
            done = _replay_batch(contract, batch, mine, report.replay_id, days)
            report.batches.append(done)
            for name in ("examined", "accepted", "duplicate", "still_refused", "rejudged", "gave_way", "now_unfit"):
                setattr(report, name, getattr(report, name) + getattr(done, name))
            if batch["status"] == "withdrawn" and done.accepted:
                ledger.close_alert(ALERT_RULE, "batch", batch["batch_id"])
            if batch["status"] == "held":
                ledger.release_batch(batch["batch_id"])
                ledger.close_alert(delivery.HELD_ALERT, "batch", batch["batch_id"])
        if report.accepted and not _refused_objects(resource):
            ledger.close_alert("IN-01", "resource", resource)
    report.part_dates = sorted(days)
    return report


def _refused_objects(resource: str) -> bool:
    """Whether an object of a batch that was not withdrawn is still refused as a whole."""
    return any(
        entry["status"] == "refused"
        for batch in ledger.batches(resource)
        if batch["status"] not in ASIDE
        for entry in ledger.objects(batch["batch_id"])
    )


def _open_records(resource: str) -> pl.DataFrame:
    """batch_id, _source_object, _record_no, rule_id, reason, whole (the row stands for the whole object)."""
    con = query.connect()
    try:
        quarantine.register_open(con)
        return con.execute(
            "SELECT batch_id, source_object AS _source_object, record_no AS _record_no,"
            " min(rule_id) AS rule_id, arg_min(reason, rule_id) AS reason,"
            " bool_or(record_no = 0 AND rule_id LIKE 'TIYU-%') AS whole"
            " FROM open_quarantine WHERE resource = ? GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
            [resource],
        ).pl()
    finally:
        con.close()


def _replay_batch(
    contract: Contract, batch: dict[str, Any], waiting: pl.DataFrame, replay_id: str, days: set[date]
) -> ReplayedBatch:
    batch_id = batch["batch_id"]
    every = ledger.objects(batch_id)
    names = set(waiting["_source_object"])
    objects = [entry for entry in every if entry["sha256"] in names]
    judged = judge_again(contract, batch, objects)
    reread = {
        entry["sha256"]
        for entry in objects
        if judged.decoded.get(entry["sha256"], 0) != entry["decoded_count"]
        or waiting.filter(pl.col("whole") & (pl.col("_source_object") == entry["sha256"])).height
    }
    still_whole = set(judged.refused.filter(pl.col("rule_id").str.starts_with("TIYU-"))["_source_object"])
    reread -= still_whole
    at = ["_source_object", "_record_no"]

    def candidates_of(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.filter(pl.col("_source_object").is_in(list(reread))).vstack(
            rows.filter(~pl.col("_source_object").is_in(list(reread))).join(waiting, on=at, how="semi")
        )

    order = {entry["sha256"]: entry["seq"] for entry in every}
    candidates = candidates_of(judged.accepted)
    kept = pipeline.distinct(contract, candidates, batch_id, order, replayed=True)
    gave_way = 0
    # a batch that was taken back comes back behind what was stored meanwhile
    if precedence.applies(contract) and not kept.conflicts.is_empty() and batch["status"] in _DONE:
        gave_way = precedence.give_way(contract, batch, candidates, replay_id, judge_again)
        if gave_way:
            kept = pipeline.distinct(contract, candidates, batch_id, order, replayed=True)
            batch = next(row for row in ledger.batches(contract.id) if row["batch_id"] == batch_id)
            every = ledger.objects(batch_id)
    waiting_too = {table: candidates_of(rows) for table, rows in judged.others.items()}
    others = pipeline.distinct_others(contract, waiting_too, batch_id, order, replayed=True)
    now = judged.refused
    if not kept.conflicts.is_empty():
        now = pl.concat([now, pipeline.conflicts_as_refusals(contract, kept.conflicts)])
    refusals = now.filter(pl.col("_source_object").is_in(list(reread)))
    more = {table: found.unique for table, found in others.items()}
    _store(contract, batch, every, kept, more, judged, refusals.join(waiting, on=at, how="anti"), replay_id)
    pipeline.conclude_absence(contract, batch, every, judged, judged.refused)
    for stored in (kept.unique, *more.values()):
        days |= set(stored["part_date"].to_list())
    known = candidates_of(judged.repeated)
    duplicates = pl.concat([kept.duplicates, known, *(found.duplicates for found in others.values())])
    accepted = pipeline.records_of(kept, others)
    done = _settle(batch, every, waiting, accepted, duplicates, refusals, now, judged.decoded, reread, replay_id)
    done.gave_way = gave_way
    unfit = judged.refused.filter(~pl.col("_source_object").is_in([*reread, *still_whole]))
    unfit = unfit.join(waiting, on=at, how="anti")
    if not unfit.is_empty():
        done.now_unfit = unfit.join(_discarded(batch_id), on=at, how="anti").height
    return done


def _discarded(batch_id: str) -> pl.DataFrame:
    """_source_object, _record_no of records that a person gave up."""
    con = query.connect()
    try:
        quarantine.register_open(con)
        return con.execute(
            "SELECT source_object AS _source_object, record_no AS _record_no FROM discarded_quarantine WHERE batch_id = ?",
            [batch_id],
        ).pl()
    finally:
        con.close()


def judge_again(contract: Contract, batch: dict[str, Any], objects: list[dict[str, Any]]) -> pipeline.Judged:
    """Judge as of when the batch came in; an object that makes its reader fail, or leaks, stays refused, alone."""
    try:
        return pipeline.judge(contract, batch, objects, as_of=batch["as_of_at"])
    except BatchStopped as stopped:
        return pipeline.judge(contract, batch, objects, as_of=batch["as_of_at"], poison=stopped.objects)
    except TiyuError:
        raise
    except Exception:
        poison = pipeline.find_poison(contract, batch)
        if not poison:
            raise
        mine = {entry["sha256"]: poison[entry["sha256"]] for entry in objects if entry["sha256"] in poison}
        return pipeline.judge(contract, batch, objects, as_of=batch["as_of_at"], poison=mine)


def _store(
    contract: Contract,
    batch: dict[str, Any],
    objects: list[dict[str, Any]],
    kept: Deduplicated,
    others: dict[str, pl.DataFrame],
    judged: pipeline.Judged,
    refusals: pl.DataFrame,
    replay_id: str,
) -> None:
    """Write what an interrupted replay has not written yet: quarantine, child tables, root table last.

    Every row names its batch, object and record, so what is there is known; the key of the commits is this attempt.
    """
    key = f"{batch['batch_id']}:{replay_id}"
    delivery.note_corrections(contract, batch, judged, key)
    pipeline.write_quarantine(contract, batch, refusals, objects, key)
    unique, at = kept.unique, ["_source_object", "_record_no"]
    missing = unique.join(_stored(contract.root.table, batch, unique), on=at, how="anti")
    more = {table: rows.join(_stored(table, batch, rows), on=at, how="anti") for table, rows in others.items()}
    children: dict[str, list[Any]] = {}
    for table, parts in judged.children.items():
        there = _stored(table, batch, unique)
        children[table] = [pipeline.child_rows(part).join(there, on=at, how="anti").to_arrow() for part in parts]
    pipeline.store(contract, batch, replace(kept, unique=missing), children, key, more)


def _stored(table: str, batch: dict[str, Any], rows: pl.DataFrame) -> pl.DataFrame:
    """Which records of the batch a table holds already, within the dates of the rows."""
    empty = rows.select("_source_object", "_record_no").clear()
    head = tables.version(table)
    if head is None or rows.is_empty():
        return empty
    con = query.connect()
    try:
        query.register(con, table, head, view="stored")
        return con.execute(
            "SELECT DISTINCT _source_object, _record_no FROM stored WHERE _batch_id = ? AND part_date BETWEEN ? AND ?",
            [batch["batch_id"], rows["part_date"].min(), rows["part_date"].max()],
        ).pl()
    finally:
        con.close()


def _settle(
    batch: dict[str, Any],
    objects: list[dict[str, Any]],
    waiting: pl.DataFrame,
    unique: pl.DataFrame,
    duplicates: pl.DataFrame,
    refusals: pl.DataFrame,
    now: pl.DataFrame,
    decoded: dict[str, int],
    reread: set[str],
    replay_id: str,
) -> ReplayedBatch:
    """Move the counts in the ledger and record the decisions, in one transaction.

    `refusals` are those of the objects that read differently now, `now` those of all objects looked at.
    """

    def per_object(frame: pl.DataFrame) -> dict[str, int]:
        return dict(frame.group_by("_source_object").len().iter_rows())

    whole_now = dict(
        now.filter(pl.col("rule_id").str.starts_with("TIYU-")).select("_source_object", "rule_id").iter_rows()
    )
    accepted, duplicate, refused_now = per_object(unique), per_object(duplicates), per_object(refusals)
    done = ReplayedBatch(batch["batch_id"], batch["status"], examined=waiting.height, reread=len(reread))
    outcomes = []
    for entry in objects:
        sha = entry["sha256"]
        counts = {name: entry[f"{name}_count"] for name in ("decoded", "accepted", "quarantined", "duplicate")}
        if sha in reread:
            counts = {
                "decoded": decoded.get(sha, 0),
                "accepted": accepted.get(sha, 0),
                "quarantined": refused_now.get(sha, 0),
                "duplicate": duplicate.get(sha, 0),
            }
        else:
            counts["accepted"] += accepted.get(sha, 0)
            counts["duplicate"] += duplicate.get(sha, 0)
            counts["quarantined"] -= accepted.get(sha, 0) + duplicate.get(sha, 0)
        moved = sha in reread or sha in accepted or sha in duplicate
        if counts["quarantined"] < 0 or counts["decoded"] != sum(counts.values()) - counts["decoded"]:
            raise TiyuError(
                "TIYU-ING-0011", "重放后的记录对账不平，未作任何记账", "保留现场并报告维护者；可安全重跑", object=entry["name"], **counts
            )  # fmt: skip
        status = entry["status"]
        if moved:
            status = "accepted" if not counts["quarantined"] else "partial" if counts["accepted"] else "refused"
            status = "partial" if status == "refused" and sha in reread else status
        reason = None if moved and status != "refused" else whole_now.get(sha, entry["reason"])
        outcomes.append(
            {
                "seq": entry["seq"],
                "status": status,
                "reason": reason,
                **{f"{name}_count": value for name, value in counts.items()},
            }
        )
    done.accepted, done.duplicate = unique.height, duplicates.height
    done.still_refused = sum(outcome["quarantined_count"] for outcome in outcomes)
    at, batch_id = ["_source_object", "_record_no"], batch["batch_id"]
    waited = waiting.select(*at)
    gone = waiting.filter(pl.col("_source_object").is_in(list(reread))).join(
        pl.concat([refusals.select(at), unique.select(at), duplicates.select(at)]), on=at, how="anti"
    )
    decided_at = ledger.next_decision_at()
    decisions = []
    for outcome, records in (
        ("accepted", unique.join(waited, on=at, how="semi")),
        ("duplicate", duplicates.join(waited, on=at, how="semi")),
        ("reread", gone),
    ):
        named = records.select(pl.lit(batch_id).alias("batch_id"), *at)
        decisions += precedence.runs(named, replay_id, outcome, decided_at)
    again = _rejudged(batch_id, waiting, refusals, now)
    done.rejudged = again.height
    for (rule_id, reason), records in again.partition_by("rule_id", "reason", as_dict=True, include_key=False).items():
        named = records.select(pl.lit(batch_id).alias("batch_id"), *at)
        decisions += precedence.runs(named, replay_id, "rejudged", decided_at, rule_id=str(rule_id), reason=str(reason))
    if not decisions:
        return done
    totals = {
        f"{name}_count": sum(outcome[f"{name}_count"] for outcome in outcomes)
        for name in ("decoded", "accepted", "quarantined", "duplicate")
    }
    states = {outcome["status"] for outcome in outcomes}
    if batch["status"] not in ASIDE or totals["accepted_count"]:
        done.status = states.pop() if len(states) == 1 else "partial"
    part_dates = [
        day
        for day in (batch["first_part_date"], batch["last_part_date"], *unique["part_date"].unique().to_list())
        if day is not None
    ]
    values = {
        "status": done.status,
        **totals,
        "first_part_date": min(part_dates, default=None),
        "last_part_date": max(part_dates, default=None),
    }
    ledger.record_replay(batch["batch_id"], values, outcomes, decisions)
    return done


def _rejudged(batch_id: str, waiting: pl.DataFrame, refusals: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Records that are refused for another rule or reason than the quarantine says: ``_source_object, _record_no, rule_id,
    reason``. Also those that come to the quarantine by this replay after an earlier decision had taken them out of it."""
    at = ["_source_object", "_record_no"]
    said = now.select(*at, "rule_id", "reason").unique(at, keep="first", maintain_order=True)
    old = waiting.select(*at, pl.col("rule_id").alias("_rule"), pl.col("reason").alias("_reason"))
    other = said.join(old, on=at, how="inner").filter(
        (pl.col("rule_id") != pl.col("_rule")) | (pl.col("reason") != pl.col("_reason"))
    )
    fresh = refusals.select(*at, "rule_id", "reason").join(waiting, on=at, how="anti")
    decided = pl.DataFrame(quarantine.decisions(ledger.replays([batch_id])))
    back = fresh.join(decided, left_on="_source_object", right_on="source_object", how="inner").filter(
        pl.col("_record_no").is_between(pl.col("record_from"), pl.col("record_to"))
    )
    return pl.concat([other.select(said.columns), back.select(said.columns)]).unique(at, keep="first")
