"""Chinese descriptions for the serving files: tables and columns from the catalogue, and the catalogue's own tables."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from sharing.serving.policy import Column

LAYER_ZH = {"ods": "贴源层", "dim": "维度层", "dwd": "明细层", "dws": "汇总层", "ads": "应用层", "ops": "运行层"}
TECHNICAL_ZH = {
    "_batch_id": "入湖批次号",
    "_record_no": "在来源对象中的记录号",
    "_source_object": "来源对象的内容指纹（SHA-256）",
    "_ingested_at": "入湖时间",
    "part_date": "分区日期（业务发生的上海日历日）",
}
_UTC = pl.Datetime("us")


@dataclass(frozen=True)
class Table:
    """What a table is. `resource` is the contract id of an ODS table, `catalogue` what its catalogue entry says."""

    name: str
    title: str = ""
    grain: str = ""
    description: str = ""
    resource: str | None = None
    catalogue: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class CatalogTable:
    """A table of the catalogue inside a serving file: Chinese comment and columns (type, Chinese comment)."""

    comment: str
    columns: dict[str, tuple[Any, str]] = field(default_factory=dict)


CATALOG_TABLES = CatalogTable(
    "表目录：本文件中有哪些表，一行说的是什么，数据到哪一天",
    {
        "table_name": (pl.String, "表名"),
        "schema_name": (pl.String, "模式（层）"),
        "layer": (pl.String, "层的中文名"),
        "title": (pl.String, "中文名"),
        "grain": (pl.String, "粒度：一行代表什么"),
        "description": (pl.String, "说明"),
        "grade": (pl.String, "分级（所含列的最高级）"),
        "column_count": (pl.Int64, "可用列数"),
        "row_count": (pl.Int64, "行数"),
        "latest_part_date": (pl.Date, "最新分区日期"),
        "resource": (pl.String, "数据资源（契约编号）"),
        "resource_code": (pl.String, "信息资源代码"),
        "owner_name": (pl.String, "责任处室"),
        "update_cycle": (pl.String, "更新周期"),
        "origin": (pl.String, "数据来源"),
        "upstream": (pl.String, "直接来自哪些目录条目"),
        "share_type": (pl.String, "共享类型"),
        "open_type": (pl.String, "开放类型"),
        "delta_version": (pl.Int64, "所读的已检版本"),
    },
)
CATALOG_COLUMNS = CatalogTable(
    "列目录：每一列的含义、单位、分级，以及对本受众做了什么处理",
    {
        "table_name": (pl.String, "表名"),
        "column_name": (pl.String, "列名"),
        "position": (pl.Int64, "次序"),
        "data_type": (pl.String, "类型（不提供的列为空）"),
        "title": (pl.String, "中文名"),
        "description": (pl.String, "说明"),
        "unit": (pl.String, "单位"),
        "grade": (pl.String, "分级 L1 至 L4"),
        "pi_mark": (pl.String, "个人信息标识：N 非个人信息，P 个人信息，S 敏感个人信息"),
        "treatment": (pl.String, "对本受众的处理"),
        "is_available": (pl.Boolean, "是否可查询"),
    },
)
CATALOG_VERSIONS = CatalogTable(
    "读取版本：本文件的每张表取自湖中哪个已检版本",
    {
        "table_name": (pl.String, "表名"),
        "delta_version": (pl.Int64, "Delta 版本号"),
        "shape": (pl.String, "列形状指纹"),
    },
)
CATALOG_NOTICE = CatalogTable(
    "使用须知：数据声明、受众、时间口径",
    {"position": (pl.Int64, "次序"), "name": (pl.String, "事项"), "text": (pl.String, "内容")},
)
CATALOG_SCOPE = CatalogTable(
    "数据范围：本文件里的明细行属于谁（全市为 310000）",
    {"scope_code": (pl.String, "范围代码"), "scope_name": (pl.String, "范围名称")},
)
CATALOG_FRESHNESS = CatalogTable(
    "数据新鲜度：每个数据资源是否按更新周期到达，收到的记录去了哪里",
    {
        "resource": (pl.String, "数据资源（契约编号）"),
        "title": (pl.String, "中文名"),
        "update_cycle": (pl.String, "更新周期"),
        "state": (pl.String, "状态：fresh 及时，late 迟到，failed 失败，never 从未到达"),
        "latest_data_date": (pl.Date, "最新数据日期"),
        "last_success_at": (_UTC, "最近一次成功时间（上海时间）"),
        "due_at": (_UTC, "下次应到时间（上海时间）"),
        "received_count": (pl.Int64, "收到记录数 = 接受 + 隔离 + 重复"),
        "accepted_count": (pl.Int64, "接受记录数"),
        "quarantined_count": (pl.Int64, "隔离记录数"),
        "duplicate_count": (pl.Int64, "重复记录数"),
    },
)
KPI_DEFINITIONS = CatalogTable("指标说明：定义、分子、分母、单位、目标及其出处", {"kpi_code": (pl.String, "指标编号")})


def columns() -> dict[str, dict[str, Column]]:
    """Described columns per table and name, from the catalogue."""
    from catalog import columns as catalog_columns
    from catalog import vocabularies

    units = {row["code"].lower(): row["name"] for row in vocabularies.load("unit")}
    found: dict[str, dict[str, Column]] = {}
    for row in catalog_columns.describe_all():
        column = Column(
            table=row["table"],
            name=row["column"],
            type=row["type"] or "",
            title_zh=row["title_zh"] or row["column"],
            description=row["description"] or "",
            unit=units.get(str(row["unit"]).lower(), row["unit"]) if row["unit"] else None,
            grade=row["grade"],
            pi_mark=row["pi_mark"],
            identifier_kind=row["identifier_kind"],
        )
        found.setdefault(column.table, {})[column.name] = column
    return found


def tables() -> dict[str, Table]:
    """Described tables: ODS from their contracts, reference tables, the rest from the model files of the dbt project.

    A model's description reads "title. 粒度：grain." and is taken apart here.
    """
    from catalog import columns as catalog_columns
    from catalog import contracts, publish

    about = _catalogue()
    found: dict[str, Table] = {}
    for contract in contracts.load_all("source").values():
        for obj in contract.objects:
            found[obj.table] = Table(obj.table, obj.title_zh, obj.grain, obj.description, contract.id)
    for reference in publish.TABLES:
        found[reference.name] = Table(reference.name, reference.title_zh, reference.grain)
    for name, text in catalog_columns.table_titles().items():
        if name not in found:
            title, _, grain = text.partition("粒度：")
            found[name] = Table(name, title.strip().rstrip("。"), grain.strip().rstrip("。").removeprefix("一行是"))
    return {name: replace(table, catalogue=about.get(name, {})) for name, table in found.items()}


def _catalogue() -> dict[str, dict[str, str | None]]:
    """Stored table → the words of its catalogue entry that `catalog_tables` carries."""
    from catalog import entries, vocabularies

    return {
        table.name: {
            "resource_code": entry.code,
            "owner_name": entry.owner_name,
            "update_cycle": vocabularies.name_of("update_cycle", entry.update_cycle),
            "origin": entry.origin_zh,
            "upstream": "、".join(entry.upstream) or None,
            "share_type": vocabularies.name_of("share_type", entry.share.type),
            "open_type": vocabularies.name_of("open_type", entry.open.type),
        }
        for entry in entries.load_all().values()
        if entry.layer != "out"
        for table in entry.tables
    }


def comment_parts(table: Table) -> list[str]:
    """The pieces of a table's COMMENT."""
    parts = [table.title or table.name]
    if table.description and table.description != table.title:
        parts.append(table.description.rstrip("。"))
    if table.grain:
        parts.append(f"一行代表：{table.grain.rstrip('。')}")
    return parts
