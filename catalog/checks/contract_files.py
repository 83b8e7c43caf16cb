"""Every contract file is acceptable: ODCS, strict `tiyu` properties, cross references."""

from __future__ import annotations

from catalog.checks.base import Check, Context, Findings


def run(context: Context, found: Findings) -> None:
    """Each file is read by itself, so that one broken file does not hide the others."""
    found.count("contracts", context.contract_count)
    found.problems += context.contract_problems


CHECK = Check("contracts", "契约文件", run, counts={"contracts": "契约"})
