"""Columns that sources began to send and nobody has catalogued yet, for `tiyu catalog check --lake`.

They are in the archive alone (`unknownColumn: add`). Each stays a finding until the contract knows it (then `tiyu reread`
brings its history) or declares that it is not wanted (`ignore`).
"""

from __future__ import annotations

from catalog.checks.base import Check, Context, Findings
from ingestion import delivery
from lake import clock


def _run(context: Context, found: Findings) -> None:
    for contract in context.contracts:
        if contract.kind != "source":
            continue
        found.count("drifting", int(contract.root.drift.unknown_column == "add"))
        if not context.lake:
            continue
        for item in delivery.uncatalogued(contract):
            since = item["first_seen_at"].astimezone(clock.SHANGHAI)
            found.add(
                "uncatalogued_column",
                f"{contract.id}.{item['column']}",
                f"来源自 {since:%Y-%m-%d} 起多出这一列（{item['objects']} 个文件），尚未编目：登记并定级后提高契约版本并运行 tiyu reread；"
                "不需要则声明 unknownColumn: ignore",
            )


def check() -> Check:
    """The check, to be handed to `catalog.check.run(more=…)`."""
    return Check("drift", "来源新增的列", _run, counts={}, may_be_none={"drifting": "允许新增列的来源"})


__all__ = ["check"]
