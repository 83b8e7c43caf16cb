"""The policy proved by exhaustion: every grade, mark, identifier kind, audience, surface and subset of roles.

`decide` itself is asked for every cell, values outside the vocabulary included, and the answers are laid out as one
array of ranks (0 absent … 3 plain). Each property is a comparison of slices of that array; a violation is reported as
one counter-example in Chinese and the number of cells that break it. The subsets of roles are unions of slices, built
from smaller subsets, so that all of them cost a fraction of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from catalog.policy import declaration
from catalog.policy.decide import Facet, decide
from catalog.policy.declaration import FILE_SURFACE, TREATMENT_ZH, TREATMENTS, Limit, Policy, Surface
from catalog.policy.roles import conflicts

GRADES = ("L1", "L2", "L3", "L4")
MARKS = ("N", "P", "S")
ADMIN_DUTIES = ("audit", "security", "system")
_STRANGE = "未声明"
_ABSENT, _TOKEN, _MASKED, _PLAIN = range(len(TREATMENTS))
_MAX_ROLES = 16


@dataclass(frozen=True)
class Violation:
    """One property that does not hold: how many cells break it and one of them, in Chinese."""

    code: str
    title_zh: str
    count: int
    example_zh: str


@dataclass
class Proof:
    """What was examined (name → count), what does not hold, and how long it took."""

    examined: dict[str, int] = field(default_factory=dict)
    properties: dict[str, int] = field(default_factory=dict)  # property → comparisons made
    violations: list[Violation] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Holds, and something was examined for every property."""
        return not self.violations and bool(self.properties) and all(self.properties.values())

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True)
class _Space:
    """All answers. Axes: audience, surface, grade, mark, kind; each ends with a value nobody declared.

    The grade axis also holds "no grade", the mark axis "no mark"; the first kind is "no identifier".
    """

    policy: Policy
    audiences: tuple[str, ...]
    surfaces: tuple[str, ...]
    grades: tuple[str | None, ...]
    marks: tuple[str | None, ...]
    kinds: tuple[str | None, ...]
    shown: np.ndarray

    def say(self, index: Sequence[int], *, skip: int = 0) -> str:
        """A cell in Chinese; `skip` leaves out leading axes."""
        audience, surface, grade, mark, kind = (None,) * skip + tuple(int(i) for i in index)
        parts = []
        if audience is not None:
            name = self.audiences[audience]
            parts.append(f"受众「{self.policy.audiences[name].title if name in self.policy.audiences else name}」")
        if surface is not None:
            name = self.surfaces[surface]
            parts.append(f"展示面「{self.policy.surfaces[name].title if name in self.policy.surfaces else name}」")
        if grade is not None:
            parts.append(f"级别 {self.grades[grade] or '未定级'}")
        if mark is not None:
            parts.append(f"个人信息标识 {self.marks[mark] or '未标'}")
        if kind is not None:
            found = self.kinds[kind]
            title = self.policy.kinds[found].title if found in self.policy.kinds else found
            parts.append(f"标识种类 {title or '无'}")
        return "、".join(parts)


def _space(policy: Policy) -> _Space:
    audiences = (*policy.audiences, _STRANGE)
    surfaces = (*policy.surfaces, _STRANGE)
    grades: tuple[str | None, ...] = (*GRADES, None, "L9")
    marks: tuple[str | None, ...] = (*MARKS, None, "X")
    kinds: tuple[str | None, ...] = (None, *policy.kinds, _STRANGE)
    facets = [Facet(g, m, k) for g in grades for m in marks for k in kinds]
    ranks = [
        policy.rank(decide(audience, surface, facet, policy).treatment)
        for audience in audiences
        for surface in surfaces
        for facet in facets
    ]
    shape = (len(audiences), len(surfaces), len(grades), len(marks), len(kinds))
    return _Space(policy, audiences, surfaces, grades, marks, kinds, np.array(ranks, dtype=np.int8).reshape(shape))


def _limit(space: _Space, limit: Limit) -> np.ndarray:
    """A declared ceiling as an array over grade, mark and kind."""

    def ranks(values: Sequence[str | None], declared: dict[Any, Any]) -> np.ndarray:
        return np.array([space.policy.rank(declared.get(value, "absent")) for value in values], dtype=np.int8)

    kinds = ranks(space.kinds, limit.kinds)
    kinds[0] = _PLAIN
    return np.minimum(
        np.minimum(ranks(space.grades, limit.grades)[:, None, None], ranks(space.marks, limit.marks)[None, :, None]),
        kinds[None, None, :],
    )


def _zh(rank: int) -> str:
    return TREATMENT_ZH[TREATMENTS[rank]]


class _Checker:
    """Collects comparisons and violations property by property."""

    def __init__(self, space: _Space, proof: Proof):
        self.space, self.proof = space, proof

    def hold(self, code: str, broken: np.ndarray, say: Callable[[tuple[int, ...]], str]) -> None:
        """Count the comparisons; when some are broken, keep the first as the counter-example."""
        self.proof.properties[code] = self.proof.properties.get(code, 0) + int(broken.size)
        count = int(broken.sum())
        if not count:
            return
        first = tuple(int(i) for i in np.argwhere(broken)[0])
        self.add(code, count, say(first))

    def add(self, code: str, count: int, example: str) -> None:
        known = next((v for v in self.proof.violations if v.code == code), None)
        if known:
            self.proof.violations.remove(known)
            count, example = count + known.count, known.example_zh
        self.proof.violations.append(Violation(code, PROPERTY_ZH[code], count, example))


# --- the properties --------------------------------------------------------------------------------------------------


def _default_deny(check: _Checker) -> None:
    """Nothing that nobody declared is shown: an unknown audience, surface, grade, mark, kind, or a pair not listed."""
    space, shown = check.space, check.space.shown
    strange = np.zeros(shown.shape, dtype=bool)
    strange[-1] = strange[:, -1] = True
    strange[:, :, 4:] = strange[:, :, :, 3:] = strange[..., -1] = True
    for a, audience in enumerate(space.audiences):
        for s, surface in enumerate(space.surfaces):
            if surface not in space.policy.surfaces or audience not in space.policy.surfaces[surface].audiences:
                strange[a, s] = True
    check.hold(
        "default_deny",
        np.where(strange, shown, 0) > _ABSENT,
        lambda i: f"{space.say(i)}：没有声明，却为「{_zh(shown[i])}」",
    )


def _monotone(check: _Checker) -> None:
    """A higher grade, a more sensitive mark, an identifier: none of them shows more."""
    space, shown = check.space, check.space.shown
    for axis, code, count in ((2, "grade_monotone", len(GRADES) + 1), (3, "mark_monotone", len(MARKS) + 1)):
        for low, high in pairwise(range(count)):
            less, more = shown.take(low, axis), shown.take(high, axis)

            def say(i: tuple[int, ...], axis: int = axis, low: int = low, high: int = high) -> str:
                a, b = (*i[:axis], low, *i[axis:]), (*i[:axis], high, *i[axis:])
                return f"{space.say(b)} 为「{_zh(shown[b])}」，多于 {space.say(a)} 的「{_zh(shown[a])}」"

            check.hold(code, more > less, say)
    none = shown[..., :1]
    check.hold(
        "kind_monotone",
        shown > none,
        lambda i: f"{space.say(i)} 为「{_zh(shown[i])}」，多于同级、同标识的普通列「{_zh(none[(*i[:4], 0)])}」",
    )


def _clearance(check: _Checker) -> None:
    """More clearance never shows less: an audience sees at least what those below it see, here and overall."""
    space, shown = check.space, check.space.shown
    best = shown.max(axis=1)
    below = {name: i for i, name in enumerate(space.audiences)}
    pairs = list(_at_least(space.policy))
    check.proof.examined["clearance_pairs"] = len(pairs)
    for upper, lower in pairs:
        a, b = below[upper], below[lower]
        names = f"「{space.policy.audiences[upper].title}」权限不小于「{space.policy.audiences[lower].title}」，但"

        def overall(i: tuple[int, ...], a: int = a, b: int = b, names: str = names) -> str:
            return f"{names}{space.say(i, skip=2)} 在其全部展示面上至多「{_zh(best[(a, *i)])}」，后者为「{_zh(best[(b, *i)])}」"

        check.hold("clearance", best[a] < best[b], overall)
        for s, surface in enumerate(space.surfaces[:-1]):
            if {upper, lower} <= set(space.policy.surfaces[surface].audiences):

                def here(i: tuple[int, ...], s: int = s, a: int = a, b: int = b, names: str = names) -> str:
                    return f"{names}{space.say((s, *i), skip=1)} 为「{_zh(shown[(a, s, *i)])}」，后者为「{_zh(shown[(b, s, *i)])}」"

                check.hold("clearance", shown[a, s] < shown[b, s], here)


def _at_least(policy: Policy) -> Iterator[tuple[str, str]]:
    """Every (audience, audience below it), indirect ones included."""
    for name in policy.audiences:
        seen, todo = set[str](), list(policy.audiences[name].at_least)
        while todo:
            below = todo.pop()
            if below not in seen:
                seen.add(below)
                todo += policy.audiences[below].at_least
        yield from ((name, below) for below in sorted(seen))


def _named(check: _Checker) -> None:
    """A natural person's identifier is shown as it is only to audiences with a purpose, a row scope and a sole role."""
    space, shown = check.space, check.space.shown
    personal = np.array([k in space.policy.kinds and space.policy.kinds[k].personal for k in space.kinds])
    timeless = personal & np.array([k != "person_time" for k in space.kinds])
    for a, audience in enumerate(space.audiences[:-1]):
        who = space.policy.audiences[audience]
        roles = [role for role in space.policy.roles.values() if role.audience == audience]
        bound = (
            who.named
            and who.purpose
            and not space.policy.row_scopes[who.rows].whole
            and roles
            and all(role.alone for role in roles)
        )
        plain = (shown[a] == _PLAIN) & timeless
        if bound:
            plain = np.zeros_like(plain)

        def say(i: tuple[int, ...], a: int = a) -> str:
            return f"{space.say((a, *i))} 为「原样」，该受众却没有 具名声明、目的、行范围、不得兼任 中的某一项"

        check.hold("named_bound", plain, say)


def _values(check: _Checker) -> None:
    """Surfaces that only count show no value; what everybody may read shows no person."""
    space, shown = check.space, check.space.shown
    for s, surface in enumerate(space.surfaces[:-1]):
        place = space.policy.surfaces[surface]
        if place.values == "counts":

            def counted(i: tuple[int, ...], s: int = s) -> str:
                return f"{space.say((i[0], s, *i[1:]))} 为「{_zh(shown[(i[0], s, *i[1:])])}」，但该展示面只应有计数"

            check.hold("counts_only", shown[:, s] > _ABSENT, counted)
        if place.values == "text":
            personal = np.array([k in space.policy.kinds and space.policy.kinds[k].personal for k in space.kinds])

            def written(i: tuple[int, ...], s: int = s) -> str:
                return f"{space.say((i[0], s, *i[1:]))} 为「{_zh(shown[(i[0], s, *i[1:])])}」，日志与信息中不得有原样的个人标识"

            check.hold("text_masked", (shown[:, s] > _MASKED) & personal, written)
    if "public" in space.audiences:
        a = space.audiences.index("public")
        beyond = shown[a].copy()
        beyond[:, 0, 0] = 0
        check.hold(
            "public_open",
            beyond > _ABSENT,
            lambda i: f"{space.say((a, *i))} 为「{_zh(shown[(a, *i)])}」",
        )


def _without_file(place: Surface, index: tuple[int, ...]) -> str:
    return f"展示面「{place.title}」对受众 {place.audiences[index[0]]} 开放，但没有为其裁切的文件"


def _files(check: _Checker) -> None:
    """An audience reads a serving file through surfaces that are declared for it, and only where the file is."""
    space = check.space
    file = space.policy.surfaces.get(FILE_SURFACE)
    for place in space.policy.surfaces.values():
        if place.through != FILE_SURFACE:
            continue
        outside = np.array([file is None or audience not in file.audiences for audience in place.audiences])
        check.hold(
            "file_audience",
            outside,
            partial(_without_file, place),
        )


def _roles(check: _Checker) -> None:
    """Every subset of roles: refused, or together within the declared maximum; the three administrators apart."""
    space, policy, shown = check.space, check.space.policy, check.space.shown
    names = list(policy.roles)
    if not names or len(names) > _MAX_ROLES:
        check.add("roles", 1, f"角色数 {len(names)}：没有角色，或多到无法穷举")
        return
    duties = sorted(role.duty for role in policy.roles.values() if role.duty)
    if tuple(duties) != ADMIN_DUTIES:
        check.add("admins_apart", 1, f"三员应恰为系统、安全、审计各一，现为：{'、'.join(duties) or '无'}")
    maximum, ceiling = _limit(space, policy.combination.maximum), _limit(space, policy.combination.admin_ceiling)
    own = np.stack([shown[space.audiences.index(policy.roles[name].audience)] for name in names])
    admin = np.array([policy.roles[name].kind == "admin" for name in names])
    alone = np.array([policy.roles[name].alone for name in names])

    subsets = np.arange(1 << len(names))
    member = (subsets[:, None] >> np.arange(len(names))) & 1 == 1
    size = member.sum(axis=1)
    allowed = np.array([not conflicts([n for n, m in zip(names, row, strict=True) if m], policy) for row in member])
    check.proof.examined |= {"role_subsets": len(subsets), "role_subsets_allowed": int(allowed.sum())}

    def held(number: int) -> str:
        return "、".join(policy.roles[n].title for n, m in zip(names, member[number], strict=True) if m)

    check.hold(
        "admins_apart",
        allowed & ((member & admin).sum(axis=1) > 1),
        lambda i: f"允许由一人兼任：{held(i[0])}",
    )
    check.hold(
        "admin_alone",
        allowed & (member & admin).any(axis=1) & (size > 1),
        lambda i: f"允许由一人兼任：{held(i[0])}",
    )
    check.hold(
        "sole_roles",
        allowed & (member & alone).any(axis=1) & (size > 1),
        lambda i: f"允许由一人兼任：{held(i[0])}",
    )
    union = np.zeros((len(subsets), *own.shape[1:]), dtype=np.int8)
    for number in range(1, len(subsets)):  # a subset is its lowest role and a smaller subset
        lowest = (number & -number).bit_length() - 1
        np.maximum(union[number & (number - 1)], own[lowest], out=union[number])
    check.proof.examined["role_subset_cells"] = int(union.size)
    several = allowed & (size > 1)
    over = (union[several] > maximum).reshape(int(several.sum()), -1)
    numbers = np.flatnonzero(several)

    def exceeding(i: tuple[int, ...]) -> str:
        cell = np.unravel_index(i[1], own.shape[1:])
        number = numbers[i[0]]
        return (
            f"兼任 {held(number)}：{space.say([int(c) for c in cell], skip=1)} 合起来为「{_zh(union[number][cell])}」，"
            f"上限为「{_zh(maximum[cell[1:]])}」"
        )

    check.hold("union_maximum", over, exceeding)
    check.hold(
        "admin_ceiling",
        own[admin] > ceiling,
        lambda i: (
            f"角色「{policy.roles[[n for n, is_admin in zip(names, admin, strict=True) if is_admin][i[0]]].title}」，"
            f"{space.say(i[1:], skip=1)}：超过管理员上限「{_zh(ceiling[i[2:]])}」"
        ),
    )


PROPERTIES = (_default_deny, _monotone, _clearance, _named, _values, _files, _roles)
WORDS = {
    "audiences": "受众", "surfaces": "展示面", "grades": "级别", "marks": "个人信息标识", "kinds": "标识种类",
    "cells": "格", "clearance_pairs": "权限大小关系", "role_subsets": "角色组合", "role_subsets_allowed": "允许的角色组合",
    "role_subset_cells": "角色组合的格", "comparisons": "比较",
}  # fmt: skip


PROPERTY_ZH = {
    "default_deny": "默认拒绝：没有声明的一律不提供",
    "grade_monotone": "级别越高，露出越少",
    "mark_monotone": "个人信息标识越敏感，露出越少",
    "kind_monotone": "标识不比普通列露出更多",
    "clearance": "权限大者不会少看",
    "named_bound": "具名数据须有行范围与目的，且角色不得兼任",
    "counts_only": "只有计数的展示面不出现数据值",
    "text_masked": "日志与信息中没有原样的个人标识",
    "public_open": "社会公众只看到一级、非个人信息",
    "file_audience": "读服务文件的受众都有自己的服务文件",
    "roles": "角色可以穷举",
    "admins_apart": "三员分立",
    "admin_alone": "管理角色不兼任业务角色",
    "sole_roles": "不得兼任的角色没有兼任",
    "union_maximum": "兼任合起来不超过声明的上限",
    "admin_ceiling": "管理员不看业务明细",
}


def prove(policy: Policy | None = None) -> Proof:
    """Examine the whole policy (default: the one in force). Takes about a second; nothing is sampled."""
    started = time.perf_counter()
    space = _space(policy or declaration.current())
    proof = Proof()
    proof.examined = {
        "audiences": len(space.policy.audiences),
        "surfaces": len(space.policy.surfaces),
        "grades": len(GRADES),
        "marks": len(MARKS),
        "kinds": len(space.policy.kinds),
        "cells": int(space.shown.size),
    }
    check = _Checker(space, proof)
    for prove_one in PROPERTIES:
        prove_one(check)
    proof.examined["comparisons"] = sum(proof.properties.values())
    proof.seconds = round(time.perf_counter() - started, 2)
    return proof
