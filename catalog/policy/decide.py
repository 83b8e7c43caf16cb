"""The one question: what may this audience see of a column on this surface?

Answer = the stricter of what the audience and what the surface allow; each allows the strictest of what it says of
grade, mark and identifier kind. Whatever nobody declared is absent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple, Protocol

from catalog.columns import TECHNICAL
from catalog.policy import declaration
from catalog.policy.declaration import FILE_SURFACE, TREATMENTS, Audience, Limit, Policy, Treatment

HIDE = "hide"
"""Mask of a value that has no kind, and of kinds that show nothing."""

PERSON_TIME = "person_time"
UNKNOWN_KIND = "?"


class Described(Protocol):
    """What the catalogue says of a column; None where nobody said it."""

    @property
    def table(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def grade(self) -> str | None: ...
    @property
    def pi_mark(self) -> str | None: ...
    @property
    def identifier_kind(self) -> str | None: ...


class Facet(NamedTuple):
    """What a decision depends on: grade, mark and identifier kind of a value (None: nobody said / no identifier)."""

    grade: str | None
    mark: str | None
    kind: str | None


@dataclass(frozen=True)
class Step:
    """One rule that was asked, and what it allows."""

    rule: str
    treatment: Treatment
    text_zh: str
    basis: str


@dataclass(frozen=True)
class Decision:
    """`mask` names the mask when the treatment is masked; `steps` are the rules asked, the deciding one(s) strictest."""

    treatment: Treatment
    mask: str | None
    steps: tuple[Step, ...]

    @property
    def why(self) -> tuple[Step, ...]:
        """The rules that made the answer as strict as it is."""
        return tuple(step for step in self.steps if step.treatment == self.treatment)


def _least(treatments: Iterable[Treatment]) -> Treatment:
    return TREATMENTS[min((TREATMENTS.index(t) for t in treatments), default=0)]


def _ask(policy: Policy, limit: Limit, who: str, facet: Facet) -> list[Step]:
    grade = limit.grades.get(facet.grade, "absent")  # type: ignore[call-overload]
    mark = limit.marks.get(facet.mark, "absent")  # type: ignore[call-overload]
    steps = [
        Step("grade", grade, f"{who}：{f'级别 {facet.grade}' if facet.grade else '没有定级'}", limit.basis),
        Step("mark", mark, f"{who}：{f'个人信息标识 {facet.mark}' if facet.mark else '没有个人信息标识'}", limit.basis),
    ]
    if facet.kind is not None:
        known = policy.kinds.get(facet.kind)
        allowed = limit.kinds.get(facet.kind, "absent") if known else "absent"
        title = known.title if known else f"未声明的标识种类 {facet.kind}"
        steps.append(Step("kind", allowed, f"{who}：标识种类 {title}", limit.basis))
    return steps


@lru_cache(maxsize=1024)
def _closed(policy: _ById, audience: str, surface: str) -> Decision | None:
    """The decision where an audience may not use a surface; None where it may."""
    place, who = policy.policy.surfaces.get(surface), policy.policy.audiences.get(audience)
    if place is not None and who is not None and audience in place.audiences:
        return None
    where = place.title if place else f"未声明的展示面 {surface}"
    text = f"{where} 不对 {who.title if who else f'未声明的受众 {audience}'} 开放"
    return Decision("absent", None, (Step("audience", "absent", text, place.basis if place else "默认拒绝"),))


@lru_cache(maxsize=1 << 15)
def _open(policy: _ById, audience: str, surface: str, facet: Facet) -> Decision:
    declared = policy.policy
    place, who = declared.surfaces[surface], declared.audiences[audience]
    steps = _ask(declared, who, f"受众 {who.title}", facet)
    if isinstance(place.limit, Limit):
        limit = place.limit if place.limit.basis else place.limit.model_copy(update={"basis": place.basis})
        steps += _ask(declared, limit, f"展示面 {place.title}", facet)
    return _answer(declared, facet, steps)


def _answer(policy: Policy, facet: Facet, steps: Iterable[Step]) -> Decision:
    steps = tuple(steps)
    treatment = _least(step.treatment for step in steps)
    mask = None
    if treatment == "masked":
        mask = policy.kinds[facet.kind].mask if facet.kind in policy.kinds else HIDE
    return Decision(treatment, mask, steps)


class _ById:
    """A policy as a cache key: compared by identity, because hashing the whole declaration would cost more than deciding."""

    __slots__ = ("policy",)

    def __init__(self, policy: Policy):
        self.policy = policy

    def __hash__(self) -> int:
        return id(self.policy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.policy is self.policy


def decide(audience: str, surface: str, facet: Facet, policy: Policy | None = None) -> Decision:
    """What an audience may see, on a surface, of values with a grade, a mark and an identifier kind.

    An unknown audience, surface, grade, mark or kind gives absent. `policy` None means the one in force.
    """
    key = _ById(policy or declaration.current())
    return _closed(key, audience, surface) or _open(key, audience, surface, facet)


CHANNELS: dict[str, tuple[str, str]] = {"exchange": ("exchange", "exchange"), "open": ("public", "open_data")}
"""Kind of an output contract → the audience and surface its columns leave to."""


def strictest(*facets: Facet) -> Facet:
    """What counts when several declarations speak of one column: the highest grade, the most sensitive mark, a kind if any
    names one; what one of them leaves open stays open, and an open grade or mark is decided as absent."""
    grades, marks = [facet.grade for facet in facets], [facet.mark for facet in facets]
    grade = None if None in grades else max(str(item) for item in grades)
    mark = None if None in marks else max((str(item) for item in marks), key="NPS".find)
    return Facet(grade, mark, next((facet.kind for facet in facets if facet.kind), None))


def allows(audience: str, surface: str, policy: Policy | None = None) -> bool:
    """Whether an audience may use a surface at all."""
    place = (policy or declaration.current()).surfaces.get(surface)
    return place is not None and audience in place.audiences


def is_person_level(columns: Iterable[Described]) -> bool:
    """Whether rows of a table speak of one person: some column is personal information or names a person."""
    return any(column.pi_mark in ("P", "S") or column.name.endswith("_token") for column in columns)


def kind_of(column: Described, *, person_level: bool, policy: Policy | None = None) -> str | None:
    """The identifier kind of a column: the declared one, else by its name, else a time of a person-level table.

    A declared kind that the policy does not know is returned as it is, and decided as absent.
    """
    if column.identifier_kind is not None:
        return column.identifier_kind
    for name, kind in (policy or declaration.current()).kinds.items():
        patterns = kind.columns + (kind.personal_columns if column.pi_mark in ("P", "S", None) else ())
        if any(fnmatchcase(column.name, pattern) for pattern in patterns):
            return name
    return PERSON_TIME if person_level and column.type.upper().startswith("TIMESTAMP") else None


def facet_of(column: Described, *, person_level: bool, policy: Policy | None = None) -> Facet:
    """Grade, mark and kind of a column; the platform's own columns name a batch and an object, never a person: L1, N."""
    if column.name in TECHNICAL:
        return Facet("L1", "N", None)
    return Facet(column.grade, column.pi_mark, kind_of(column, person_level=person_level, policy=policy))


def _exceptions(who: Audience, column: Described) -> list[Step]:
    return [
        Step("column", rule.treatment, f"受众 {who.title}：列例外 {rule.reason}", who.basis)
        for rule in who.columns
        if rule.column == column.name and rule.table in (None, column.table)
    ]


def decide_column(
    audience: str, surface: str, column: Described, *, person_level: bool, policy: Policy | None = None
) -> Decision:
    """The same question for a described column, with the audience's exceptions for single columns.

    `person_level` says whether rows of its table speak of one person: then times count as identifiers.
    """
    declared = policy or declaration.current()
    facet = facet_of(column, person_level=person_level, policy=declared)
    decision = decide(audience, surface, facet, declared)
    exceptions = _exceptions(declared.audiences[audience], column) if audience in declared.audiences else []
    return _answer(declared, facet, (*decision.steps, *exceptions)) if exceptions else decision


def table_allowed(audience: str, table: str, policy: Policy | None = None) -> bool:
    """Whether a table may be in an audience's file at all: in its list, and with rows of its scope."""
    declared = policy or declaration.current()
    who = declared.audiences.get(audience)
    if who is None:
        return False
    scope = declared.row_scopes[who.rows]
    return (scope.whole or table in scope.tables) and any(table.startswith(prefix) for prefix in who.tables)


def decide_file(audience: str, column: Described, *, person_level: bool, policy: Policy | None = None) -> Decision:
    """What an audience's serving file may hold of a column: the strictest of all surfaces that read the file.

    A file that no surface reads for the audience holds nothing, and a table outside the audience's list is not in it.
    """
    declared = policy or declaration.current()
    readers = [
        name
        for name, place in declared.surfaces.items()
        if place.through == FILE_SURFACE and audience in place.audiences
    ]
    if not readers:
        text = f"没有展示面读取受众 {audience} 的服务文件"
        return Decision("absent", None, (Step("audience", "absent", text, "默认拒绝"),))
    facet = facet_of(column, person_level=person_level, policy=declared)
    steps: list[Step] = []
    for surface in (FILE_SURFACE, *readers):
        steps += decide_column(audience, surface, column, person_level=person_level, policy=declared).steps
    if not table_allowed(audience, column.table, declared):
        who = declared.audiences[audience]
        text = f"受众 {who.title}：表 {column.table} 不在其表清单或行范围内"
        steps.append(Step("table", "absent", text, who.basis))
    return _answer(declared, facet, dict.fromkeys(steps))
