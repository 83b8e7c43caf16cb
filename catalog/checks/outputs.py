"""Output contracts name existing columns, which the policy lets leave by their channel."""

from __future__ import annotations

from catalog import policy, rules_table
from catalog.checks.base import Check, Context, Findings
from catalog.columns import ColumnRow
from catalog.contracts.model import PropertySpec
from catalog.policy import Facet

K_OPEN = "disclosure.k_open"


def run(context: Context, found: Findings) -> None:
    """The stricter of what the contract and what the table declare counts."""
    k_open = rules_table.get(K_OPEN).value_min
    for contract in context.contracts:
        if contract.output is None:
            continue
        found.count("outputs", 1)
        table = context.tables.get(contract.output.table)
        names = {p.name for p in contract.root.properties}
        for column in {*contract.output.key, contract.output.increment_column, contract.output.count_column} - {None}:
            if column not in names:
                found.add("output_key", f"{contract.id}.{column}", "键列、增量列或计数列不在输出列内")
        if contract.output.aggregate and not contract.output.k:
            found.add("output_k", contract.id, "汇总开放数据没有声明 k")
        if contract.output.k is not None and contract.output.k != k_open:
            where = f"{contract.id} k={contract.output.k}"
            found.add("output_k", where, f"开放契约的 k 与规则表 {K_OPEN} 的 {k_open:g} 不一致")
        if table is None:
            found.add("output_table", f"{contract.id}", f"输出所读的表没有说明：{contract.output.table}")
            continue
        for prop in contract.root.properties:
            found.count("output_columns", 1)
            where = f"{contract.id}.{prop.name}"
            described = table.get(prop.source_name or prop.name)
            if described is None:
                found.add("output_column", where, f"输出列不在表 {contract.output.table} 中")
                continue
            decision = policy.decide(*policy.CHANNELS[contract.kind], _facet(prop, described))
            if decision.treatment != "plain":
                why = "；".join(dict.fromkeys(step.text_zh for step in decision.why))
                found.add("output_grade", where, f"展示策略不允许该列从此出口提供（{why}）")


def _facet(prop: PropertySpec, described: ColumnRow) -> Facet:
    return policy.strictest(
        Facet(prop.grade, prop.pi_mark, prop.identifier_kind),
        Facet(described["grade"], described["pi_mark"], described["identifier_kind"]),
    )


CHECK = Check("outputs", "输出契约", run, counts={"outputs": "输出契约", "output_columns": "输出列"})
