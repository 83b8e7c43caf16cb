"""The data dictionary: one Markdown page and one JSON file under the installation's home."""

from __future__ import annotations

import json
from pathlib import Path

from catalog import columns, contracts, kpis, rules_table, vocabularies
from lake import properties
from lake.settings import settings


def build(folder: Path | None = None) -> list[Path]:
    """Write `data_dictionary.md` and `data_dictionary.json` (default: `<home>/catalog/`); returns the files."""
    folder = folder or settings().home / "catalog"
    folder.mkdir(parents=True, exist_ok=True)
    rows = columns.describe_all()
    titles = columns.table_titles()
    lines = ["# 数据字典", ""]
    if banner := properties.demo_banner():
        lines += [f"> {banner}", ""]
    lines += ["## 数据资源", "", "| 资源 | 名称 | 更新周期 | 级别 | 责任处室 |", "|---|---|---|---|---|"]
    for contract in contracts.load_all().values():
        lines.append(
            f"| {contract.id} | {contract.title} | {contract.update_cycle_zh} | {contract.grade} | {contract.owner_name} |"
        )
    lines += ["", "## 指标", "", "| 代码 | 名称 | 口径 | 定义 | 单位 | 出处 |", "|---|---|---|---|---|---|"]
    for kpi in kpis.load_all().values():
        for v in kpi.rows():
            lines.append(
                f"| {kpi.code} | {kpi.name} | {v.name} | {v.definition} | {v.unit or kpi.unit} | {kpi.provenance} |"
            )
    lines += [
        "",
        "## 规则",
        "",
        "| 编号 | 说明 | 标准 | 条款 | 下限 | 上限 | 单位 | 是否法规 | 出处 |",
        "|" + "---|" * 9,
    ]
    for rule in rules_table.load_all():
        cells = [
            rule.rule_id, rule.note_zh, rule.standard, rule.clause, rule.value_min, rule.value_max, rule.unit,
            "是" if rule.is_law else "否", rule.provenance,
        ]  # fmt: skip
        lines.append("| " + " | ".join("" if c is None else str(c) for c in cells) + " |")
    table = ""
    for row in rows:
        if row["table"] != table:
            table = row["table"]
            lines += [
                "",
                f"## {table}",
                "",
                titles.get(table, ""),
                "",
                "| 列 | 名称 | 类型 | 单位 | 级别 | 个人信息 | 说明 |",
            ]
            lines.append("|" + "---|" * 7)
        cells = [row[k] for k in ("column", "title_zh", "type", "unit", "grade", "pi_mark", "description")]  # type: ignore[literal-required]
        lines.append(
            "| " + " | ".join("" if c is None else str(c).replace("\n", " ").replace("|", "\\|") for c in cells) + " |"
        )
    lines += ["", "## 代码表", ""]
    for name in vocabularies.names():
        codes = "、".join(f"{r['code']} {r['name']}" for r in vocabularies.load(name))
        lines.append(f"- **{name}** {vocabularies.title(name)}：{codes}")
    page, data = folder / "data_dictionary.md", folder / "data_dictionary.json"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data.write_text(json.dumps({"tables": titles, "columns": rows}, ensure_ascii=False, indent=1), encoding="utf-8")
    return [page, data]
