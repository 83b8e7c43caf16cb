"""The display policy holds together (proved by exhaustion) and knows every grade, mark and identifier kind in the catalogue."""

from __future__ import annotations

from catalog import policy
from catalog.checks.base import Check, Context, Findings
from catalog.detectors import content, names
from catalog.policy import exhaustion


def run(context: Context, found: Findings) -> None:
    """A counter-example is a finding; so is an identifier kind that no audience could ever be allowed to see."""
    proof = exhaustion.prove()
    found.count("policy_cells", proof.examined["cells"])
    found.count("role_subsets", proof.examined["role_subsets"])
    found.count("policy_comparisons", proof.examined["comparisons"])
    for violation in proof.violations:
        found.add(
            "policy", violation.code, f"{violation.title_zh}：{violation.example_zh}（共 {violation.count:,} 格）"
        )
    for name in sorted({*content.kinds(), *(kind.kind for kind in names.kinds())}):
        found.count("policy_detectors", 1)
        try:
            policy.current().detected_kind(name)
        except KeyError:
            found.add(
                "policy_detector",
                name,
                f"检测器认得的种类 {name} 没有在展示策略中声明（kinds、其 detected，或 attributes）",
            )
    _originals(context, found)
    kinds = policy.current().kinds
    for row in context.columns:
        found.count("policy_columns", 1)
        kind = row["identifier_kind"]
        if kind is not None and kind not in kinds:
            found.add("policy_kind", f"{row['table']}.{row['column']}", f"标识种类 {kind} 没有在展示策略中声明")


def _originals(context: Context, found: Findings) -> None:
    """What an audience's policy says of where masked values are read again must be in the contract it names."""
    sources = {contract.id: contract for contract in context.contracts if contract.kind == "source"}
    for name, who in policy.current().audiences.items():
        for kind, original in who.originals.items():
            found.count("policy_originals", 1)
            contract = sources.get(original.source)
            value = contract and contract.root.by_name.get(original.column)
            person = contract and contract.root.by_name.get(original.by)
            if not (value and value.protection == "mask" and value.identifier_kind == kind):
                said = f"{original.source} 中没有遮蔽入库、种类为 {kind} 的列 {original.column}"
                found.add("policy_original", f"{name}.{kind}", f"受众 {name} 的 originals：{said}")
            if not (person and person.protection == "token"):
                said = f"{original.source} 中没有以标记入库的列 {original.by}"
                found.add("policy_original", f"{name}.{kind}", f"受众 {name} 的 originals：{said}")


CHECK = Check(
    "policy",
    "展示策略",
    run,
    counts={
        "policy_cells": "策略格",
        "role_subsets": "角色组合",
        "policy_comparisons": "策略比较",
        "policy_columns": "核对列",
        "policy_detectors": "检测器的种类",
        "policy_originals": "读回的种类",
    },
)
