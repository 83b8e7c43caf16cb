"""After a contract changed: read a resource's history again from the archive, under the new version, without fetching.

The version of the contract is part of a batch's identity, so every batch becomes a new one with the same objects, in
the same order, judged as of the instant it came in. Afterwards the tables are those of an installation that had the
new contract from the beginning:

1. every object is read and judged once without writing anything; one that could be read and no longer can (its layout
   is not the new contract's) stops the whole undertaking;
2. one ledger transaction opens all batches again and closes what they had in quarantine;
3. the tables become empty tables of the new layout, one commit each;
4. the batches are processed like any archived batch.

A crash after 2 is finished by running this again, or by the next ingest. Readers see the last checked version all the
while; the gate refuses to judge until every batch is back. Batches withdrawn by the gate or an operator stay
withdrawn, those held by a batch rule stay held.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from catalog.contracts import Contract
from ingestion import batch_list, pipeline, sources
from ingestion.locks import resource_lock
from ingestion.pipeline import Progress
from ingestion.run import IngestReport, batch_identity, recover
from lake import clock, ledger, tables
from lake.errors import EXIT_USAGE, TiyuError
from quality import quarantine


@dataclass
class RereadReport:
    """What became of the history: counts before and after, and from which contract versions it was taken over."""

    resource: str
    contract_version: str
    from_versions: list[str] = field(default_factory=list)
    batches: int = 0
    objects: int = 0
    withdrawn_left: int = 0
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    ingest: IngestReport | None = None


_COUNTS = ("decoded", "accepted", "quarantined", "duplicate")


def reread(resource: str, progress: Progress | None = None) -> RereadReport:
    """Read every archived object of a resource again under its contract's current version.

    Raises TIYU-ING-0001 for an unknown resource, 0014 when there is nothing to read again (the version was not raised,
    or there is no history), 0015 when objects can no longer be read, 0016 when the version was used before, and what
    processing a batch raises.
    """
    contract = sources.contract_of(resource)
    report = RereadReport(resource, contract.version)
    with resource_lock(resource):
        started, run_id = time.monotonic(), f"r_{uuid.uuid4().hex}"
        every = ledger.batches(resource)
        report.withdrawn_left = sum(batch["status"] in ("withdrawn", "held") for batch in every)
        batches = [batch for batch in every if batch["status"] not in ("withdrawn", "held")]
        report.before = _sums(batches)
        old = [batch for batch in batches if batch["contract_version"] != contract.version]
        interrupted = any(batch["status"] == "archived" and batch["supersedes"] for batch in batches)
        if not old and not interrupted:
            raise TiyuError(
                "TIYU-ING-0014",
                "没有需要重读的历史",
                "先修改契约并提高其版本号（version），再运行本命令",
                EXIT_USAGE,
                resource=resource,
                version=contract.version,
                batches=len(batches),
            )
        report.from_versions = sorted({batch["contract_version"] for batch in old})
        if old:
            renamed = _identities(contract, batches)
            _require_readable(contract, batches, progress)
            for batch in batches:
                watermark, signatures = batch_list.carried_over(batch)
                new = {
                    **batch,
                    "watermark": watermark,
                    "batch_id": renamed[batch["batch_id"]],
                    "contract_version": contract.version,
                    "supersedes": batch["batch_id"],
                }
                batch_list.write(new, ledger.objects(batch["batch_id"]), signatures)
            ledger.supersede_batches(renamed, contract.version, f"reread_{uuid.uuid4().hex[:16]}")
        report.ingest = IngestReport(resource, run_id)
        ledger.start_run(run_id, resource, clock.as_of())
        try:
            recover(contract, report.ingest, progress)
        except Exception as error:
            code = error.code if isinstance(error, TiyuError) else "TIYU-ING-0099"
            ledger.finish_run(run_id, "failed", error_code=code, error_message=type(error).__name__)
            raise
        ledger.finish_run(run_id, report.ingest.status, batch_id=report.ingest.batches[-1].batch_id)
        report.ingest.seconds = round(time.monotonic() - started, 3)
        report.batches = len(report.ingest.batches)
        report.objects = sum(result.objects for result in report.ingest.batches)
        report.after = _sums(
            [batch for batch in ledger.batches(resource) if batch["status"] not in ("withdrawn", "held")]
        )
    return report


def _sums(batches: list[dict[str, Any]]) -> dict[str, int]:
    return {name: sum(batch[f"{name}_count"] for batch in batches) for name in _COUNTS}


def _identities(contract: Contract, batches: list[dict[str, Any]]) -> dict[str, str]:
    """Old batch id → id under the contract's version; a version that was used and left again cannot be told apart."""
    renamed = {}
    written = [obj.table for obj in contract.objects] + [quarantine.TABLE]
    for batch in batches:
        sha256s = [item["sha256"] for item in ledger.objects(batch["batch_id"])]
        new = batch_identity(contract.id, contract.version, sha256s)
        if any(tables.has_batch(table, new) for table in written):
            raise TiyuError(
                "TIYU-ING-0016",
                "该契约版本曾经用过，不能再次按它重读",
                "把契约版本号提高到没有用过的值",
                EXIT_USAGE,
                resource=contract.id,
                version=contract.version,
            )
        renamed[batch["batch_id"]] = new
    return renamed


def _require_readable(contract: Contract, batches: list[dict[str, Any]], progress: Progress | None) -> None:
    """Judge everything without writing: no object that was read before may be refused as a whole now."""
    lost: list[str] = []
    examined = 0
    for batch in batches:
        objects = ledger.objects(batch["batch_id"])
        readable = {item["sha256"] for item in objects if item["status"] in ("accepted", "partial", "archived")}
        judged = pipeline.judge(contract, batch, objects, progress, as_of=batch["as_of_at"])
        lost += [f"{item.object_name}（{item.code}）" for item in judged.result.refusals if item.sha256 in readable]
        examined += len(objects)
    if lost:
        raise TiyuError(
            "TIYU-ING-0015",
            "按新契约读不了一部分已入库的对象，未作任何改动",
            "让新契约仍能读旧文件的版式（不改 physicalName，新列设为可缺），或保留历史不重读",
            resource=contract.id,
            objects=examined,
            unreadable=len(lost),
            first=lost[0],
        )


__all__ = ["RereadReport", "reread"]
