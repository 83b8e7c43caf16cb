"""Every entry has the 13 core elements of the 2017 guide (reference §1.3) and what Shanghai's law asks beside them."""

from __future__ import annotations

from collections import Counter

from stdnum.cn import uscc

from catalog import vocabularies
from catalog.checks.base import Check, Context, Findings
from catalog.entries import Entry

SUMMARY_LENGTH = 10
COORDINATE_UNIT = "deg"


def _names(code_list: str) -> set[str]:
    return {row["name"] for row in vocabularies.load(code_list)}


def run(context: Context, found: Findings) -> None:
    """One finding per missing or impossible element; `elements` counts what was looked at."""
    departments, formats, cycles = (
        _names("department"),
        set(vocabularies.codes("resource_format")),
        set(vocabularies.codes("update_cycle")),
    )
    titles = Counter(entry.title_zh for entry in context.entries.values())
    for entry in context.entries.values():
        found.count("entries", 1)
        found.count("items", len(entry.columns))

        def need(ok: bool, code: str, message: str, where: str = entry.id) -> None:
            found.count("elements", 1)
            if not ok:
                found.add(code, where, message)

        need(len(entry.classes) == 4, "class_missing", f"业务域 {entry.domain} 不在信息资源分类内（细目）")
        need(titles[entry.title_zh] == 1, "title_twice", f"资源名称不唯一：{entry.title_zh}")
        need(bool(entry.provider_name.strip()), "provider_missing", "没有信息资源提供方")
        need(bool(uscc.is_valid(entry.provider_uscc)), "provider_code", "提供方统一社会信用代码校验不符（GB 32100）")
        need(
            len(entry.summary) >= SUMMARY_LENGTH,
            "summary_missing",
            f"资源摘要少于 {SUMMARY_LENGTH} 字：{entry.summary}",
        )
        need(entry.format_category in formats, "format_unknown", f"信息资源格式不在代码表内：{entry.format_category}")
        need(bool(entry.columns) or not entry.is_structured, "items_missing", "结构化资源没有信息项")
        for column in entry.columns:
            need(column.letter is not None, "item_type", "信息项没有数据类型", f"{entry.id}.{column.name}")
        need(entry.update_cycle in cycles, "cycle_unknown", f"更新周期不在代码表内：{entry.update_cycle}")
        need(entry.owner_name in departments, "owner_unknown", f"责任单位不在责任处室表内：{entry.owner_name or '空'}")
        need("《" in entry.legal_basis, "legal_basis_missing", "没有采集依据（法律、法规或文件名称）")
        need(bool(entry.retention.strip()), "retention_missing", "没有保存期限")
        need(bool(entry.origin_zh.strip()), "origin_missing", "没有数据来源")
        need(entry.grade is not None, "grade_missing", "没有安全等级：有列没有定级")
        need(_has_crs(entry), "crs_missing", "有经纬度而没有坐标系")
        for other in entry.related:
            need(other in context.entries, "related_unknown", f"关联资源不存在：{other}")


def _has_crs(entry: Entry) -> bool:
    if not any(column.unit == COORDINATE_UNIT for column in entry.columns):
        return True
    known = {*vocabularies.codes("crs"), *(row["name"] for row in vocabularies.load("crs")), "见坐标系列"}
    return entry.crs is not None and set(entry.crs.split("、")) <= known


CHECK = Check(
    "elements",
    "目录条目与核心元数据",
    run,
    counts={"entries": "条目", "items": "信息项", "elements": "元素"},
)
