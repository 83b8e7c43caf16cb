"""Resource codes: every entry has one, of the standard's structure; a published one never changes or is used again."""

from __future__ import annotations

from catalog.checks.base import Check, Context, Findings
from catalog.entries import codes, declared


def run(context: Context, found: Findings) -> None:
    """The register by itself, then against the entries; with a lake also against what was published there."""
    register = codes.register(context.entries_folder)
    provider = declared.provider(context.entries_folder)
    found.count("codes", len(register.codes))
    for code, where, message in codes.problems(register, provider):
        found.add(code, where, message)
    known = register.by_entry()
    for name in context.entries:
        if name not in known:
            found.add("code_missing", name, "条目还没有资源代码：运行 tiyu catalog assign")
    for name, line in known.items():
        if name not in context.entries:
            found.add("code_orphan", line.code, f"登记的条目 {name} 已不存在：在登记簿的 withdrawn 或 renamed 下说明")
    if context.lake:
        published = codes.published()
        found.count("published_codes", len(published))
        kept = {item.code for item in register.withdrawn} | {item.code for item in register.renamed}
        for code, name in published.items():
            own = known.get(name)
            locals_ = kept | ({own.code} if own else set())
            if code not in {known_code for item in locals_ for known_code in codes.every(item, provider)}:
                found.add("code_changed", code, f"湖仓里已发布给 {name} 的资源代码，登记簿里不再是它的")


CHECK = Check(
    "codes", "资源代码", run, counts={"codes": "资源代码"}, may_be_none={"published_codes": "已发布的资源代码"}
)
