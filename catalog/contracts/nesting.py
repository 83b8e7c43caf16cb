"""Columns and rows taken from inside JSON records must fit the format, each other and the record they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.contracts.behaviour import Drift
from catalog.contracts.model import OF_LISTS

if TYPE_CHECKING:
    from catalog.contracts.model import ObjectSpec, ServerSpec

JSON = ("ndjson", "json_items")


def problems_of(objects: list[ObjectSpec], server: ServerSpec | None) -> list[str]:
    """Sentences about `path`, `items` and the derived columns that belong to them; empty when all is well."""
    is_json = server is not None and server.decoder in JSON
    by_table = {obj.table: obj for obj in objects}
    found: list[str] = []
    for obj in objects:
        texts = _paths(obj, is_json=is_json)
        if obj.items is None:
            texts += [
                f"{prop.name}: derive {prop.derive.function} belongs to an object with items"
                for prop in obj.properties
                if prop.derive and prop.derive.function in OF_LISTS
            ]
            if is_json and not obj.is_root:
                texts.append("items: a child of a JSON record needs the pointer to its list")
        elif not is_json:
            texts.append(f"items: only {' and '.join(JSON)} have lists inside their records")
        elif obj.is_root:
            texts.append("items: only an object with a parent is a list inside a record")
        else:
            texts += _list(obj, by_table.get(str(obj.parent)))
        found += [f"{obj.name}.{text}" for text in texts]
    return found


def _paths(obj: ObjectSpec, *, is_json: bool) -> list[str]:
    found: list[str] = []
    paths: dict[str, str | None] = {}
    for prop in obj.properties:
        if prop.path is not None and not is_json:
            found.append(f"{prop.name}: only {' and '.join(JSON)} have an inside that path points into")
        elif prop.path is not None and (prop.derive or not prop.source_name):
            found.append(f"{prop.name}: path belongs to a column with a physicalName that is not derived")
        elif prop.path == "" and obj.items is None:
            found.append(f"{prop.name}: path must point into the record, not to the whole of it")
        if prop.source_name and paths.setdefault(prop.source_name, prop.path) != prop.path:
            found.append(f"{prop.name}: {prop.source_name} is the physicalName of another path as well")
    found += [
        f"renames: {rename.to} is taken from inside the record by its path, so it has no name to change"
        for rename in obj.renames
        if paths.get(rename.to) is not None
    ]
    return found


def _list(obj: ObjectSpec, parent: ObjectSpec | None) -> list[str]:
    if parent is None:
        return []  # told already
    found = []
    if obj.items == "":
        found.append("items: the pointer must lead to a list inside the record")
    if not parent.is_root:
        found.append("parent: a list inside an element of a list is not read; its parent must be the root object")
    if set(obj.parent_key) != set(parent.dedup):
        found.append(f"parent.key: must be what tells the records of {parent.name} apart ({', '.join(parent.dedup)})")
    if parent.dedup_rule and (parent.dedup_rule.on_same, parent.dedup_rule.on_changed) != ("duplicate", "conflict"):
        found.append(f"parent: {parent.name} must store each key once (onSame duplicate, onChanged conflict)")
    if missing := [name for name in obj.parent_key if name not in obj.dedup]:
        found.append(f"dedup: must hold the key of the parent ({', '.join(missing)})")
    if obj.drift != Drift() or obj.renames:
        found.append("drift, renames: members of an element that no column names are not read")
    pointers = [prop.path for prop in obj.properties if prop.source_name and not prop.derive]
    if not pointers:
        found.append("properties: no column is read from the elements")
    if "" in pointers and set(pointers) != {""}:
        found.append('path: an element is one value (path "") or has parts, not both')
    for prop in obj.properties:
        function = prop.derive.function if prop.derive else None
        if prop.name in obj.parent_key and function != "from_parent":
            found.append(f"{prop.name}: a key of the parent is derived by from_parent")
        if function == "item_number" and prop.type not in ("BIGINT", "INTEGER"):
            found.append(f"{prop.name}: item_number is a BIGINT or an INTEGER")
        if function in OF_LISTS and prop.source_name:
            found.append(f"{prop.name}: a column derived by {function} has no physicalName")
        if function == "from_parent":
            found += _copied(prop.name, obj, parent)
    return found


def _copied(name: str, obj: ObjectSpec, parent: ObjectSpec) -> list[str]:
    if name not in parent.by_name:
        return [f"{name}: {parent.name} has no column of this name"]
    mine, there = obj.by_name[name], parent.by_name[name]
    same = ("type", "grade", "pi_mark", "identifier_kind", "mask", "unit", "code_list")
    differs = [item for item in same if getattr(mine, item) != getattr(there, item)]
    return [f"{name}: differs from the column of {parent.name} in {', '.join(differs)}"] if differs else []


__all__ = ["JSON", "problems_of"]
