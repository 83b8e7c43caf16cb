"""A ledger that is gone, made again from the archive's batch lists, the commits of the Delta tables and their rows.

What comes back: every batch with its objects, counts and outcome, decisions of replays, connector watermarks and what
was seen, so that nothing is fetched or stored twice. A batch that was not done is left *archived*; the next
ingest finishes it from the archive as after any crash. What is judged anew instead of believed: **no table has a
checked version** until gate and build have looked at it again. What does not come back: history of runs, quality
results and alerts (they are found again), and what other rooms keep of their own outputs.

Everything is worked out first and entered in one transaction; interrupted, it is simply run again.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from catalog import contracts
from catalog.contracts import Contract
from ingestion import archive, batch_list, pipeline
from ingestion.delivery import HELD
from ingestion.locks import resource_lock
from lake import clock, ledger, migrations, query, tables
from lake.errors import EXIT_UNAVAILABLE, EXIT_USAGE, TiyuError
from lake.settings import settings
from quality import quarantine, row_events
from quality.withdrawal import withdrawal_recorded

_DECISION = "rebuilt"


@dataclass
class RebuildReport:
    """What was entered. `unfinished` batches are completed by the next ingest; `kept` is where the old file went."""

    batches: int = 0
    objects: int = 0
    unfinished: int = 0
    withdrawn: int = 0
    decisions: int = 0
    kept: str | None = None


def rebuild() -> RebuildReport:
    """Make the ledger again; the old file, damaged or empty, is kept beside under another name.

    Raises TIYU-LED-0010 when a readable ledger holds batches or its place is not a local file, 0011 when the lake has
    batches that no list in the archive describes (written by an earlier version: only a backup helps).
    """
    url = settings().ledger_url
    if not url.startswith("sqlite:///"):
        raise _not_now("台账不是本机文件，请用数据库自身的备份恢复")
    file = Path(url.removeprefix("sqlite:///"))
    report = RebuildReport()
    sources = contracts.load_all("source")
    with ExitStack() as locks:
        for resource in sources:
            locks.enter_context(resource_lock(resource, timeout_s=5))
        if _holds_batches(file):
            raise _not_now("台账可读且有批次，不需要重建")
        report.kept = _set_aside(file)
        engine = sa.create_engine(url)  # not ledger.engine(): it refuses an empty ledger beside a filled archive
        migrations.migrate(engine, ledger.metadata)
        engine.dispose()
        rows: dict[sa.Table, list[dict[str, Any]]] = {}
        for contract in sources.values():
            _Resource(contract, rows, report).collect()
        with ledger.transaction() as connection:
            for table, values in rows.items():
                if values:
                    connection.execute(sa.insert(table), values)
    return report


def _not_now(reason: str) -> TiyuError:
    return TiyuError(
        "TIYU-LED-0010", "不重建控制台账", "确认确实要重建时，先停止服务，把现有台账文件移走", EXIT_USAGE, reason=reason
    )  # fmt: skip


def _holds_batches(file: Path) -> bool:
    """Whether a ledger can be read and knows any batch; a damaged file knows none."""
    if not file.is_file():
        return False
    engine = sa.create_engine(f"sqlite:///{file}")
    try:
        with engine.connect() as connection:
            found = connection.execute(sa.select(ledger.batch.c.batch_id).limit(1)).first() is not None
            return found and connection.exec_driver_sql("PRAGMA quick_check").scalar_one() == "ok"
    except sa.exc.DatabaseError:
        return False
    finally:
        engine.dispose()


def _set_aside(file: Path) -> str | None:
    """Rename the old file and SQLite's side files; a log beside another database would be replayed into it."""
    ledger.disconnect()
    kept = None
    stamp = f"{clock.utc_now():%Y%m%dT%H%M%S%f}"
    for old in (file, *(file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))):
        if old.exists():
            aside = old.with_name(f".{old.name}.replaced-{stamp}")
            os.replace(old, aside)
            kept = kept or str(aside)
    file.parent.mkdir(parents=True, exist_ok=True)
    return kept


class _Resource:
    """The ledger rows of one resource."""

    def __init__(self, contract: Contract, rows: dict[sa.Table, list[dict[str, Any]]], report: RebuildReport) -> None:
        self.contract, self.rows, self.report = contract, rows, report
        self.roots = [obj.table for obj in contract.roots]
        self.lists = batch_list.read_all(contract.id)
        self.stored: dict[str, Counter[str]] = {}
        self.days: dict[str, tuple[date, date]] = {}
        self.refused: dict[str, Counter[str]] = {}
        self.codes: dict[tuple[str, str], str] = {}
        self.held: set[str] = set()

    def add(self, table: sa.Table, *values: dict[str, Any]) -> None:
        self.rows.setdefault(table, []).extend(values)

    def collect(self) -> None:
        """Everything the resource has in archive and lake."""
        self._look_at_the_lake()
        known = {content["batch_id"] for content in self.lists}
        strangers = sorted(set(self.stored) - known)
        if strangers:
            raise TiyuError(
                "TIYU-LED-0011",
                "数据表中有归档未记载的批次，无法据此重建台账",
                "从备份恢复：tiyu restore 备份目录 --force",
                EXIT_UNAVAILABLE,
                resource=self.contract.id,
                batch=strangers[0],
            )
        objects_per_run: Counter[str] = Counter()
        watermark = None
        for content in self.lists:
            finished = self._batch(content)
            objects_per_run[content["run_id"]] += len(content["objects"])
            if finished and content["watermark"]:
                watermark = content["watermark"]
        signatures = {key: sha for content in self.lists for key, sha in content["signatures"].items()}
        resource = self.contract.id
        self.add(
            ledger.seen_signature,
            *({"resource": resource, "signature": key, "sha256": sha} for key, sha in signatures.items()),
        )
        if watermark:
            self.add(ledger.watermark, {"resource": resource, "state": watermark, "updated_at": clock.utc_now()})
        times = {content["run_id"]: content for content in self.lists}
        for run_id, count in objects_per_run.items():
            content = times[run_id]
            self.add(
                ledger.ingest_run,
                {
                    "run_id": run_id,
                    "resource": resource,
                    "status": "success",
                    "received_objects": count,
                    "duplicate_objects": 0,
                    "batch_id": content["batch_id"],
                    "started_at": content["started_at"],
                    "finished_at": content["started_at"],
                    "as_of_at": content["as_of_at"],
                },
            )

    def _look_at_the_lake(self) -> None:
        """Stored and refused records per batch and object; a refused record that is stored was replayed."""
        con = query.connect()
        try:
            present = [name for name in self.roots if tables.exists(name)]
            if present:
                for name in present:
                    query.register(con, name, "head")
                columns = "_batch_id, _source_object, _record_no, part_date"
                every = " UNION ALL ".join(f"SELECT {columns} FROM {query.quote_name(name)}" for name in present)
                con.execute(f"CREATE TEMP VIEW stored AS {every}")
                con.register("replaced", row_events.replaced_now(self.contract.id).to_arrow())
                # a record that a newer one replaced was accepted, although its row is gone
                con.execute(
                    "CREATE TEMP VIEW root AS SELECT _batch_id, _source_object, _record_no, part_date FROM stored"
                    " UNION ALL SELECT batch_id, source_object, record_no, NULL::DATE FROM replaced"
                )
                per_object = (
                    "SELECT _batch_id, _source_object, count(*), min(part_date), max(part_date) FROM root GROUP BY ALL"
                )
                for batch_id, sha256, count, first, last in con.execute(per_object).fetchall():
                    self.stored.setdefault(batch_id, Counter())[sha256] = count
                    if first is not None:
                        low, high = self.days.get(batch_id, (first, last))
                        self.days[batch_id] = min(low, first), max(high, last)
            else:
                con.execute("CREATE TEMP TABLE root (_batch_id VARCHAR, _source_object VARCHAR, _record_no BIGINT)")
            if not tables.exists(quarantine.TABLE):
                return
            query.register(con, quarantine.TABLE, "head", view="all_refused")
            con.execute(
                "CREATE TEMP TABLE refused AS SELECT DISTINCT q.batch_id, q.source_object, q.record_no, q.byte_from,"
                " q.record_no = 0 AND q.rule_id LIKE 'TIYU-%' AS whole, q.rule_id FROM all_refused AS q WHERE q.resource = ?",
                [self.contract.id],
            )
            rules = [rule.rule_id for rule in self.contract.root.batch_rules]
            self.held = {
                batch_id
                for (batch_id,) in con.execute(
                    "SELECT DISTINCT batch_id FROM refused WHERE list_contains(?::VARCHAR[], rule_id)", [rules]
                ).fetchall()
            }
            known = [content["batch_id"] for content in self.lists]
            con.execute("CREATE TEMP TABLE known AS SELECT unnest(?::VARCHAR[]) AS batch_id", [known])
            # decided: stored by a replay; of an object once refused as a whole that has rows now; of a superseded batch
            decided = con.execute(
                "SELECT DISTINCT r.batch_id, r.source_object, r.record_no, CASE WHEN s._record_no IS NOT NULL THEN 'accepted'"
                " ELSE 'reread' END AS outcome FROM refused AS r"
                " LEFT JOIN root AS s ON s._batch_id = r.batch_id AND s._source_object = r.source_object"
                "   AND s._record_no = r.record_no"
                " WHERE s._record_no IS NOT NULL OR r.batch_id NOT IN (SELECT batch_id FROM known)"
                " OR (r.whole AND (r.batch_id, r.source_object) IN (SELECT (_batch_id, _source_object) FROM root))"
                " ORDER BY ALL"
            ).fetchall()
            now = clock.utc_now()
            self.report.decisions += len(decided)
            self.add(
                ledger.quarantine_replay,
                *(
                    {
                        "replay_id": _DECISION,
                        "batch_id": batch_id,
                        "source_object": sha256,
                        "record_from": record_no,
                        "record_to": record_no,
                        "outcome": outcome,
                        "replayed_at": now,
                    }
                    for batch_id, sha256, record_no, outcome in decided
                    if sha256 is not None and record_no is not None
                ),
            )
            open_records = con.execute(
                "SELECT batch_id, source_object, count(DISTINCT (record_no, byte_from)),"
                " max(CASE WHEN whole THEN rule_id END) FROM refused AS r"
                " WHERE NOT EXISTS (SELECT 1 FROM root AS s WHERE s._batch_id = r.batch_id AND s._source_object = r.source_object"
                "   AND (s._record_no = r.record_no OR r.whole)) GROUP BY ALL"
            ).fetchall()
            for batch_id, sha256, count, code in open_records:
                self.refused.setdefault(batch_id, Counter())[sha256] = count
                if code:
                    self.codes[batch_id, sha256] = code
        finally:
            con.close()

    def _batch(self, content: dict[str, Any]) -> bool:
        """Enter one batch; returns whether it is finished."""
        batch_id = content["batch_id"]
        stored, refused = self.stored.get(batch_id, Counter()), self.refused.get(batch_id, Counter())
        held = not stored and batch_id in self.held
        withdrawn = not stored and not held and withdrawal_recorded(batch_id)
        finished = content["done"] or withdrawn or held or bool(stored)
        finished = finished or any(tables.has_batch(name, batch_id) for name in self.roots)
        objects = [{**item, "resource": self.contract.id, "batch_id": batch_id} for item in content["objects"]]
        decoded = pipeline.count_records(self.contract, objects) if finished else {}
        outcomes = []
        for item in objects:
            sha256 = item["sha256"]
            counts = {"decoded": decoded.get(sha256, 0), "accepted": stored[sha256], "quarantined": refused[sha256]}
            counts = counts if finished else dict.fromkeys(counts, 0)
            counts["duplicate"] = counts["decoded"] - counts["accepted"] - counts["quarantined"]
            if counts["duplicate"] < 0:
                raise TiyuError(
                    "TIYU-LED-0012",
                    "归档解码出的记录少于数据表中的记录，无法据此重建台账",
                    "从备份恢复：tiyu restore 备份目录 --force；没有备份时保留现场并报告维护者",
                    EXIT_UNAVAILABLE,
                    resource=self.contract.id,
                    object=item["name"],
                )
            code = self.codes.get((batch_id, sha256)) or (HELD.code if held else None)
            status = (
                "archived"
                if not finished
                else "refused"
                if withdrawn or code
                else "partial"
                if refused[sha256]
                else "accepted"
            )
            outcomes.append(
                {**item, "status": status, "reason": code, **{f"{name}_count": value for name, value in counts.items()}}
            )
        states = {outcome["status"] for outcome in outcomes}
        status = "held" if held else "withdrawn" if withdrawn else states.pop() if len(states) == 1 else "partial"
        totals = {
            f"{name}_count": sum(outcome[f"{name}_count"] for outcome in outcomes)
            for name in ("decoded", "accepted", "quarantined", "duplicate")
        }
        first, last = self.days.get(batch_id, (None, None))
        self.add(
            ledger.batch,
            {
                **{name: content[name] for name in ("batch_id", "resource", "contract_version", "run_id", "watermark")},
                **{name: content[name] for name in ("as_of_at", "started_at", "supersedes")},
                "status": status,
                "object_count": len(objects),
                "failures": 0,
                "first_part_date": first,
                "last_part_date": last,
                "finished_at": clock.utc_now() if finished else None,
                **totals,
            },
        )
        self.add(ledger.batch_object, *outcomes)
        self.report.batches += 1
        self.report.objects += len(objects)
        self.report.unfinished += not finished
        self.report.withdrawn += withdrawn
        missing = [item["name"] for item in objects if not archive.contains(self.contract.id, item["sha256"])]
        if missing:
            raise TiyuError(
                "TIYU-ARC-0001",
                "归档中找不到该对象",
                "从备份恢复归档目录后重跑",
                EXIT_UNAVAILABLE,
                resource=self.contract.id,
                object=missing[0],
            )
        return finished


__all__ = ["RebuildReport", "rebuild"]
