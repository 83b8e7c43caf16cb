"""What a contract says of its source's habits must fit its columns and itself; checked when a contract is read."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from catalog import vocabularies
from catalog.contracts import batch_rules

if TYPE_CHECKING:
    from catalog.contracts.model import PropertySpec, TiyuObject

_WHOLE = ("BIGINT", "INTEGER")
_MOMENT = ("DATE", "TIMESTAMPTZ")
PART_DATE = "part_date"


def problems_of(tiyu: TiyuObject, properties: list[PropertySpec], prefix: str) -> list[str]:
    """Sentences about `dedup`, `deletes`, `renames`, `corrections` and `batch` of one object; empty when all is well."""
    found: list[str] = []
    by_name = {item.name: item for item in properties}
    for part in (_only_of_roots, _repetition, _deletes, _renames, _corrections):
        found += part(tiyu, by_name)
    return found + _batch(tiyu, by_name, prefix)


def _only_of_roots(tiyu: TiyuObject, by_name: dict[str, PropertySpec]) -> list[str]:
    if tiyu.parent is None:
        return []
    rule = tiyu.dedup_rule
    said = {
        "dedup beyond its key": rule is not None and (rule.on_same, rule.on_changed) != ("duplicate", "conflict"),
        "delivery": tiyu.delivery != "incremental",
        "deletes": tiyu.deletes.by != "none",
        "late": tiyu.late is not None,
        "corrections": bool(tiyu.corrections),
        "batch": bool(tiyu.batch.rules),
    }
    return [
        f"{name}: a child record follows its root record; declare it there" for name, is_said in said.items() if is_said
    ]


def _repetition(tiyu: TiyuObject, by_name: dict[str, PropertySpec]) -> list[str]:
    rule = tiyu.dedup_rule
    if rule is None or rule.by is None:
        return []
    if rule.by not in by_name:
        return [f"dedup.by: column {rule.by} does not exist"]
    if by_name[rule.by].type not in (*_MOMENT, *_WHOLE):
        return [f"dedup.by: {rule.by} must be a date, a time or a whole number"]
    return [f"dedup.by: {rule.by} belongs to the key, so it never differs"] if rule.by in rule.key else []


def _deletes(tiyu: TiyuObject, by_name: dict[str, PropertySpec]) -> list[str]:
    deletes, rule, found = tiyu.deletes, tiyu.dedup_rule, []
    if deletes.by == "none":
        return []
    if rule is None or rule.on_changed != "newest":
        found.append("deletes: a delete changes a stored row, so dedup needs onChanged newest")
    if deletes.by == "column":
        column = by_name.get(deletes.column or "")
        if column is None or column.type not in ("BOOLEAN", *_MOMENT):
            found.append(f"deletes.column: {deletes.column} must be a column of type BOOLEAN, DATE or TIMESTAMPTZ")
    if deletes.pattern is not None and not _compiles(deletes.pattern):
        found.append("deletes.pattern: not a regular expression")
    if rule is not None and deletes.by == "tombstone":
        found += [
            f"deletes: tombstones name the key, and {name} has no column in the source"
            for name in rule.key
            if name in by_name and not by_name[name].source_name
        ]
    if rule is not None and deletes.by == "absence" and tiyu.part_date in rule.key:
        found.append("deletes: with the date in the key each snapshot is kept whole, so nothing is gone by absence")
    return found


def _renames(tiyu: TiyuObject, by_name: dict[str, PropertySpec]) -> list[str]:
    sources = {item.source_name for item in by_name.values() if item.source_name}
    found = []
    for rename in tiyu.renames:
        if rename.to not in sources:
            found.append(f"renames: no column has the physicalName {rename.to}")
        if rename.from_name in sources:
            found.append(
                f"renames: {rename.from_name} is the physicalName of a column, so it cannot be an old name as well"
            )
    counted = Counter(rename.from_name for rename in tiyu.renames)
    return found + [f"renames: {name} is declared twice" for name, count in counted.items() if count > 1]


def _corrections(tiyu: TiyuObject, by_name: dict[str, PropertySpec]) -> list[str]:
    found = []
    for item in tiyu.corrections:
        column = by_name.get(item.column)
        if column is None or column.derive is not None or not column.source_name:
            found.append(f"corrections.{item.id}: {item.column} is no column that the source delivers")
        elif column.protection or column.grade >= "L3":
            found.append(f"corrections.{item.id}: a value of {item.column} may not be written down in a contract")
    counted = Counter(item.id for item in tiyu.corrections)
    return found + [f"corrections: {name} is declared twice" for name, count in counted.items() if count > 1]


def _batch(tiyu: TiyuObject, by_name: dict[str, PropertySpec], prefix: str) -> list[str]:
    found = []
    specs = [batch_rules.spec(rule, prefix) for rule in tiyu.batch.rules]
    types = {name: item.type for name, item in by_name.items()} | {PART_DATE: "DATE"}
    for rule in specs:
        where = f"batch rule {rule.rule_id}"
        found += [f"{where}: column {name} does not exist" for name in batch_rules.columns(rule) if name not in types]
        kind = types.get(str(rule.params.get("column")), "")
        if rule.kind == "continuity" and kind and kind not in ("DATE", *_WHOLE):
            found.append(f"{where}: {rule.params['column']} must be a date or a whole number")
        if rule.kind == "freshness" and kind and kind not in _MOMENT:
            found.append(f"{where}: {rule.params['column']} must be a date or a time")
        if rule.kind == "total":
            found += [
                f"{where}: {name} must be a number"
                for name in batch_rules.columns(rule)
                if name in types and not _is_number(types[name])
            ]
        code_list = rule.params.get("code_list")
        if code_list and not vocabularies.exists(code_list):
            found.append(f"{where}: unknown code list {code_list}")
    counted = Counter(rule.rule_id for rule in specs)
    found += [
        f"batch rule {name}: the id is used twice; give one of them an id"
        for name, count in counted.items()
        if count > 1
    ]
    if tiyu.batch.manifest is not None and not _compiles(tiyu.batch.manifest.pattern):
        found.append("batch.manifest.pattern: not a regular expression")
    return found


def _is_number(kind: str) -> bool:
    return kind in (*_WHOLE, "DOUBLE") or kind.startswith("DECIMAL")


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
