"""Field level: what a column holds, how much harm its disclosure does, and hence the level suggested for it.

Level = highest of all items suggested for the column (就高从严). Evidence is the contract's identifier kind, the column's
name or title, or counts of a content scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from catalog import contracts
from catalog.columns import ColumnRow
from catalog.contracts.model import PROTECTED_KINDS
from catalog.detectors import names
from catalog.detectors.content import Finding
from catalog.grading import declarations
from catalog.grading.declarations import DEGREES, Grading, Item, Override

_OF_KIND = {"name": "person_name", "phone": "phone", "id_no": "id_no", "athlete_no": "athlete_no", "uscc": "uscc"}
_FORM_ZH = {"token": "带密钥的标记（假名化）", "masked": "遮蔽显示", "raw": "原值"}
#: Names of a representative's contact columns: their rows speak of an organisation, not of that person.
_CONTACT = "contact_"


@dataclass(frozen=True)
class Suggestion:
    """What the rules say of one column because of one item.

    rule: ``{item}.{form}``, form raw | token | masked. evidence: why the item is thought to be there (never a value).
    """

    table: str
    column: str
    item: str
    rule: str
    object: str
    degree: str
    data_class: str
    level: str
    mark: str
    evidence: str


@dataclass(frozen=True)
class Disagreement:
    """A column declared below what is suggested. `override` is the accepted exception, when there is one."""

    suggestion: Suggestion
    declared_level: str | None
    declared_mark: str | None
    override: Override | None

    @property
    def accepted(self) -> bool:
        return self.override is not None


def person_tables(rows: Iterable[ColumnRow]) -> set[str]:
    """Tables whose rows speak of one person: they carry a person's token, or belong to a contract whose root does."""
    found = {
        row["table"]
        for row in rows
        if (row["column"].endswith("_token") or row["identifier_kind"] in PROTECTED_KINDS)
        and not row["column"].startswith(_CONTACT)
    }
    for contract in contracts.load_all("source").values():
        if contract.root.table in found:
            found |= {obj.table for obj in contract.objects}
    return found


def _form(row: ColumnRow, masked: set[tuple[str, str]]) -> str:
    if row["column"].endswith("_token"):
        return "token"
    return "masked" if (row["table"], row["column"]) in masked else "raw"


def _masked_columns() -> set[tuple[str, str]]:
    return {
        (obj.table, prop.name)
        for contract in contracts.load_all("source").values()
        for obj in contract.objects
        for prop in obj.properties
        if prop.mask
    }


def _weigh(grading: Grading, item: Item, form: str) -> tuple[str, str, str]:
    """(degree after the measure, class of data, level). Important and core data count as L4."""
    measure = grading.measures.get(form)
    steps = measure.steps if measure else 0
    at = DEGREES.index(item.degree)
    degree = DEGREES[max(at - steps, min(at, 1))]
    data_class = grading.decision_table[item.object][degree]
    level = grading.levels[degree] if data_class == "general" else "L4"
    return degree, data_class, level


def _items_of(row: ColumnRow, source_name: str | None, found: Iterable[Finding]) -> dict[str, str]:
    """Item → evidence, for one column."""
    items: dict[str, str] = {}
    kind = row["identifier_kind"]
    if kind in _OF_KIND:
        items[_OF_KIND[kind]] = f"契约声明标识种类 {kind}"
    for hit in names.detect(row["column"], source_name, row["title_zh"]):
        items.setdefault(hit.kind, f"名称含“{hit.evidence}”")
    for finding in found:
        items.setdefault(finding.kind, f"内容识别：{finding.examined} 个非空值中 {finding.hits} 个含有")
    if "id_no" in items and row["column"].endswith("_token"):
        items.pop("phone", None)
    return items


def suggest(
    rows: list[ColumnRow], content: Mapping[tuple[str, str], Iterable[Finding]] | None = None
) -> list[Suggestion]:
    """Suggestions for described columns; `content` adds findings of a scan by (table, column)."""
    grading = declarations.load()
    content = content or {}
    persons, masked = person_tables(rows), _masked_columns()
    source_names = {
        (obj.table, prop.name): prop.source_name
        for contract in contracts.load_all("source").values()
        for obj in contract.objects
        for prop in obj.properties
    }
    suggestions = []
    for row in rows:
        key = (row["table"], row["column"])
        form = _form(row, masked)
        for code, evidence in _items_of(row, source_names.get(key), content.get(key, ())).items():
            item = grading.item(code)
            if item.context == "person" and row["table"] not in persons:
                continue
            if _speaks_of_many(row):
                continue
            degree, data_class, level = _weigh(grading, item, form)
            suggestions.append(
                Suggestion(
                    row["table"],
                    row["column"],
                    code,
                    f"{code}.{form}",
                    item.object,
                    degree,
                    data_class,
                    level,
                    item.mark,
                    f"{evidence}；形态：{_FORM_ZH[form]}",
                )
            )
    return suggestions


def _speaks_of_many(row: ColumnRow) -> bool:
    """A count, a share or a flag about data is not the item itself: `phone_count`, `has_position`, `graded_count`."""
    return row["column"].endswith(("_count", "_pct", "_share")) or row["column"].startswith("has_")


def disagreements(rows: list[ColumnRow], suggestions: Iterable[Suggestion], on: date) -> list[Disagreement]:
    """Columns declared below a suggestion, in level or in mark; an override counts until it expires."""
    declared = {(row["table"], row["column"]): row for row in rows}
    accepted = {(o.column, o.item): o for o in declarations.overrides() if o.approved <= on < o.expires}
    found = []
    for suggestion in suggestions:
        row = declared[(suggestion.table, suggestion.column)]
        level_low = (row["grade"] or "L0") < suggestion.level
        mark_low = "NPS".find(row["pi_mark"] or "") < "NPS".index(suggestion.mark)
        if not (level_low or mark_low):
            continue
        override = accepted.get((f"{suggestion.table}.{suggestion.column}", suggestion.item))
        if override is not None and (row["grade"] or "L0") < override.level:
            override = None  # less than even the exception allows
        found.append(Disagreement(suggestion, row["grade"], row["pi_mark"], override))
    return found
