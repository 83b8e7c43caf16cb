"""What JSON records hold inside: objects become columns with paths, lists of objects tables of their own, where all records agree,
or all but a few of many (which are refused then).

An object whose members are names of things (one per meter, per day) is no set of columns, and a list of anything but
objects no table: both stay JSON text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from catalog.contracts import pointer
from ingestion.drafting.most import is_most

MAX_DEPTH = 6
_SPARSE = 2.0
"""Members of all objects at a place together, against those of one of them: beyond it they are no columns."""


@dataclass
class ListShape:
    """A list of objects inside records: its pointer, and field → pointer in an element."""

    items: str
    paths: dict[str, str]


@dataclass
class Shape:
    """fields: in order, as a draft calls them (`venue.id`) → pointer, None for a member of the record itself. lists: tables of
    their own. kept: members whose objects or lists stay JSON text."""

    fields: dict[str, str | None] = field(default_factory=dict)
    lists: list[ListShape] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def shape_of(records: list[dict[str, Any]], *, with_lists: bool = True) -> Shape:
    """The shape of records. ``with_lists``: whether lists may be taken out of them."""
    shape = Shape()
    _expand(shape, records, "", 0, with_lists=with_lists)
    return shape


def _expand(shape: Shape, objects: list[dict[str, Any]], above: str, depth: int, *, with_lists: bool) -> None:
    for member in dict.fromkeys(name for item in objects for name in item):
        place = above + pointer.to_member(member)
        values = [item[member] for item in objects if item.get(member) is not None]
        dicts = [value for value in values if isinstance(value, dict)]
        if depth < MAX_DEPTH and _mostly(dicts, values) and _regular(dicts):
            _expand(shape, dicts, place, depth + 1, with_lists=with_lists)
            continue
        lists = [value for value in values if isinstance(value, list)]
        if with_lists and _mostly(lists, values):
            elements = [element for value in lists for element in value]
            if elements and all(isinstance(element, dict) for element in elements) and _regular(elements):
                inner = Shape()
                _expand(inner, elements, "", depth + 1, with_lists=False)
                paths = {name: path or pointer.to_member(name) for name, path in inner.fields.items()}
                shape.lists.append(ListShape(place, paths))
                shape.kept += [f"{_called(place)}[].{name}" for name in inner.kept]
                continue
        name = _called(place)
        while name in shape.fields:  # a member that is called like a path
            name += "_"
        shape.fields[name] = place if above else None
        if any(isinstance(value, dict | list) for value in values):
            shape.kept.append(name)


def _mostly(some: list[Any], values: list[Any]) -> bool:
    """Whether the values at a place are of one kind: all of them, or all but a few of many."""
    return bool(some) and (len(some) == len(values) or is_most(len(some) / len(values), len(values)))


def _called(place: str) -> str:
    return ".".join(pointer.tokens(place))


def _regular(objects: list[dict[str, Any]]) -> bool:
    """Whether the objects at a place have much the same members, and some."""
    members = {name for item in objects for name in item}
    return bool(members) and len(members) <= _SPARSE * sum(map(len, objects)) / len(objects)


__all__ = ["ListShape", "Shape", "shape_of"]
