"""An entry as lines of Chinese text: the names of the elements and their content, in the order of the 2017 guide.

The terminal, the workbook and the site show an entry with these words, so that they say the same.
"""

from __future__ import annotations

from typing import Any

from catalog import vocabularies
from catalog.entries.model import LAYER_ZH, Entry

_name = vocabularies.name_of


def share_text(entry: Entry) -> str:
    """9 共享条件: the condition, or for data that is not shared the basis."""
    return (entry.share.condition if entry.share.type == "conditional" else entry.share.basis) or ""


def open_text(entry: Entry) -> str:
    """10 开放条件: the condition, or for data that is not opened the reason."""
    return (entry.open.condition if entry.open.type == "conditional" else entry.open.basis) or ""


def lines(entry: Entry) -> list[tuple[str, str]]:
    """(element, content): the 13 core elements first, then what Shanghai asks beside them."""
    classes = " / ".join(f"{level.name}（{level.digits}）" for level in entry.classes)
    core = [
        ("信息资源分类", classes),
        ("信息资源名称", entry.title_zh),
        ("信息资源代码", entry.code or "待编码"),
        ("信息资源提供方", entry.provider_name),
        ("信息资源提供方代码", entry.provider_uscc),
        ("信息资源摘要", entry.summary),
        ("信息资源格式", f"{_name('resource_format', entry.format_category)}：{entry.format_name}"),
        ("信息项信息", f"{len(entry.columns)} 项"),
        ("共享类型", _name("share_type", entry.share.type)),
        ("共享条件", share_text(entry)),
        ("共享方式", entry.share.method or ""),
        ("是否向社会开放", "否" if entry.open.type == "closed" else "是"),
        ("开放条件", open_text(entry)),
        ("更新周期", _name("update_cycle", entry.update_cycle)),
        ("发布日期", entry.published_on.isoformat() if entry.published_on else ""),
        ("关联资源", "、".join(entry.related)),
    ]
    more = [
        ("数据来源", entry.origin_zh),
        ("安全等级", _name("grade", entry.grade) if entry.grade else "未定级"),
        ("个人信息标识", _name("pi_mark", entry.pi_mark) if entry.pi_mark else "未标识"),
        ("开放类型", _name("open_type", entry.open.type)),
        ("开放范围", entry.open.scope or ""),
        ("责任处室", entry.owner_name),
        ("采集依据", entry.legal_basis),
        ("保存期限", entry.retention),
        ("坐标系", entry.crs or ""),
        ("种类", f"{entry.kind_zh}（{LAYER_ZH.get(entry.layer, entry.layer)}）"),
        ("目录挂接", "、".join(binding.target for binding in entry.bindings)),
        ("上游", "、".join(entry.upstream)),
        ("下游", "、".join(entry.downstream)),
        ("声明于", entry.declared_in),
    ]
    return core + more


def columns(entry: Entry) -> list[dict[str, Any]]:
    """One row an information item."""
    return [
        {
            "表": table.name,
            "列": column.name,
            "信息项名称": column.title_zh,
            "数据类型": column.type,
            "单位": _name("unit", column.unit) if column.unit else "",
            "代码表": column.code_list or "",
            "级别": column.grade or "未定级",
            "个人信息": column.pi_mark or "未标识",
            "说明": column.description or "",
        }
        for table in entry.tables
        for column in table.columns
    ]
