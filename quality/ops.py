"""The platform about itself: `ops_*` Delta tables published from the ledger once a run, so that every surface can
show freshness, balances and quality results without touching the ledger.

A table is rewritten only when its content changed; the hash of the content is kept in the commit's metadata. The
checked version moves with it, because these tables are written by the platform, not received.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from lake import clock, ledger, properties, tables
from quality import quarantine, row_events

if TYPE_CHECKING:
    from catalog.contracts import Contract

CONTENT = "tiyu.content_sha256"
_UTC = pl.Datetime("us", "UTC")

OUTCOME = {
    "batch_id": pl.String,
    "resource": pl.String,
    "contract_version": pl.String,
    "status": pl.String,
    "object_count": pl.Int64,
    "decoded_count": pl.Int64,
    "accepted_count": pl.Int64,
    "quarantined_count": pl.Int64,
    "duplicate_count": pl.Int64,
    "first_part_date": pl.Date,
    "last_part_date": pl.Date,
    "started_at": _UTC,
    "finished_at": _UTC,
}
FRESHNESS = {
    "resource": pl.String,
    "title": pl.String,
    "update_cycle": pl.String,
    "state": pl.String,
    "reason": pl.String,
    "refused_count": pl.Int64,
    "refused_at": _UTC,
    "latest_data_date": pl.Date,
    "last_success_at": _UTC,
    "is_missing": pl.Boolean,
    "due_at": _UTC,
    "received_count": pl.Int64,
    "accepted_count": pl.Int64,
    "quarantined_count": pl.Int64,
    "duplicate_count": pl.Int64,
}
RESULT = {
    "run_id": pl.String,
    "table_name": pl.String,
    "rule_id": pl.String,
    "layer": pl.String,
    "outcome": pl.String,
    "examined_count": pl.Int64,
    "failed_count": pl.Int64,
    "part_date_from": pl.Date,
    "part_date_to": pl.Date,
    "message": pl.String,
    "checked_at": _UTC,
}
FINDING = {
    "batch_id": pl.String,
    "resource": pl.String,
    "table_name": pl.String,
    "rule_id": pl.String,
    "kind": pl.String,
    "outcome": pl.String,
    "examined_count": pl.Int64,
    "found_count": pl.Int64,
    "message": pl.String,
    "found_at": _UTC,
}
GRADE_DECISION = {
    "scope": pl.String,
    "subject": pl.String,
    "level": pl.String,
    "mark": pl.String,
    "previous_level": pl.String,
    "rules": pl.String,
    "evidence": pl.String,
    "affected_object": pl.String,
    "degree": pl.String,
    "author": pl.String,
    "person_count": pl.Int64,
    "decided_at": _UTC,
}
GRADING = {"table_name": pl.String, "column_count": pl.Int64, "graded_count": pl.Int64}


def _frame(rows: list[dict[str, Any]], schema: dict[str, Any], order: list[str]) -> pl.DataFrame:
    kept = [{name: row[name] for name in schema} for row in rows]
    return pl.DataFrame(kept, schema=schema, orient="row").sort(order, nulls_last=True)


def due_at(contract: Contract, last_success_at: datetime, latest_data_date: date | None) -> datetime:
    """When the next update of a resource is due, UTC: one update cycle plus grace after the data it last brought.

    Data is as of the last successful run, or, when what arrived ends earlier, as of the end of its latest Shanghai
    day: a source that keeps sending old data is late. `due_time` moves the instant to that time of the due day.
    """
    known_until = last_success_at
    if latest_data_date is not None:
        end_of_day = datetime.combine(latest_data_date + timedelta(days=1), time(0), tzinfo=clock.SHANGHAI)
        known_until = min(known_until, end_of_day.astimezone(UTC))
    due = known_until + timedelta(hours=contract.cycle_hours)
    if contract.due_time:
        local = due.astimezone(clock.SHANGHAI)
        hour, minute = contract.due_time.split(":")
        due = max(due, local.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0).astimezone(UTC))
    return due + timedelta(hours=contract.grace_hours)


def is_missing(state: str, last_success_at: datetime | None) -> bool:
    """Whether figures of yesterday lack a source: it is not fresh, and nothing came since the business day began (Shanghai).

    What is said to the public and in the cockpit's sentences about missing data rests on this column alone.
    """
    began = datetime.combine(clock.today(), time(0), tzinfo=clock.SHANGHAI)
    return state != "fresh" and (last_success_at is None or last_success_at < began)


def freshness() -> list[dict[str, Any]]:
    """One row per source contract: fresh, late, failed (the last run failed) or never, with all-time record counts.

    received = accepted + quarantined + duplicate. The instant of comparison is the business clock's. ``reason`` says in
    Chinese why something is missing, in closed words (`problem_zh`): the last run's error, how long nothing has come, or that
    files of the newest delivery were refused as a whole (``refused_count`` of them, delivered at ``refused_at``); None when
    nothing is. A stream that nothing was ever received of is left out: it is set up where there is a broker, by starting
    `tiyu stream`, and owes nothing before. ``is_missing``: see :func:`is_missing`.
    """
    from catalog import contracts

    now = clock.as_of()
    rows = []
    for contract in contracts.load_all("source").values():
        batches = [batch for batch in ledger.batches(contract.id) if batch["status"] != "archived"]
        runs = ledger.runs(contract.id)
        if contract.is_stream and not runs:
            continue
        good = [batch for batch in batches if batch["status"] in ("accepted", "partial")]
        last_success = max((batch["as_of_at"] or batch["finished_at"] for batch in good), default=None)
        latest = max((batch["last_part_date"] for batch in good if batch["last_part_date"]), default=None)
        finished = [run for run in runs if run["status"] != "running"]
        due = due_at(contract, last_success, latest) if last_success else None
        if finished and finished[-1]["status"] == "failed":
            state = "failed"
        elif due is None:
            state = "never"
        else:
            state = "late" if now > due else "fresh"
        newest = max(batches, key=lambda batch: batch["started_at"], default=None)
        refused = [item for item in ledger.objects(newest["batch_id"]) if item["status"] == "refused"] if newest else []
        rows.append(
            {
                "resource": contract.id,
                "title": contract.title,
                "update_cycle": contract.update_cycle_zh,
                "state": state,
                "reason": _reason(contract, state, finished[-1] if finished else None, latest, due, refused),
                "refused_count": len(refused),
                "refused_at": newest["as_of_at"] if newest and refused else None,
                "latest_data_date": latest,
                "last_success_at": last_success,
                "is_missing": is_missing(state, last_success),
                "due_at": due,
                "received_count": sum(batch["decoded_count"] for batch in batches),
                "accepted_count": sum(batch["accepted_count"] for batch in batches),
                "quarantined_count": sum(batch["quarantined_count"] for batch in batches),
                "duplicate_count": sum(batch["duplicate_count"] for batch in batches),
            }
        )
    return rows


def _reason(
    contract: Contract,
    state: str,
    run: dict[str, Any] | None,
    latest: date | None,
    due: datetime | None,
    refused: list[dict[str, Any]],
) -> str | None:
    """Every district reads this whole, so it is made of closed parts only: texts of the vocabulary `ingest_problem`, codes, dates,
    counts, and names of columns that the contract itself declares. No file name and no word of a message."""
    parts = []
    if state == "failed" and run:
        parts.append(problem_zh(run["error_code"]))
    elif state == "late" and due:
        until = f"{due.astimezone(clock.SHANGHAI):%m-%d %H:%M}"
        parts.append(f"应于 {until} 前更新，数据只到 {latest}" if latest else f"应于 {until} 前更新，未收到")
    elif state == "never":
        parts.append("从未收到数据")
    if refused:
        shown = refused[-1]
        text = f"{len(refused)} 个文件被整体拒收：{problem_zh(shown['reason'])}"
        named = quarantine.reason_of(shown["batch_id"], shown["sha256"]) or ""
        columns = [name for name in contract.members if name in named.partition("：")[2].split("、")]
        parts.append(text + (f"：{'、'.join(columns)}" if columns else ""))
    return "；".join(parts) or None


def problem_zh(code: str | None) -> str:
    """What an error code of an ingest means, in the words of the vocabulary `ingest_problem`, and the code; a code that is
    not in it is only said to be a failure."""
    from catalog import vocabularies

    texts = {row["code"]: row["name"] for row in vocabularies.load("ingest_problem")}
    if code is None or code not in texts:
        return str(texts["other"])
    return f"{texts[code]}（{code}）"


def grading() -> list[dict[str, Any]]:
    """Per table: how many columns it has and how many carry a grade (KPI D-06)."""
    from catalog import columns

    counts: dict[str, list[int]] = {}
    for row in columns.describe_all():
        entry = counts.setdefault(row["table"], [0, 0])
        entry[0] += 1
        entry[1] += bool(row["grade"])
    return [{"table_name": name, "column_count": n, "graded_count": g} for name, (n, g) in counts.items()]


def _findings() -> list[dict[str, Any]]:
    """What was noted about batches, without unknown columns: a header may hold anything, so it is told to operators alone."""
    return [row for row in ledger.findings() if row["kind"] != "drift"]


def _publish(name: str, frame: pl.DataFrame, run_id: str) -> bool:
    """Write the table if its content differs from the head; returns whether it did."""
    digest = hashlib.sha256(repr(frame.schema).encode() + frame.write_csv().encode()).hexdigest()
    head = tables.version(name)
    changed = head is None or tables.commit_metadata(name, head).get(CONTENT) != digest
    if changed:
        head = tables.replace_table(name, frame, metadata={CONTENT: digest})
    ledger.set_checked_version(name, int(head or 0), run_id)
    return changed


def publish_ops(run_id: str | None = None) -> dict[str, bool]:
    """Publish the `ops_*` tables; returns per table whether it was rewritten.

    The quarantine, the events of records and the lake's properties are written elsewhere as things happen; here they only become visible.
    """
    run_id = run_id or f"ops-{uuid.uuid4().hex[:12]}"
    frames = {
        "ops_ingest__outcome": _frame(ledger.batches(), OUTCOME, ["started_at", "batch_id"]),
        "ops_ingest__finding": _frame(_findings(), FINDING, ["found_at", "batch_id", "rule_id"]),
        "ops_ingest__freshness": _frame(freshness(), FRESHNESS, ["resource"]),
        "ops_quality__result": _frame(
            ledger.quality_results(), RESULT, ["checked_at", "table_name", "rule_id", "run_id"]
        ),
        "ops_quality__grading": _frame(grading(), GRADING, ["table_name"]),
        "ops_quality__grade_decision": _frame(
            ledger.grade_decisions(), GRADE_DECISION, ["decided_at", "scope", "subject"]
        ),
    }
    written = {name: _publish(name, frame, run_id) for name, frame in frames.items()}
    if not tables.exists(quarantine.TABLE):
        tables.replace_table(quarantine.TABLE, quarantine.empty())
    if not tables.exists(row_events.TABLE):
        tables.replace_table(row_events.TABLE, row_events.SCHEMA.empty_table())
    for name in (quarantine.TABLE, row_events.TABLE, properties.TABLE):
        head = tables.version(name)
        if head is not None:
            ledger.set_checked_version(name, head, run_id)
    return written
