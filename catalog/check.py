"""`tiyu catalog check`: is everything the platform holds declared, described, graded and allowed where it goes?

The report says how many things were examined. A check that found nothing to examine is a failure, because an empty
folder must not look like a clean catalogue.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from catalog import columns, contracts, kpis, rules, rules_table, units, vocabularies
from catalog.columns import ColumnRow
from catalog.contracts import Contract
from catalog.contracts.model import GRADES, PROTECTED_KINDS
from catalog.problems import DeclarationError

PI_MARKS = ("N", "P", "S")
SURFACE_LIMIT = {"exchange": "L2", "open": "L1"}
"""Highest column grade a surface may show; an open aggregate may rest on higher grades but is itself graded."""

K_OPEN = "disclosure.k_open"


@dataclass(frozen=True)
class Problem:
    """One finding: stable code, where, and a Chinese sentence."""

    code: str
    where: str
    message_zh: str


@dataclass
class CheckReport:
    """What was looked at (name → count) and what is wrong."""

    examined: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "examined": self.examined, "problems": [asdict(p) for p in self.problems]}

    def count(self, name: str, amount: int) -> None:
        self.examined[name] = self.examined.get(name, 0) + amount

    def add(self, code: str, where: str, message_zh: str) -> None:
        self.problems.append(Problem(code, where, message_zh))


def check_contract_files(folder: Path, report: CheckReport) -> list[Contract]:
    """Read every contract file by itself, so that one broken file does not hide the others."""
    good: dict[str, Contract] = {}
    for path in contracts.files(folder):
        report.count("contracts", 1)
        try:
            contract = contracts.read_contract(path)
        except DeclarationError as error:
            for problem in error.problems:
                report.add("contract", path.name, problem)
            continue
        if contract.id in good:
            report.add("contract", path.name, f"契约编号重复：{contract.id}")
        good[contract.id] = contract
    return list(good.values())


def check_columns(rows: list[ColumnRow], report: CheckReport) -> None:
    """Every stored column: described, graded, marked, with a known unit; identifiers of persons at least L3."""
    report.count("tables", len({row["table"] for row in rows}))
    report.count("columns", len(rows))
    seen: set[tuple[str, str]] = set()
    for row in rows:
        where = f"{row['table']}.{row['column']}"
        if (row["table"], row["column"]) in seen:
            report.add("column_twice", where, "列声明了两次")
        seen.add((row["table"], row["column"]))
        if row["grade"] not in GRADES:
            report.add("ungraded", where, f"列没有定级（L1…L4），现为 {row['grade']}")
        if not row["description"]:
            report.add("undescribed", where, "列没有说明")
        if row["unit"] and not units.is_known(str(row["unit"])):
            report.add("unknown_unit", where, f"单位不在单位表内：{row['unit']}")
        if row["pi_mark"] is not None and row["pi_mark"] not in PI_MARKS:
            report.add("pi_mark", where, f"个人信息标识只能是 N、P、S，现为 {row['pi_mark']}")
        personal = row["identifier_kind"] in PROTECTED_KINDS or row["column"].endswith("_token")
        if personal and row["pi_mark"] not in ("P", "S"):
            report.add("unmarked_personal", where, "个人标识没有标记为个人信息（P 或 S）")
        if personal and row["grade"] in GRADES and str(row["grade"]) < "L3":
            report.add("identifier_grade", where, f"个人标识的级别低于 L3：{row['grade']}")
        if row["pi_mark"] is None and row["grade"] in GRADES:
            report.add("unmarked", where, "列没有个人信息标识（N、P、S）")


def check_rules(found: list[Contract], report: CheckReport) -> None:
    """Every row rule compiles."""
    for contract in found:
        for obj in contract.objects:
            for rule in obj.rules:
                report.count("rules", 1)
                try:
                    rules.compile(rule)
                except Exception as error:  # any failure to compile is a finding about the declaration
                    report.add("rule", rule.rule_id, f"规则不能编译：{type(error).__name__}")


def check_outputs(found: list[Contract], rows: list[ColumnRow], report: CheckReport) -> None:
    """Output contracts name existing columns, of a grade their surface may show, with the same or a higher grade."""
    by_table: dict[str, dict[str, ColumnRow]] = {}
    for row in rows:
        by_table.setdefault(row["table"], {})[row["column"]] = row
    for contract in found:
        if contract.output is None:
            continue
        report.count("outputs", 1)
        limit, table = SURFACE_LIMIT[contract.kind], by_table.get(contract.output.table)
        names = {p.name for p in contract.root.properties}
        for column in {*contract.output.key, contract.output.increment_column, contract.output.count_column} - {None}:
            if column not in names:
                report.add("output_key", f"{contract.id}.{column}", "键列、增量列或计数列不在输出列内")
        if contract.output.aggregate and not contract.output.k:
            report.add("output_k", contract.id, "汇总开放数据没有声明 k")
        if table is None:
            report.add("output_table", f"{contract.id}", f"输出所读的表没有说明：{contract.output.table}")
            continue
        for prop in contract.root.properties:
            report.count("output_columns", 1)
            where = f"{contract.id}.{prop.name}"
            described = table.get(prop.source_name or prop.name)
            if described is None:
                report.add("output_column", where, f"输出列不在表 {contract.output.table} 中")
                continue
            grade = max(str(prop.grade), described["grade"] if described["grade"] in GRADES else "L4")
            if grade > limit:
                report.add("output_grade", where, f"级别 {grade} 高于该出口允许的 {limit}")


def check_declarations(found: list[Contract], rows: list[ColumnRow], report: CheckReport) -> None:
    """Code lists, rules table and KPIs read well; KPI sources exist."""
    try:
        for name in vocabularies.names():
            vocabularies.load(name)
            report.count("code_lists", 1)
        report.count("rule_rows", len(rules_table.load_all()))
        k_open = rules_table.get(K_OPEN).value_min
        for contract in found:
            if contract.output and contract.output.k is not None and contract.output.k != k_open:
                where = f"{contract.id} k={contract.output.k}"
                report.add("output_k", where, f"开放契约的 k 与规则表 {K_OPEN} 的 {k_open:g} 不一致")
        known = {c.id for c in found} | {row["table"] for row in rows}
        for kpi in kpis.load_all().values():
            report.count("kpis", 1)
            for source in kpi.sources:
                if source not in known:
                    report.add("kpi_source", f"{kpi.code}.{source}", "指标的来源资源不存在")
    except DeclarationError as error:
        for problem in error.problems:
            report.add("declaration", error.code, problem)


def run(*, folder: Path = contracts.FOLDER, dbt_models: Path | None = None) -> CheckReport:
    """Examine the whole catalogue; `folder` and `dbt_models` replace the places looked at (used by tests)."""
    report = CheckReport(examined={"contracts": 0, "tables": 0, "columns": 0, "rules": 0, "outputs": 0})
    found = check_contract_files(folder, report)
    rows: list[ColumnRow] = []
    if found and not report.problems:
        try:
            rows = columns.describe_all(dbt_models)
        except DeclarationError as error:
            report.add("declaration", error.code, str(error))
        except yaml.YAMLError as error:
            report.add("dbt_yaml", "dbt_project/models", f"YAML 读不懂：{str(error).splitlines()[0]}")
    check_columns(rows, report)
    check_rules(found, report)
    check_outputs(found, rows, report)
    check_declarations(found, rows, report)
    for name in ("contracts", "tables", "columns", "rules"):
        if report.examined[name] == 0:
            report.add("nothing_examined", name, "没有检查到任何对象，检查本身不算通过")
    return report
