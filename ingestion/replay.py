"""Refused records: what there is, and trying again from the archive what may pass by now.

A replay decodes the objects of quarantined records anew and judges them by today's contract and reference data, with
times compared to the instant the batch came in. What passes is stored under the batch it came with, unless it is
stored already. The quarantine rows stay; the ledger records the decision. Nothing is decided twice:

1. rows go to the tables, those that an interrupted replay wrote left out;
2. one ledger transaction moves the counts of batch and objects and records which records were decided.

A crash in between is mended by running the replay again. An object that reads differently now (it was refused as a
whole, or its format was misread) is accounted for anew.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import polars as pl

from catalog import contracts
from catalog.contracts import Contract
from ingestion import delivery, pipeline
from ingestion.dedup import Deduplicated
from ingestion.leaks import BatchStopped
from ingestion.locks import resource_lock
from lake import clock, ledger, query, tables
from lake.errors import EXIT_USAGE, TiyuError
from protection import redaction
from quality import quarantine
from quality.gate import ALERT_RULE, withdraw_batches

SURFACE = "quarantine"
_DONE = ("accepted", "partial", "refused")
_ASIDE = ("withdrawn", "held")
"""States of a batch that a person has to decide about: taken back, or not let in."""


@dataclass
class Refused:
    """Records of a resource that one rule refused. `batches` names where they came in, `withdrawn` whether the whole batch
    was taken back by the quality gate or an operator, or not let in by a batch rule."""

    resource: str
    rule_id: str
    reason: str
    records: int
    objects: int
    batches: list[str]
    withdrawn: bool


@dataclass
class RefusedRecord:
    """One refused record as the policy shows it: `preview` is masked, `object_name` without a person's token."""

    resource: str
    batch_id: str
    object_name: str | None
    record_no: int | None
    rule_id: str
    preview: str | None


@dataclass
class ReplayedBatch:
    """What a replay did to one batch: `examined` quarantined records became accepted, duplicate or stayed; `reread`
    objects were accounted for anew."""

    batch_id: str
    status: str
    examined: int = 0
    accepted: int = 0
    duplicate: int = 0
    still_refused: int = 0
    reread: int = 0


@dataclass
class ReplayReport:
    """One replay of a resource; `part_dates` are the partitions that gained rows."""

    resource: str
    replay_id: str
    examined: int = 0
    accepted: int = 0
    duplicate: int = 0
    still_refused: int = 0
    left_withdrawn: int = 0
    batches: list[ReplayedBatch] = field(default_factory=list)
    part_dates: list[date] = field(default_factory=list)


def _contract(resource: str) -> Contract:
    known = contracts.load_all("source")
    if resource not in known:
        raise TiyuError(
            "TIYU-ING-0001", "没有这个来源资源", f"可汇聚的资源：{'、'.join(sorted(known))}", EXIT_USAGE, resource=resource
        )  # fmt: skip
    return known[resource]


def refused(resource: str | None = None, *, limit: int = 20) -> tuple[list[Refused], list[RefusedRecord]]:
    """Records that are still refused: counts by resource and rule, and the latest `limit` of them with previews."""
    if resource:
        _contract(resource)
    con = query.connect()
    try:
        quarantine.register_open(con)
        withdrawn = [row["batch_id"] for row in ledger.batches(resource) if row["status"] in _ASIDE]
        chosen = "(SELECT *, list_contains($withdrawn, batch_id) AS w FROM open_quarantine WHERE $resource IS NULL OR resource = $resource)"
        values = {"withdrawn": withdrawn, "resource": resource}
        groups = con.execute(
            "SELECT resource, rule_id, min(reason), count(DISTINCT (batch_id, source_object, record_no)),"
            f" count(DISTINCT source_object), list(DISTINCT batch_id ORDER BY batch_id), w FROM {chosen}"
            " GROUP BY resource, rule_id, w ORDER BY resource, 4 DESC, rule_id",
            values,
        ).fetchall()
        rows = con.execute(
            f"SELECT resource, batch_id, object_name, record_no, rule_id, preview FROM {chosen}"
            f" ORDER BY quarantined_at DESC, source_object, record_no LIMIT {int(limit)}",
            values,
        ).fetchall()
        # a file's name may carry what its person became in the lake
        records = [RefusedRecord(*row) for row in rows]
        for record in records:
            record.object_name = record.object_name and redaction.redact(record.object_name, SURFACE)
        return [Refused(*row) for row in groups], records
    finally:
        con.close()


def withdraw(resource: str, batch_ids: Sequence[str], reason: str) -> dict[str, int]:
    """An operator's decision to take stored batches back into quarantine; returns rows deleted per table.

    Raises TIYU-ING-0010 when a batch is not a finished batch of the resource.
    """
    _contract(resource)
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
    Raises TIYU-ING-0001, 0005 (reference data not checked yet), 0010 (unknown batch).
    """
    contract = _contract(resource)
    report = ReplayReport(resource, f"replay_{uuid.uuid4().hex[:16]}")
    days: set[date] = set()
    with resource_lock(resource):
        _known(resource, batch_ids, (*_DONE, *_ASIDE))
        waiting = _open_records(resource)
        for batch in ledger.batches(resource):
            mine = waiting.filter(pl.col("batch_id") == batch["batch_id"])
            if mine.is_empty() or batch["status"] == "archived" or (batch_ids and batch["batch_id"] not in batch_ids):
                continue
            if batch["status"] in _ASIDE and not batch_ids:
                report.left_withdrawn += mine.height
                continue
            done = _replay_batch(contract, batch, mine, report.replay_id, days)
            report.batches.append(done)
            for name in ("examined", "accepted", "duplicate", "still_refused"):
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
        if batch["status"] not in _ASIDE
        for entry in ledger.objects(batch["batch_id"])
    )


def _open_records(resource: str) -> pl.DataFrame:
    """batch_id, _source_object, _record_no, whole (the row stands for the whole object)."""
    con = query.connect()
    try:
        quarantine.register_open(con)
        return con.execute(
            "SELECT batch_id, source_object AS _source_object, record_no AS _record_no,"
            " bool_or(record_no = 0 AND rule_id LIKE 'TIYU-%') AS whole"
            " FROM open_quarantine WHERE resource = ? GROUP BY ALL ORDER BY ALL",
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
    judged = _judge(contract, batch, objects)
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
    kept = pipeline.distinct(contract, candidates_of(judged.accepted), batch_id, order, replayed=True)
    waiting_too = {table: candidates_of(rows) for table, rows in judged.others.items()}
    others = pipeline.distinct_others(contract, waiting_too, batch_id, order, replayed=True)
    refusals = judged.refused.filter(pl.col("_source_object").is_in(list(reread)))
    conflicts = kept.conflicts.filter(pl.col("_source_object").is_in(list(reread)))
    if not conflicts.is_empty():
        refusals = pl.concat([refusals, pipeline.conflicts_as_refusals(contract, conflicts)])
    more = {table: found.unique for table, found in others.items()}
    _store(contract, batch, every, kept, more, judged, refusals.join(waiting, on=at, how="anti"), replay_id)
    pipeline.conclude_absence(contract, batch, every, judged, judged.refused)
    for stored in (kept.unique, *more.values()):
        days |= set(stored["part_date"].to_list())
    known = candidates_of(judged.repeated)
    duplicates = pl.concat([kept.duplicates, known, *(found.duplicates for found in others.values())])
    accepted = pipeline.records_of(kept, others)
    return _settle(batch, every, waiting, accepted, duplicates, refusals, judged.decoded, reread, replay_id)


def _judge(contract: Contract, batch: dict[str, Any], objects: list[dict[str, Any]]) -> pipeline.Judged:
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
    decoded: dict[str, int],
    reread: set[str],
    replay_id: str,
) -> ReplayedBatch:
    """Move the counts in the ledger and record the decisions, in one transaction."""

    def per_object(frame: pl.DataFrame) -> dict[str, int]:
        return dict(frame.group_by("_source_object").len().iter_rows())

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
        reason = None if moved and status != "refused" else entry["reason"]
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
    gone = waiting.filter(pl.col("_source_object").is_in(list(reread))).join(
        refusals, on=["_source_object", "_record_no"], how="anti"
    )
    decisions = [
        *_decisions(unique.filter(~pl.col("_source_object").is_in(list(reread))), "accepted", replay_id),
        *_decisions(duplicates.filter(~pl.col("_source_object").is_in(list(reread))), "duplicate", replay_id),
        *_decisions(gone, "reread", replay_id),
    ]
    if not decisions:
        return done
    totals = {
        f"{name}_count": sum(outcome[f"{name}_count"] for outcome in outcomes)
        for name in ("decoded", "accepted", "quarantined", "duplicate")
    }
    states = {outcome["status"] for outcome in outcomes}
    if batch["status"] not in _ASIDE or totals["accepted_count"]:
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


def _decisions(records: pl.DataFrame, outcome: str, replay_id: str) -> list[dict[str, Any]]:
    """Decided records as runs of consecutive numbers per object, so that a whole batch is a handful of ledger rows."""
    numbered = records.select("_source_object", "_record_no").unique().sort("_source_object", "_record_no")
    runs = (
        numbered.with_columns(run=pl.col("_record_no") - pl.int_range(pl.len(), dtype=pl.Int64).over("_source_object"))
        .group_by("_source_object", "run")
        .agg(pl.col("_record_no").min().alias("first"), pl.col("_record_no").max().alias("last"))
        .sort("_source_object", "first")
    )
    now = clock.utc_now()
    return [
        {
            "replay_id": replay_id,
            "source_object": row["_source_object"],
            "record_from": row["first"],
            "record_to": row["last"],
            "outcome": outcome,
            "replayed_at": now,
        }
        for row in runs.iter_rows(named=True)
    ]
