"""Classification labels of a resource: the fifteen dimensions of DB31/T 310030-2025 §4.2.2–4.2.16.

The names of the dimensions are read from the standard's table of contents (V2, domain reference §2.2); its value lists
were not at hand, so the values are this platform's own words (DESIGN), all derived from the contract.
"""

from __future__ import annotations

from catalog import vocabularies
from catalog.contracts import Contract

_OBJECT = {
    "venue": "客体",
    "event": "组织",
    "training": "个人",
    "fitness": "个人",
    "supervision": "客体",
    "reference": "客体",
}
_SERVICE = {
    "venue": "公共体育服务", "event": "赛事服务", "training": "竞技体育", "fitness": "全民健身", "supervision": "行业监管",
    "reference": "基础支撑",
}  # fmt: skip
_GATHERED = {
    "file_drop": "文件交换", "rest": "接口采集", "rest_cursor": "接口采集", "database": "数据库采集", "mqtt": "消息采集",
    "s3": "文件交换", "sftp": "文件交换",
}  # fmt: skip
_SHARE = {"unconditional": "无条件共享", "conditional": "有条件共享", "denied": "不予共享"}
_OPEN = {"unconditional": "无条件开放", "conditional": "有条件开放", "closed": "非开放"}


def labels(contract: Contract, reader_count: int | None = None) -> dict[str, str]:
    """Dimension → label, all fifteen, for a source or an output. `reader_count`: models and outputs that read it."""
    source = contract.server
    decoder = source.decoder if source else ""
    return {
        "主题": vocabularies.name_of("domain", contract.domain),
        "行业": "体育（GB/T 4754 门类 R，大类 89）",
        "对象": _OBJECT.get(contract.domain, "客体"),
        "业务特性": contract.title,
        "产生频率": contract.update_cycle_zh,
        "采集方式": _GATHERED.get(source.connector, "其他") if source else "加工产生",
        "加工程度": "原始数据" if contract.kind == "source" else "汇总数据" if _aggregate(contract) else "加工数据",
        "结构化特征": "半结构化" if decoder in ("activity", "json_items", "ndjson") else "结构化",
        "提供渠道": "市大数据资源平台" if contract.kind != "open" else "市公共数据开放平台",
        "资源类型": "文件" if contract.kind != "source" or (source and source.connector == "file_drop") else "服务接口",
        "服务领域": _SERVICE.get(contract.domain, "其他"),
        "共享属性": _SHARE[contract.share.type],
        "开放属性": _OPEN[contract.open.type],
        "使用频率": _use(reader_count),
        "其他": f"级别 {contract.grade}",
    }


def _aggregate(contract: Contract) -> bool:
    return bool(contract.output and contract.output.aggregate)


def _use(readers: int | None) -> str:
    if readers is None:
        return "未统计"
    return "高" if readers >= 5 else "中" if readers >= 2 else "低"
