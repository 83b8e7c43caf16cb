"""Write the catalogue into the lake: `ods_reference__{district,sport,rule,kpi,resource,code}`.

A table is written only when its content changed (a hash of the rows travels in the commit), so publishing twice costs
nothing and moves nothing downstream. Reference data is checked before it is written, hence its checked version moves
at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa

from catalog import contracts, kpis, rules_table, vocabularies
from lake import ledger, properties, tables
from lake.errors import EXIT_USAGE, TiyuError

HASH_KEY = "tiyu.content_hash"


@dataclass(frozen=True)
class ReferenceColumn:
    """A column of a reference table, described like any contract column (all of it is grade L1, no personal data)."""

    name: str
    type: pa.DataType
    title_zh: str
    unit: str | None = None


@dataclass(frozen=True)
class ReferenceTable:
    name: str
    title_zh: str
    grain: str
    columns: tuple[ReferenceColumn, ...]
    rows: Callable[[float], list[dict[str, Any]]]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(c.name, c.type) for c in self.columns])


def demo_scale() -> float:
    """How small the demo city is (1.0 for a real one), from the lake property `demo_scale`.

    Raises TiyuError TIYU-CAT-0010 when it is not a number in (0, 1].
    """
    text = properties.get("demo_scale") or "1"
    try:
        scale = float(text)
    except ValueError:
        scale = -1.0
    if not 0 < scale <= 1:
        raise TiyuError(
            "TIYU-CAT-0010", "演示比例不合法", "demo_scale 应大于 0 且不大于 1", EXIT_USAGE, demo_scale=text
        )
    return scale


def _note(scale: float) -> str:
    return f"（演示城市，按比例 {scale:g} 缩放）" if scale != 1 else ""


def _district_rows(scale: float) -> list[dict[str, Any]]:
    return [
        {
            "district_code": row["code"],
            "district_name": row["name"],
            "population_count": max(1, round(row["population_count"] * scale)),
            "street_count": row["street_count"],
            "note": "常住人口为 2020 年人口普查数" + _note(scale),
        }
        for row in vocabularies.load("district")
    ]


def _sport_rows(_: float) -> list[dict[str, Any]]:
    return [{"sport_code": row["code"], "sport_name": row["name"]} for row in vocabularies.load("sport")]


def _rule_rows(_: float) -> list[dict[str, Any]]:
    return [{**row.model_dump(exclude={"note_zh"}), "note": row.note_zh} for row in rules_table.load_all()]


def _kpi_rows(scale: float) -> list[dict[str, Any]]:
    rows = []
    for kpi in kpis.load_all().values():
        for variant in kpi.rows():
            target = variant.target
            scaled = target is not None and target.scalable and scale != 1
            rows.append(
                {
                    "kpi_code": kpi.code,
                    "variant_code": variant.code,
                    "kpi_name": kpi.name,
                    "variant_name": variant.name,
                    "definition": variant.definition,
                    "numerator_text": variant.numerator,
                    "denominator_text": variant.denominator,
                    "period_type": kpi.period_type,
                    "grain": kpi.grain,
                    "unit": variant.unit or kpi.unit,
                    "better": kpi.better,
                    "target": None if target is None else target.value * (scale if scaled else 1),
                    "target_document": None if target is None else target.document + (_note(scale) if scaled else ""),
                    "target_period": None if target is None else target.period,
                    "target_end_date": None if target is None else target.end_date,
                    "owner_name": kpi.owner,
                    "provenance": kpi.provenance,
                    "sources": json.dumps(kpi.sources, ensure_ascii=False),
                    "published_indicator": variant.published,
                }
            )
    return rows


def _resource_rows(_: float) -> list[dict[str, Any]]:
    """Every entry of the catalogue; hours and versions only where a contract promises them."""
    from catalog import entries
    from catalog.entries import sheet

    by_contract = contracts.load_all()
    rows = []
    for entry in entries.load_all().values():
        contract = by_contract.get(entry.id)
        rows.append(
            {
                "resource": entry.id,
                "resource_code": entry.code,
                "title": entry.title_zh,
                "summary": entry.summary,
                "domain": entry.domain,
                "kind": entry.kind,
                "kind_name": entry.kind_zh,
                "layer": entry.layer,
                "class_name": " / ".join(level.name for level in entry.classes),
                "provider_name": entry.provider_name,
                "provider_uscc": entry.provider_uscc,
                "format_name": entry.format_name,
                "update_cycle": entry.update_cycle,
                "update_cycle_name": vocabularies.name_of("update_cycle", entry.update_cycle),
                "cycle_hours": contract.cycle_hours if contract else None,
                "grace_hours": contract.grace_hours if contract else None,
                "table_name": entry.tables[0].name if entry.tables else None,
                "column_count": len(entry.columns),
                "grade": entry.grade,
                "pi_mark": entry.pi_mark,
                "share_type": entry.share.type,
                "share_type_name": vocabularies.name_of("share_type", entry.share.type),
                "share_condition": sheet.share_text(entry) or None,
                "share_method": entry.share.method,
                "open_type": entry.open.type,
                "open_type_name": vocabularies.name_of("open_type", entry.open.type),
                "open_scope": entry.open.scope,
                "open_condition": sheet.open_text(entry) or None,
                "published_date": entry.published_on,
                "origin": entry.origin_zh,
                "owner_name": entry.owner_name,
                "legal_basis": entry.legal_basis,
                "retention": entry.retention,
                "crs": entry.crs,
                "upstream": json.dumps(entry.upstream, ensure_ascii=False),
                "downstream": json.dumps(entry.downstream, ensure_ascii=False),
                "contract_version": entry.version,
            }
        )
    return rows


def _code_rows(_: float) -> list[dict[str, Any]]:
    return [
        {"list_name": name, "code": row["code"], "name": row["name"]}
        for name in vocabularies.names()
        for row in vocabularies.load(name)
    ]


def _column(name: str, duckdb_type: str, title_zh: str, unit: str | None = None) -> ReferenceColumn:
    from catalog import types

    return ReferenceColumn(name, types.arrow_type(duckdb_type), title_zh, unit)


TABLES: tuple[ReferenceTable, ...] = (
    ReferenceTable(
        "ods_reference__district",
        "行政区参考表",
        "一个区",
        (
            _column("district_code", "VARCHAR", "行政区划代码"),
            _column("district_name", "VARCHAR", "行政区名称"),
            _column("population_count", "BIGINT", "常住人口数", "person"),
            _column("street_count", "BIGINT", "街道、镇、乡个数", "count"),
            _column("note", "VARCHAR", "数据说明"),
        ),
        _district_rows,
    ),
    ReferenceTable(
        "ods_reference__sport",
        "运动项目参考表",
        "一个运动项目",
        (_column("sport_code", "VARCHAR", "运动项目代码"), _column("sport_name", "VARCHAR", "运动项目名称")),
        _sport_rows,
    ),
    ReferenceTable(
        "ods_reference__rule",
        "规则表：法规、标准与平台设计的阈值",
        "一条规则",
        (
            _column("rule_id", "VARCHAR", "规则编号"),
            _column("subject", "VARCHAR", "规则对象"),
            _column("item", "VARCHAR", "规则项目"),
            _column("standard", "VARCHAR", "标准或法规编号"),
            _column("clause", "VARCHAR", "条款"),
            _column("value_min", "DOUBLE", "下限（含），单位见单位列"),
            _column("value_max", "DOUBLE", "上限（含），单位见单位列"),
            _column("unit", "VARCHAR", "阈值的单位"),
            _column("effective_from", "DATE", "生效日期"),
            _column("effective_to", "DATE", "失效日期，仍有效为空"),
            _column("provenance", "VARCHAR", "出处标记"),
            _column("is_law", "BOOLEAN", "是否经核对的法规或标准要求"),
            _column("note", "VARCHAR", "说明"),
        ),
        _rule_rows,
    ),
    ReferenceTable(
        "ods_reference__kpi",
        "指标定义",
        "一个指标的一个口径",
        (
            _column("kpi_code", "VARCHAR", "指标代码"),
            _column("variant_code", "VARCHAR", "口径代码，只有一个口径时为空串"),
            _column("kpi_name", "VARCHAR", "指标名称"),
            _column("variant_name", "VARCHAR", "口径名称，只有一个口径时为空串"),
            _column("definition", "VARCHAR", "定义"),
            _column("numerator_text", "VARCHAR", "分子说明"),
            _column("denominator_text", "VARCHAR", "分母说明，无分母为空"),
            _column("period_type", "VARCHAR", "周期：day 日、month 月、year 年"),
            _column("grain", "VARCHAR", "一行代表什么"),
            _column("unit", "VARCHAR", "指标单位"),
            _column("better", "VARCHAR", "方向：higher 越高越好、lower 越低越好、neutral 中性"),
            _column("target", "DOUBLE", "目标值，单位同指标单位"),
            _column("target_document", "VARCHAR", "目标出处"),
            _column("target_period", "VARCHAR", "目标适用期"),
            _column("target_end_date", "DATE", "目标截止日期，过后为已到期"),
            _column("owner_name", "VARCHAR", "责任处室"),
            _column("provenance", "VARCHAR", "口径出处标记"),
            _column("sources", "VARCHAR", "来源资源（JSON 数组）"),
            _column("published_indicator", "VARCHAR", "并列展示的官方指标编码，没有为空"),
        ),
        _kpi_rows,
    ),
    ReferenceTable(
        "ods_reference__resource",
        "数据资源目录",
        "一个目录条目：来源、表、输出或页面",
        (
            _column("resource", "VARCHAR", "资源编号"),
            _column("resource_code", "VARCHAR", "信息资源代码"),
            _column("title", "VARCHAR", "信息资源名称"),
            _column("summary", "VARCHAR", "信息资源摘要"),
            _column("domain", "VARCHAR", "业务域"),
            _column(
                "kind",
                "VARCHAR",
                "种类：source 来源、reference 参考、platform 平台运行、table 加工表、exchange 共享交换、open 开放、dashboard 页面",
            ),
            _column("kind_name", "VARCHAR", "种类名称"),
            _column("layer", "VARCHAR", "层"),
            _column("class_name", "VARCHAR", "信息资源分类：类、项、目、细目"),
            _column("provider_name", "VARCHAR", "信息资源提供方"),
            _column("provider_uscc", "VARCHAR", "提供方统一社会信用代码"),
            _column("format_name", "VARCHAR", "信息资源格式"),
            _column("update_cycle", "VARCHAR", "更新周期代码"),
            _column("update_cycle_name", "VARCHAR", "更新周期"),
            _column("cycle_hours", "BIGINT", "更新周期的小时数，只有契约承诺的资源才有", "h"),
            _column("grace_hours", "BIGINT", "宽限小时数，只有契约承诺的资源才有", "h"),
            _column("table_name", "VARCHAR", "数据表；有几张时为主表，页面为空"),
            _column("column_count", "BIGINT", "信息项个数", "count"),
            _column("grade", "VARCHAR", "安全等级，取最高的列"),
            _column("pi_mark", "VARCHAR", "个人信息标识，取最高的列"),
            _column("share_type", "VARCHAR", "共享类型代码"),
            _column("share_type_name", "VARCHAR", "共享类型"),
            _column("share_condition", "VARCHAR", "共享条件，或不予共享的依据"),
            _column("share_method", "VARCHAR", "共享方式"),
            _column("open_type", "VARCHAR", "开放类型代码"),
            _column("open_type_name", "VARCHAR", "开放类型"),
            _column("open_scope", "VARCHAR", "开放范围"),
            _column("open_condition", "VARCHAR", "开放条件，或非开放的理由"),
            _column("published_date", "DATE", "发布日期"),
            _column("origin", "VARCHAR", "数据来源"),
            _column("owner_name", "VARCHAR", "责任处室"),
            _column("legal_basis", "VARCHAR", "采集依据"),
            _column("retention", "VARCHAR", "保存期限"),
            _column("crs", "VARCHAR", "坐标系"),
            _column("upstream", "VARCHAR", "上游条目（JSON 数组）"),
            _column("downstream", "VARCHAR", "下游条目（JSON 数组）"),
            _column("contract_version", "VARCHAR", "契约版本"),
        ),
        _resource_rows,
    ),
    ReferenceTable(
        "ods_reference__code",
        "代码表",
        "一个代码表的一个代码",
        (
            _column("list_name", "VARCHAR", "代码表名"),
            _column("code", "VARCHAR", "代码"),
            _column("name", "VARCHAR", "中文名称"),
        ),
        _code_rows,
    ),
)


def _hash(schema: pa.Schema, rows: list[dict[str, Any]]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, date):
            return value.isoformat()
        raise TypeError(type(value).__name__)

    content = json.dumps([str(schema), rows], ensure_ascii=False, sort_keys=True, default=text)
    return hashlib.sha256(content.encode()).hexdigest()


def publish_reference() -> list[str]:
    """Write the reference tables whose content changed and make them visible; returns the names written.

    Population and scalable targets are multiplied by the lake property `demo_scale`, and the texts beside them say so.
    Raises DeclarationError when a declaration is faulty: nothing is written then.
    """
    scale = demo_scale()
    prepared = [(table, rows, _hash(table.schema, rows)) for table in TABLES for rows in [table.rows(scale)]]
    written: list[str] = []
    for table, rows, digest in prepared:
        version = tables.version(table.name) if tables.exists(table.name) else None
        if version is None or tables.commit_metadata(table.name, version).get(HASH_KEY) != digest:
            data = pa.Table.from_pylist(rows, schema=table.schema)
            version = tables.replace_table(table.name, data, metadata={HASH_KEY: digest})
            written.append(table.name)
        if ledger.checked_version(table.name) != version:
            ledger.set_checked_version(table.name, version, f"reference-{digest[:12]}")
    return written
