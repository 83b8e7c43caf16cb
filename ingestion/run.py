"""The verb `ingest`: fetch what is new, archive it, record the batch, bring it into the lake; recover first.

Order of durable steps: objects into the archive → ledger row of the batch (state *archived*) → quarantine, child and
root tables (each keyed by the batch id) → ledger row closed together with the connector's watermark. A crash before the
ledger row costs a second fetch of the same objects; a crash after it is repaired from the archive, without fetching.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

from catalog.contracts import Contract
from ingestion import archive, batch_list, connectors, decoders, naming, pipeline, sources, staging
from ingestion.connectors.base import ObjectChanged
from ingestion.leaks import BatchStopped
from ingestion.locks import resource_lock
from ingestion.pipeline import BatchResult, Progress
from lake import clock, ledger, steps, storage
from lake.errors import EXIT_INTERNAL, TiyuError

POISON_ATTEMPTS = 3


@dataclass(frozen=True)
class History:
    """A part of the past to read again: ``state`` to start the connector from, ``wants`` by an object's signature."""

    state: dict[str, Any]
    wants: Callable[[str], bool]


@dataclass
class IngestReport:
    """What one run of `ingest` did. ``received_objects == new + duplicate_objects``; ``postponed_objects``
    changed or went away while they were read and wait for the next run; counts are sums over batches."""

    resource: str
    run_id: str
    status: str = "nothing_new"
    received_objects: int = 0
    duplicate_objects: int = 0
    postponed_objects: int = 0
    interrupted_runs: int = 0
    recovered_batches: int = 0
    decoded: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicate: int = 0
    seconds: float = 0.0
    batches: list[BatchResult] = field(default_factory=list)

    def add(self, result: BatchResult) -> None:
        """Count a finished batch."""
        self.batches.append(result)
        self.status = "success"
        self.decoded += result.decoded
        self.accepted += result.accepted
        self.quarantined += result.quarantined
        self.duplicate += result.duplicate

    @property
    def refusals(self) -> list[pipeline.Refusal]:
        """Objects refused as a whole, over all batches."""
        return [refusal for result in self.batches for refusal in result.refusals]


def batch_identity(resource: str, contract_version: str, sha256s: list[str]) -> str:
    """Batch id: the same objects in the same order under the same contract version are the same batch, for ever."""
    digest = hashlib.sha256("\n".join([resource, contract_version, *sha256s]).encode())
    return f"b_{digest.hexdigest()[:32]}"


def ingest(
    resource: str,
    from_dir: str | os.PathLike[str] | None = None,
    *,
    max_bytes: int | None = None,
    progress: Progress | None = None,
    history: History | None = None,
) -> IngestReport:
    """Ingest everything pending of a source resource and return the balanced account.

    ``history`` asks for what the source holds of the past instead, seen or not (see `ingestion.backfill`); the
    watermark of the scheduled ingest stays where it is. ``max_bytes`` of source objects make a batch (default: by decoder,
    so that a batch fits into memory).
    Raises TIYU-ING-0001 for an unknown resource, connector and archive errors (exit code 3), TIYU-ING-0006 when the
    books do not balance, TIYU-ING-0013 when the contract's columns changed and history was not read again. Refused objects and rows are no error: they are in the report, in quarantine and in the
    archive, and an alert is open.
    """
    contract = sources.contract_of(resource)
    run_id = f"r_{uuid.uuid4().hex}"
    report = IngestReport(resource, run_id)
    started = time.monotonic()
    with resource_lock(resource):
        report.interrupted_runs = ledger.end_interrupted_runs(resource)
        ledger.start_run(run_id, resource, clock.as_of())
        try:
            archive.clean_partials(resource)
            staging.clean(resource)
            recover(contract, report, progress)
            _fetch_all(contract, report, from_dir, max_bytes, progress, history)
        except TiyuError as error:
            _record_failure(report, error)
            raise
        except Exception as error:
            if found := storage.fault(error):
                _record_failure(report, found)
                raise found from None
            with suppress(TiyuError):
                ledger.finish_run(
                    run_id,
                    "failed",
                    error_code="TIYU-ING-0099",
                    error_message=type(error).__name__,
                    received_objects=report.received_objects,
                    duplicate_objects=report.duplicate_objects,
                )
            raise
        ledger.finish_run(
            run_id,
            report.status,
            received_objects=report.received_objects,
            duplicate_objects=report.duplicate_objects,
            batch_id=report.batches[-1].batch_id if report.batches else None,
        )
        ledger.close_alert("IN-02", "resource", resource)
        if report.refusals:
            ledger.open_alert(
                "IN-01",
                "resource",
                resource,
                severity="yellow",
                message=f"{len(report.refusals)} 个文件被整体拒收",
                evidence={"objects": [{"name": r.object_name, "code": r.code} for r in report.refusals[:20]]},
            )
    report.seconds = round(time.monotonic() - started, 3)
    return report


def _record_failure(report: IngestReport, error: TiyuError) -> None:
    """Enter a coded failure into the ledger, if the ledger can still be written: the error itself must reach the operator."""
    with suppress(TiyuError):
        ledger.finish_run(
            report.run_id,
            "failed",
            error_code=error.code,
            error_message=error.message_zh,
            received_objects=report.received_objects,
            duplicate_objects=report.duplicate_objects,
        )
        ledger.open_alert(
            "IN-02",
            "resource",
            report.resource,
            severity="orange",
            message=f"{error.code} {error.message_zh}",
            evidence={"run_id": report.run_id},
        )


def recover(contract: Contract, report: IngestReport, progress: Progress | None) -> None:
    """Finish what is archived but not yet in the lake, oldest first; the resource's lock is held.

    Raises TIYU-ING-0013 when the tables are of another layout than the contract's.
    """
    waiting = ledger.batches(contract.id, "archived")
    if any(batch["supersedes"] for batch in waiting):
        pipeline.empty_tables(contract)
    pipeline.require_layout(contract)
    for batch in waiting:
        report.add(_process(contract, batch, progress))
        report.recovered_batches += 1


def _fetch_all(
    contract: Contract,
    report: IngestReport,
    from_dir: Any,
    max_bytes: int | None,
    progress: Progress | None,
    history: History | None,
) -> None:
    assert contract.server is not None
    uri = None if from_dir else connectors.uri_from_environment(contract.server.connection)
    known = set() if history else ledger.known_signatures(contract.id)
    state = dict(history.state) if history else ledger.get_watermark(contract.id)
    limit = max_bytes or decoders.batch_bytes(contract.server.decoder)
    while True:
        received = report.received_objects
        connector = connectors.create(
            contract.server,
            uri,
            partial(_is_known, known, history),
            from_dir=from_dir,
            columns=contract.members,
            resource=contract.id,
        )
        with steps.step("archive"):
            batch, signatures = _archive(contract, report, connector.fetch(state, max_bytes=limit), progress)
        state = connector.next_state()
        if batch is None:
            ledger.remember_signatures(contract.id, signatures)
        else:
            # what was asked for by hand has no place in the watermark of the scheduled source
            values = {**batch[0], "watermark": None if from_dir or history else _watermark(state)}
            batch_list.write(values, batch[1], signatures)
            with steps.step("ledger"):
                ledger.open_batch(values, batch[1], signatures)
            report.add(_process(contract, values, progress))
        known |= set(signatures)
        if not state.get("more") or report.received_objects == received:  # nothing came: do not ask for ever
            return


def _watermark(state: dict[str, Any]) -> str:
    """The connector's state as the ledger keeps it: what lives as long as the run (underscore) is left out."""
    return json.dumps({key: value for key, value in state.items() if not key.startswith("_")}, sort_keys=True)


def _process(contract: Contract, batch: dict[str, Any], progress: Progress | None) -> BatchResult:
    """Process a batch; from the third unforeseen error on, look for the objects that cause it and refuse those.

    A batch stopped for what its objects must not hold (TIYU-ING-0020) stays archived and fails the run once, so that
    somebody looks; the next run refuses those objects as a whole and lets the others in.
    Raises TIYU-ING-0007 (type only, since a message may hold values) while the cause is not isolated.
    """
    try:
        return pipeline.process(contract, batch, progress)
    except BatchStopped as stopped:
        if ledger.count_failure(batch["batch_id"]) == 1:
            raise
        poison = stopped.objects
    except TiyuError:
        raise
    except Exception as error:
        if found := storage.fault(error):  # not the batch's fault: it must not count against it
            raise found from None
        attempts = ledger.count_failure(batch["batch_id"])
        poison = pipeline.find_poison(contract, batch) if attempts >= POISON_ATTEMPTS else {}
        if not poison:
            raise TiyuError(
                "TIYU-ING-0007",
                "处理批次时出现未预见的错误，批次已留存，未入库",
                "直接重跑；若反复出现，问题对象会被自动隔离，请将错误类型报告维护者",
                EXIT_INTERNAL,
                resource=contract.id,
                batch=batch["batch_id"],
                type=type(error).__name__,
                attempt=attempts,
            ) from None
    return pipeline.process(contract, batch, progress, poison=poison)


def _is_known(known: set[str], history: History | None, signature: str) -> bool:
    """Whether an object need not be fetched: it was, or it is not of the past that is asked for."""
    if history is not None and not history.wants(signature):
        return True
    return naming.fingerprint(signature) in known


def _opened(contract: Contract, item: connectors.FetchedObject) -> BinaryIO:
    """The object's bytes. A connector knows no contract, so an object that cannot be opened is named here as it may be written
    down: a file may be called after a person, and the error goes to logs, ledger and alerts."""
    try:
        return item.open()
    except TiyuError as error:
        if "object" in error.context:
            error.context["object"] = naming.protect_name(contract, item.name)
        raise


def _archive(
    contract: Contract, report: IngestReport, fetched: Iterator[connectors.FetchedObject], progress: Progress | None
) -> tuple[tuple[dict[str, Any], list[dict[str, Any]]] | None, dict[str, str]]:
    """Seal the fetched objects and describe the batch they form (None when nothing is new)."""
    already = ledger.known_objects(contract.id)
    objects: list[dict[str, Any]] = []
    signatures: dict[str, str] = {}
    for item in fetched:
        try:
            with _opened(contract, item) as stream:
                stored = archive.store(contract.id, stream)
        except ObjectChanged:  # still being written, or gone: the source has it next time, or nobody has
            report.postponed_objects += 1
            continue
        report.received_objects += 1
        if item.signature:
            signatures[naming.fingerprint(item.signature)] = stored.sha256
        if stored.sha256 in already:
            report.duplicate_objects += 1
            continue
        already.add(stored.sha256)
        objects.append(
            {
                "seq": len(objects) + 1,
                "sha256": stored.sha256,
                "resource": contract.id,
                "name": naming.protect_name(contract, item.name),
                "media_type": item.media_type,
                "size": stored.size,
                "status": "archived",
                "decoded_count": 0,
                "accepted_count": 0,
                "quarantined_count": 0,
                "duplicate_count": 0,
            }
        )
        if progress:
            progress(f"{contract.id} 归档", len(objects), 0)
    if not objects:
        return None, signatures
    archive.sync(contract.id, [item["sha256"] for item in objects])
    batch_id = batch_identity(contract.id, contract.version, [item["sha256"] for item in objects])
    for row in objects:
        row["batch_id"] = batch_id
    batch = {
        "batch_id": batch_id,
        "resource": contract.id,
        "contract_version": contract.version,
        "run_id": report.run_id,
        "status": "archived",
        "object_count": len(objects),
        "decoded_count": 0,
        "accepted_count": 0,
        "quarantined_count": 0,
        "duplicate_count": 0,
        "as_of_at": clock.as_of(),
        "started_at": clock.utc_now(),
    }
    return (batch, objects), signatures
