"""How to get at an entry: what a department, a member of the public and a colleague have to do.

The steps follow from the entry's terms and the Data Regulation: sharing is the rule and a request states its use
(arts. 38, 39), what was shared serves one's own duties only (art. 40), opening has three types (art. 41), errors may be
reported (art. 35). Which audience sees which column is a matter of the policy, not of this module.
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.entries.model import Entry


@dataclass(frozen=True)
class Way:
    """One way to an entry: for whom, whether it is open at all, and the steps."""

    audience_zh: str
    allowed: bool
    steps_zh: tuple[str, ...]
    on_request: bool = False

    @property
    def word_zh(self) -> str:
        """One word for the way: at once, on request, or not at all."""
        if not self.allowed:
            return "不提供"
        return "须申请" if self.on_request else "可用"


def _department(entry: Entry) -> Way:
    who = "其他部门"
    if entry.share.type == "denied":
        return Way(who, False, (f"不予共享：{entry.share.basis}", "确需核实时，可向责任处室申请核验（只答是或否）"))
    onward = "共享所得只用于本部门履职，不得转给第三方（上海市数据条例第四十条）"
    if entry.share.type == "unconditional":
        return Way(who, True, (f"{entry.share.method}直接取得", onward))
    return Way(
        who,
        True,
        (
            f"共享条件：{entry.share.condition}",
            f"在市大数据资源平台提出申请，说明应用场景并承诺合规；由 {entry.owner_name} 审核",
            onward,
        ),
        on_request=True,
    )


def _public(entry: Entry) -> Way:
    who = "公众与企业"
    if entry.open.type == "closed":
        return Way(who, False, (f"非开放：{entry.open.basis}",))
    scope = f"开放范围：{entry.open.scope}"
    if entry.open.type == "unconditional":
        return Way(who, True, (scope, "在上海市公共数据开放平台直接下载"))
    return Way(who, True, (scope, f"开放条件：{entry.open.condition}"), on_request=True)


def _colleague(entry: Entry) -> Way:
    return Way(
        "局内同事",
        True,
        (
            "在分析窗口（SQL Lab 或 tiyu sql）中按岗位看到策略允许的列",
            f"需要更多，或发现数据有误：联系 {entry.owner_name}，写明资源代码 {entry.code or '（待编码）'} 与用途",
        ),
    )


def ways(entry: Entry) -> tuple[Way, ...]:
    """Colleagues first, then other departments, then the public."""
    return _colleague(entry), _department(entry), _public(entry)
