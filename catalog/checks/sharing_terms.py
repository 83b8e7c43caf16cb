"""Sharing and opening agree with each other, with the grade and with the law (reference §1.3 and §2.5, Data Regulation
arts. 28, 38, 41, 42; Personal Information Protection Law art. 28).

Each rule is a function of one entry; `RULES` lists them, and each has a test that fails it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from catalog.checks.base import Check, Context, Findings
from catalog.entries import Entry

SHARE = ("denied", "conditional", "unconditional")
OPEN = ("closed", "conditional", "unconditional")
_LAW = re.compile(r"《.+?》|法|条例|规定|办法")

Rule = Callable[[Entry], str | None]


def share_type(entry: Entry) -> str | None:
    """9: the type is one of three."""
    return None if entry.share.type in SHARE else f"共享类型不在代码表内：{entry.share.type}"


def open_type(entry: Entry) -> str | None:
    """10: the type is one of three (art. 41)."""
    return None if entry.open.type in OPEN else f"开放类型不在代码表内：{entry.open.type}"


def share_condition(entry: Entry) -> str | None:
    """9: conditional sharing states its condition."""
    missing = entry.share.type == "conditional" and not (entry.share.condition or "").strip()
    return "有条件共享没有共享条件" if missing else None


def share_basis(entry: Entry) -> str | None:
    """9: what is not shared names the law or policy, because sharing is the rule (art. 38)."""
    missing = entry.share.type == "denied" and not _LAW.search(entry.share.basis or "")
    return "不予共享没有法律、法规或政策依据（契约的 share.basis 写明哪部法规第几条）" if missing else None


def share_method(entry: Entry) -> str | None:
    """9: the way of sharing, unless there is none."""
    return "没有共享方式" if entry.share.type != "denied" and not (entry.share.method or "").strip() else None


def open_condition(entry: Entry) -> str | None:
    """10: conditional opening states its condition."""
    missing = entry.open.type == "conditional" and not (entry.open.condition or "").strip()
    return "有条件开放没有开放条件" if missing else None


def open_scope(entry: Entry) -> str | None:
    """Art. 42: what is opened states its scope."""
    return "开放的资源没有开放范围" if entry.open.type != "closed" and not (entry.open.scope or "").strip() else None


def open_basis(entry: Entry) -> str | None:
    """Art. 41: what is not opened says why."""
    return (
        "非开放没有理由（契约的 open.basis）"
        if entry.open.type == "closed" and not (entry.open.basis or "").strip()
        else None
    )


def open_above_share(entry: Entry) -> str | None:
    """What society may have, the departments may have: open ≤ share."""
    if entry.share.type not in SHARE or entry.open.type not in OPEN:
        return None
    above = OPEN.index(entry.open.type) > SHARE.index(entry.share.type)
    return f"开放类型宽于共享类型：开放 {entry.open.type}，共享 {entry.share.type}" if above else None


def personal_share(entry: Entry) -> str | None:
    """Personal data is never shared unconditionally; what is not marked counts as personal."""
    return "含个人信息的资源不得无条件共享" if _personal(entry) and entry.share.type == "unconditional" else None


def personal_open(entry: Entry) -> str | None:
    """Personal data is never opened unconditionally (art. 41)."""
    return "含个人信息的资源不得无条件开放" if _personal(entry) and entry.open.type == "unconditional" else None


def grade_share(entry: Entry) -> str | None:
    """L3 and above are never shared unconditionally; what is not graded counts as L4."""
    return (
        f"{_grade(entry)} 的资源不得无条件共享"
        if _grade(entry) >= "L3" and entry.share.type == "unconditional"
        else None
    )


def grade_open(entry: Entry) -> str | None:
    """L3 and above are never opened unconditionally."""
    return (
        f"{_grade(entry)} 的资源不得无条件开放"
        if _grade(entry) >= "L3" and entry.open.type == "unconditional"
        else None
    )


def sensitive_open(entry: Entry) -> str | None:
    """L4 and sensitive personal data are not opened at all."""
    sensitive = _grade(entry) == "L4" or entry.pi_mark in (None, "S")
    return "四级或敏感个人信息不得开放" if sensitive and entry.open.type != "closed" else None


def sensitive_share(entry: Entry) -> str | None:
    """L4 is not shared as data; where the law asks for it, a yes-or-no answer is (reference §2.5)."""
    return "四级资源不予共享（只可提供核验）" if _grade(entry) == "L4" and entry.share.type != "denied" else None


def _personal(entry: Entry) -> bool:
    return entry.pi_mark != "N"


def _grade(entry: Entry) -> str:
    return entry.grade or "L4"


RULES: tuple[Rule, ...] = (
    share_type,
    open_type,
    share_condition,
    share_basis,
    share_method,
    open_condition,
    open_scope,
    open_basis,
    open_above_share,
    personal_share,
    personal_open,
    grade_share,
    grade_open,
    sensitive_open,
    sensitive_share,
)


def run(context: Context, found: Findings) -> None:
    """Every rule on every entry."""
    for entry in context.entries.values():
        found.count("terms", len(RULES))
        for rule in RULES:
            if message := rule(entry):
                found.add(rule.__name__, entry.id, message)


CHECK = Check("sharing_terms", "共享与开放属性", run, counts={"terms": "共享开放规则"})
