"""Duplicate collection (Shanghai Data Regulation art. 30: what sharing provides must not be collected again).

Two sources that collect the same item are reported, unless `catalog/entries/collection.yaml` says why.
"""

from __future__ import annotations

from catalog.checks.base import Check, Context, Findings
from catalog.entries import collection, declared

_WHERE = "在 catalog/entries/collection.yaml 写明来源与理由"


def run(context: Context, found: Findings) -> None:
    """Items collected by more than one source, against the declared reasons; reasons that no longer apply."""
    sources = [contract for contract in context.contracts if contract.kind == "source"]
    reasons = {reason.item: reason for reason in declared.collection(context.entries_folder).reasons}
    items = collection.items(sources)
    found.count("collected_items", sum(len(item.columns) for item in items.values()))
    repeated = {name: item for name, item in items.items() if len(item.sources) > 1}
    found.count("repeated_items", len(repeated))
    for name, item in repeated.items():
        where = "、".join(f"{column.source}.{column.name}" for column in item.columns)
        reason = reasons.get(name)
        if reason is None:
            found.add("duplicate_collection", name, f"几个来源采集同一数据项且没有说明理由：{where}；{_WHERE}")
        elif reason.sources != ["*"] and set(reason.sources) != set(item.sources):
            more = sorted(set(item.sources) - set(reason.sources)) or sorted(set(reason.sources) - set(item.sources))
            found.add(
                "duplicate_collection", name, f"采集同一数据项的来源变了，理由须重新确认：{'、'.join(more)}；{_WHERE}"
            )
        elif reason.sources == ["*"] and item.personal:
            found.add("collection_reason", name, "个人信息的重复采集不能笼统说明，须逐个列出来源")
    for name in sorted(set(reasons) - set(repeated)):
        found.add("collection_reason", name, "说明了理由，但已没有两个来源采集这个数据项")


CHECK = Check(
    "collection",
    "重复采集",
    run,
    counts={"collected_items": "采集的数据项"},
    may_be_none={"repeated_items": "多来源数据项"},
)
