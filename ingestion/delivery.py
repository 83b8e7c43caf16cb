"""What becomes of a delivery that its batch rules do not like, and what is noted about every batch.

A held batch is archived and entered in the ledger, and each of its records that could have been stored is quarantined
under the rule that holds it: the books balance and nothing enters. A person lets it in by replaying it by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from catalog.contracts import Contract
from ingestion import batch_rules, corrections
from lake import ledger
from lake.errors import TiyuError
from quality import row_events

if TYPE_CHECKING:
    from ingestion.pipeline import BatchResult, Judged

HELD = TiyuError(
    "TIYU-ING-0022",
    "批次规则未通过，整批扣下，没有任何一行入库",
    "看 tiyu quarantine list 中的规则与原因；核实无误后用 tiyu quarantine replay 资源 --batch 批次号 放行，否则请来源方更正后重新报送",
)
"""What is entered for the objects of a held batch; the rule that holds it stands in the quarantine and the alert."""
HELD_ALERT, WARN_ALERT, COLUMN_ALERT = "IN-03", "IN-04", "IN-05"


def examine(
    contract: Contract,
    batch: dict[str, Any],
    objects: list[dict[str, Any]],
    judged: Judged,
    refusals: pl.DataFrame,
) -> list[batch_rules.Finding]:
    """What the batch rules say of a judged batch, before anything of it is stored."""
    if not contract.root.batch_rules:
        return []
    whole = {item.sha256 for item in judged.result.refusals}
    return batch_rules.examine(
        batch_rules.Delivery(
            contract,
            batch["batch_id"],
            batch["as_of_at"],
            {sha: count for sha, count in judged.decoded.items() if sha not in whole},
            refusals.filter(~pl.col("_source_object").is_in(list(whole))).height,
            judged.facts,
            {item["sha256"]: item["name"] for item in objects},
            judged.accepted["part_date"].min(),  # type: ignore[arg-type]
            batch_rules.control_objects(contract, objects),
            batch_rules.previous_rows(contract, batch),
        )
    )


def holding(batch: dict[str, Any], findings: list[batch_rules.Finding]) -> list[batch_rules.Finding]:
    """The findings that hold the batch. One that a person let in stays let in when its objects are read again under a new
    version of the contract."""
    stops = [item for item in findings if item.outcome == "stop"]
    if stops:
        noted = ledger.findings(batch["batch_id"])
        noted += ledger.findings(batch["supersedes"]) if batch.get("supersedes") else []
        if any(row["outcome"] == "released" for row in noted):
            return []
    return stops


def note_corrections(contract: Contract, batch: dict[str, Any], judged: Judged, key: str) -> None:
    """Enter which records were mended by which correction, and count them; a replay enters only what is new."""
    names = {item.id: corrections.rule_id(contract.root, item.id) for item in contract.root.corrections}
    judged.result.corrected_by_rule = {
        names[name]: count
        for name, count in judged.corrected.group_by("correction_id").len().sort("correction_id").iter_rows()
    }
    rows = judged.corrected.select(
        pl.lit(batch["batch_id"]).alias("batch_id"),
        pl.col("_source_object").alias("source_object"),
        pl.col("_record_no").alias("record_no"),
        pl.col("correction_id").replace_strict(names, return_dtype=pl.String).alias("rule_id"),
    )
    if not rows.is_empty() and key != batch["batch_id"]:
        rows = row_events.without(rows, row_events.of("corrected", batches=[batch["batch_id"]]))
    row_events.append(rows, f"{key}:corrected", resource=contract.id, table=contract.root.table, event="corrected")


def note_findings(
    contract: Contract, batch: dict[str, Any], result: BatchResult, stops: list[batch_rules.Finding]
) -> None:
    """Enter into the ledger what was noted about the batch: its batch rules, its corrections, the rules that warned."""
    common = {"resource": contract.id, "table_name": contract.root.table}
    reasons = {corrections.rule_id(contract.root, item.id): item.reason for item in contract.root.corrections}
    messages = {rule.rule_id: rule.message_zh for obj in contract.objects for rule in obj.rules}
    rows = batch_rules.as_rows(contract, result.batch_findings)
    for kind, outcome, counts in (
        ("correction", "applied", result.corrected_by_rule),
        ("row", "warn", result.warned_by_rule),
    ):
        rows += [
            {
                **common,
                "rule_id": rule_id,
                "kind": kind,
                "outcome": outcome,
                "examined_count": result.rules_examined.get(rule_id, count),
                "found_count": count,
                "message": reasons.get(rule_id) or messages.get(rule_id) or "行规则提示",
            }
            for rule_id, count in sorted(counts.items())
        ]
    if contract.root.drift.unknown_column == "add":
        rows += [
            {
                **common,
                "rule_id": f"{contract.root.rule_prefix}.drift.{column}",
                "kind": "drift",
                "outcome": "warn",
                "examined_count": result.objects,
                "found_count": count,
                "message": f"来源新增的列“{column}”尚未编目：只在归档中，未入湖",
            }
            for column, count in sorted(result.unknown_columns.items())
        ]
    if result.absence is not None and contract.root.deletes.by == "absence":
        gone, reason = result.absence
        rows.append(
            {
                **common,
                "rule_id": f"{contract.root.rule_prefix}.deletes.absence",
                "kind": "batch",
                "outcome": "warn" if reason else "pass",
                "examined_count": result.decoded,
                "found_count": gone,
                "message": reason or "快照不再列出的记录已标记删除",
            }
        )
    if not stops:  # what would hold it was let in by a person
        rows = [{**row, "outcome": "released" if row["outcome"] == "stop" else row["outcome"]} for row in rows]
    ledger.record_findings(batch["batch_id"], rows)


def tell(contract: Contract, batch: dict[str, Any], result: BatchResult, stops: list[batch_rules.Finding]) -> None:
    """Open the alerts of a delivery that its batch rules do not like; close the warning when the next one is fine."""
    if stops:
        ledger.open_alert(
            HELD_ALERT,
            "batch",
            batch["batch_id"],
            severity="orange",
            message=f"{contract.title}：" + "；".join(item.message_zh for item in stops),
            evidence={"resource": contract.id, "rules": [item.rule_id for item in stops], "status": result.status},
        )
    warnings = [item for item in result.batch_findings if item.outcome == "warn"]
    if warnings:
        ledger.open_alert(
            WARN_ALERT,
            "resource",
            contract.id,
            severity="yellow",
            message=f"{contract.title}：" + "；".join(item.message_zh for item in warnings),
            evidence={"batch": batch["batch_id"], "rules": [item.rule_id for item in warnings]},
        )
    elif result.batch_findings:
        ledger.close_alert(WARN_ALERT, "resource", contract.id)
    columns = sorted(result.unknown_columns)
    if columns and contract.root.drift.unknown_column == "add":
        ledger.open_alert(
            COLUMN_ALERT,
            "resource",
            contract.id,
            severity="yellow",
            message=f"{contract.title}：来源新增的列尚未编目（{'、'.join(columns[:10])}）；定级并提高契约版本后用 tiyu reread 取回",
            evidence={"batch": batch["batch_id"], "columns": columns[:50]},
        )


def uncatalogued(contract: Contract) -> list[dict[str, Any]]:
    """Columns that came and that the contract still does not know: ``column, objects, first_seen_at``, oldest first."""
    obj = contract.root
    known = {*contract.members, *(rename.from_name for rename in obj.renames)}
    if obj.drift.unknown_column != "add":
        return []
    prefix = f"{obj.rule_prefix}.drift."
    found: dict[str, dict[str, Any]] = {}
    for row in ledger.findings(resource=contract.id):
        column = row["rule_id"].removeprefix(prefix)
        if row["kind"] == "drift" and column not in known:
            entry = found.setdefault(column, {"column": column, "objects": 0, "first_seen_at": row["found_at"]})
            entry["objects"] += row["found_count"]
    return list(found.values())
