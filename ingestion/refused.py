"""Refused records as a person sees them: what there is, why, how to mend it, and giving some of them up.

Nothing here brings a record back; that is a replay (`ingestion.replay`). A record that was given up stays in the archive and in
the quarantine table; the decision is in the ledger, with who and why, and can be taken back.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ingestion import archive, precedence, sources
from ingestion.locks import resource_lock
from lake import ledger, query
from lake.errors import EXIT_USAGE, TiyuError
from protection import redaction
from quality import quarantine
from quality.withdrawal import RULE_ID

SURFACE = "quarantine"
ASIDE = ("withdrawn", "held")
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
    object: str
    object_name: str | None
    record_no: int | None
    rule_id: str
    preview: str | None


@dataclass
class RefusedDetail:
    """One refused record in full: where it lies, why, what may be shown of it, and how to mend it."""

    resource: str
    batch_id: str
    batch_status: str
    contract_version: str
    object: str
    object_name: str | None
    record_no: int | None
    byte_from: int | None
    byte_to: int | None
    rule_id: str
    reason: str
    preview: str | None
    quarantined_at: datetime
    remedy: str


@dataclass
class Discarded:
    """Records that a person gave up together: `decision` names the undertaking, with which it can be taken back."""

    decision: str
    resource: str
    records: int
    batches: int
    reason: str
    account: str
    at: datetime


@dataclass(frozen=True)
class Filter:
    """Which refused records are meant; what is None does not matter. `batch` and `sha256` may be beginnings (8 characters)."""

    resource: str | None = None
    rule: str | None = None
    batch: str | None = None
    sha256: str | None = None
    record_no: int | None = None

    def sql(self) -> tuple[str, dict[str, Any]]:
        """A condition on quarantine columns and its parameters."""
        conditions = {
            "resource = $resource": self.resource,
            "rule_id = $rule": self.rule,
            "starts_with(batch_id, $batch)": self.batch,
            "starts_with(source_object, $sha256)": self.sha256,
            "record_no = $record_no": self.record_no,
        }
        used = {condition: value for condition, value in conditions.items() if value is not None}
        names = {condition: re.findall(r"[$](\w+)", condition)[0] for condition in used}
        return " AND ".join(used) or "true", {names[condition]: value for condition, value in used.items()}


def refused(
    resource: str | None = None, *, limit: int = 20, only: Filter | None = None
) -> tuple[list[Refused], list[RefusedRecord]]:
    """Records that are still refused: counts by resource and rule, and the latest `limit` of them with previews."""
    if resource:
        sources.contract_of(resource)
    condition, named = (only or Filter(resource)).sql()
    con = query.connect()
    try:
        quarantine.register_open(con)
        withdrawn = [row["batch_id"] for row in ledger.batches(resource) if row["status"] in ASIDE]
        chosen = f"(SELECT *, list_contains($withdrawn, batch_id) AS w FROM open_quarantine WHERE {condition})"
        values = {"withdrawn": withdrawn, **named}
        groups = con.execute(
            "SELECT resource, rule_id, min(reason), count(DISTINCT (batch_id, source_object, record_no)),"
            f" count(DISTINCT source_object), list(DISTINCT batch_id ORDER BY batch_id), w FROM {chosen}"
            " GROUP BY resource, rule_id, w ORDER BY resource, 4 DESC, rule_id",
            values,
        ).fetchall()
        rows = con.execute(
            f"SELECT resource, batch_id, source_object, object_name, record_no, rule_id, preview FROM {chosen}"
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


def show(only: Filter, *, limit: int = 5) -> list[RefusedDetail]:
    """Refused records in full, in the order of their objects.

    Raises TIYU-ING-0017 when none is meant.
    """
    condition, values = only.sql()
    con = query.connect()
    try:
        quarantine.register_open(con)
        rows = con.execute(
            "SELECT resource, batch_id, source_object, object_name, record_no, byte_from, byte_to, rule_id, reason, preview,"
            f" quarantined_at FROM open_quarantine WHERE {condition} ORDER BY resource, batch_id, source_object, record_no"
            f" LIMIT {int(limit)}",
            values,
        ).fetchall()
    finally:
        con.close()
    if not rows:
        raise _nothing_meant(only)
    batches = {row["batch_id"]: row for row in ledger.batches()}
    return [
        RefusedDetail(
            resource, batch_id, batches[batch_id]["status"], batches[batch_id]["contract_version"], sha256,
            name and redaction.redact(name, SURFACE), number, first, last, rule_id, reason, preview, at,
            remedy(resource, batch_id, rule_id, batches[batch_id]["status"], f"{sha256[:12]}#{number}"),
        )
        for resource, batch_id, sha256, name, number, first, last, rule_id, reason, preview, at in rows
    ]  # fmt: skip


def _nothing_meant(only: Filter) -> TiyuError:
    return TiyuError(
        "TIYU-ING-0017",
        "隔离区中没有符合条件的记录",
        "用 tiyu quarantine list 核对资源、规则、批次、对象与记录号；已重放或已放弃的不在其中（tiyu row 可查）",
        EXIT_USAGE,
        **{name: value for name, value in vars(only).items() if value is not None},
    )


def remedy(resource: str, batch_id: str, rule_id: str, batch_status: str, record: str) -> str:
    """What can be done about a record (``object#number``) that a rule refused, in Chinese."""
    again = f"tiyu quarantine replay {resource}"
    if batch_status == "held":
        return f"整批被批次规则扣下：核实无误用 {again} --batch {batch_id} 放行，否则请来源更正后重报"
    if rule_id == RULE_ID or batch_status == "withdrawn":
        return f"整批被撤回：查明原因、修好后用 {again} --batch {batch_id} 指名重放，再 tiyu gate {resource}"
    if rule_id.endswith(".dedup.conflict"):
        return (
            f"同一主键来过两种内容，先到的已入库（tiyu row {record} 说明是哪一条）：与来源核实哪条为准；"
            "后到的为准时请来源带新的更新时间重报，否则放弃这一条"
        )
    if rule_id.startswith("TIYU-ARC"):
        return archive.REMEDY
    if rule_id.startswith("TIYU-"):
        return f"整个对象没有读入：请来源改正后重报；版式确已改变则修改契约，再 {again}"
    if rule_id.startswith("decode."):
        return f"这条记录读不出来（位置见字节范围）：请来源更正重报；解码设置有误则修改契约，再 {again}"
    if rule_id.endswith(".reference"):
        return f"参照的登记里没有它：先汇聚并检查参照资源，再 {again}"
    if rule_id.endswith(".type"):
        return f"值不是契约要的类型：来源写错则请其更正重报；契约写错则修改契约，再 {again}（改了列类型要升版本并 tiyu reread）"
    return (
        f"值不合规则：来源写错则请其更正重报；规则写错则修改契约，再 {again}；确认不要的用 tiyu quarantine discard 放弃"
    )


def discard(only: Filter, reason: str, account: str) -> Discarded:
    """Give refused records up: they stay in archive and quarantine, and are neither shown as open nor replayed any more.

    Raises TIYU-ING-0001, 0017 (none is meant), 0018 (no reason, or nothing but a resource was named).
    """
    if only.resource is None or only == Filter(only.resource) or not reason.strip():
        raise TiyuError(
            "TIYU-ING-0018",
            "放弃隔离记录须写明理由与范围",
            "除资源外至少指明规则、批次、对象或记录号之一，并用 --reason 写明理由",
            EXIT_USAGE,
            resource=only.resource,
        )
    resource = sources.contract_of(only.resource).id
    condition, values = only.sql()
    with resource_lock(resource):
        con = query.connect()
        try:
            quarantine.register_open(con)
            records = con.execute(
                "SELECT DISTINCT batch_id, source_object AS _source_object, record_no AS _record_no FROM open_quarantine"
                f" WHERE {condition}",
                values,
            ).pl()
        finally:
            con.close()
        if records.is_empty():
            raise _nothing_meant(only)
        done = Discarded(
            f"discard_{uuid.uuid4().hex[:12]}", resource, records.height, records["batch_id"].n_unique(),
            redaction.redact(reason.strip(), SURFACE), account, ledger.next_decision_at(),
        )  # fmt: skip
        decisions = precedence.runs(records, done.decision, "discarded", done.at, reason=done.reason)
        ledger.record_decisions([{**row, "decided_by": account} for row in decisions])
    return done


def discards(resource: str | None = None) -> list[Discarded]:
    """What was given up and not taken back, newest first."""
    names = {row["batch_id"]: row["resource"] for row in ledger.batches()}
    found: dict[str, Discarded] = {}
    for row in ledger.replays():
        known = names.get(row["batch_id"])
        if row["outcome"] != "discarded" or known is None or resource not in (None, known):
            continue
        one = found.setdefault(
            row["replay_id"],
            Discarded(row["replay_id"], known, 0, 0, row["reason"], row["decided_by"], row["replayed_at"]),
        )
        one.records += row["record_to"] - row["record_from"] + 1
        one.batches += 1
    return sorted(found.values(), key=lambda item: item.at, reverse=True)


def take_back(decision: str) -> Discarded:
    """Undo a discard as a whole: its records are refused again, as they were. Raises TIYU-ING-0019 for an unknown one."""
    one = next((item for item in discards() if item.decision == decision), None)
    if one is None:
        raise TiyuError(
            "TIYU-ING-0019", "没有这次放弃，或已经取回", "用 tiyu quarantine list --discarded 核对编号", EXIT_USAGE,
            decision=decision,
        )  # fmt: skip
    with resource_lock(one.resource):
        ledger.revoke_decisions(decision, "discarded")
    return one


__all__ = [
    "Discarded",
    "Filter",
    "Refused",
    "RefusedDetail",
    "RefusedRecord",
    "discard",
    "discards",
    "refused",
    "remedy",
    "show",
    "take_back",
]
