"""The checks of `tiyu catalog check`, one module each. To add one: write the module, add one line below.

A check that needs a room above `catalog` stands there and is handed to `catalog.check.run(more=…)` by `cli/catalog.py`.
"""

from __future__ import annotations

from catalog.checks import (
    behaviour,
    bindings,
    codes,
    collection,
    columns,
    contract_files,
    declarations,
    elements,
    grading,
    outputs,
    policy,
    row_rules,
    sharing_terms,
    unsettled,
)
from catalog.checks.base import Check, CheckReport, Context, Findings, Probe, Problem, Seen

__all__ = ["CHECKS", "Check", "CheckReport", "Context", "Findings", "Probe", "Problem", "Seen"]

CHECKS: tuple[Check, ...] = (
    # what is declared
    contract_files.CHECK,
    unsettled.CHECK,
    columns.CHECK,
    row_rules.CHECK,
    behaviour.CHECK,
    outputs.CHECK,
    declarations.CHECK,
    # what the catalogue says about it
    elements.CHECK,
    codes.CHECK,
    sharing_terms.CHECK,
    bindings.CHECK,
    collection.CHECK,
    #
    # how sensitive it is
    grading.CHECK,
    # where it comes from
    #
    # who may see it
    policy.CHECK,
)
