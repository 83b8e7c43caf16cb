"""Bring many sources up to date in one process: each is fetched and judged as its own DAG would do it.

For sources of some hundred rows, starting two tasks costs ten times the work itself. Sources that others refer to come
first; what one wave brought is judged in one run of the quality gate, so that the next wave finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from catalog import contracts
from catalog.contracts import Contract
from ingestion import sources
from ingestion.run import ingest
from lake.errors import EXIT_CHECK_FAILED, EXIT_UNAVAILABLE, TiyuError
from quality.gate import run_gate


@dataclass
class CatchUpReport:
    """What became of each source: the counts of its ingest, or the code of the error that stopped it."""

    sources: list[dict[str, Any]] = field(default_factory=list)
    gated: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the sums are named as in the report of one ingest."""
        sums = {
            name: sum(row.get(name, 0) for row in self.sources)
            for name in ("received_objects", "decoded", "accepted", "quarantined", "duplicate")
        }
        return {"status": "success", "sources": self.sources, "gated": self.gated, "failed": self.failed, **sums}


def waves(known: Mapping[str, Contract], wanted: Collection[str]) -> list[list[str]]:
    """The wanted sources in groups: none refers to a table of its own group or of a later one.

    Sources that refer to each other in a ring share the last group.
    """
    owner = {obj.table: name for name in wanted for obj in known[name].objects}
    needs = {
        name: {
            owner[rule.params["table"]]
            for obj in known[name].objects
            for rule in obj.rules
            if rule.kind == "reference" and rule.params["table"] in owner
        }
        - {name}
        for name in wanted
    }
    ordered: list[list[str]] = []
    while needs:
        ready = sorted(name for name, others in needs.items() if not others & needs.keys()) or sorted(needs)
        ordered.append(ready)
        for name in ready:
            del needs[name]
    return ordered


def catch_up(resources: Sequence[str] | None = None) -> CatchUpReport:
    """Ingest and judge everything pending of the given sources (default: all that a schedule fetches).

    One source's failure does not stop the others. Raises TIYU-ING-0001 for an unknown source before anything is done,
    and TIYU-ING-0040 at the end when a source failed: exit code 3 when all that failed were unavailable, else 1.
    """
    every = contracts.fetched()
    wanted = list(every) if resources is None else list(dict.fromkeys(resources))
    if missing := sorted(set(wanted) - set(every)):
        raise sources.unknown(missing[0], every)
    report, errors = CatchUpReport(), []
    for wave in waves(every, wanted):
        tables = []
        for name in wave:
            try:
                done = ingest(name)
            except TiyuError as error:
                errors.append(error)
                report.failed[name] = error.code
                report.sources.append({"resource": name, "status": "failed", "error_code": error.code})
                continue
            counts = {
                key: getattr(done, key)
                for key in ("received_objects", "decoded", "accepted", "quarantined", "duplicate")
            }
            report.sources.append({"resource": name, "status": done.status, **counts})
            tables += [obj.table for obj in every[name].objects]
        if tables:
            try:
                run_gate(tables)
            except TiyuError as error:
                errors.append(error)
                report.failed["、".join(wave)] = error.code
            report.gated += len(tables)
    if errors:
        raise TiyuError(
            "TIYU-ING-0040",
            f"{len(report.failed)} 个来源没有接入成功，其余已完成",
            "按来源查看各自的错误代码（tiyu status），修复后重新触发；已完成的不会重做",
            EXIT_UNAVAILABLE if all(e.exit_code == EXIT_UNAVAILABLE for e in errors) else EXIT_CHECK_FAILED,
            failed="；".join(f"{name} {code}" for name, code in sorted(report.failed.items())),
        )
    return report
