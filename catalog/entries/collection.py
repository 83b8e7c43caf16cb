"""Which items the sources collect, and which are the same item.

The same item means: an identifier of the same kind, values of the same code list, or the same term after normalising
its Chinese name. Three things do not count: a column that only refers to another source's record (a `reference` rule) is
a key; what the platform derives is not collected; a date or time says when the source's own event happened (a birth date
does count).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from catalog.contracts import Contract, PropertySpec
from catalog.contracts.model import PROTECTED_KINDS

_NOISE = re.compile(r"[\s（）()·、:：/\-]|标记$|标识$|（.*?）")


@dataclass(frozen=True)
class CollectedColumn:
    """A column of a source that collects an item."""

    source: str
    name: str
    title_zh: str


@dataclass
class Item:
    """One item and where it is collected. `personal`: it identifies a natural person or is marked P or S."""

    name: str
    columns: list[CollectedColumn] = field(default_factory=list)
    personal: bool = False

    @property
    def sources(self) -> list[str]:
        return sorted({column.source for column in self.columns})


def item_name(prop: PropertySpec) -> str:
    """`identifier:<kind>`, `codes:<list>` or `term:<normalised Chinese name>`."""
    if prop.identifier_kind:
        return f"identifier:{prop.identifier_kind}"
    if prop.code_list and prop.code_list != "yes_no":
        return f"codes:{prop.code_list}"
    return f"term:{_NOISE.sub('', prop.title_zh)}"


def _own_time(prop: PropertySpec) -> bool:
    return prop.type in ("DATE", "TIMESTAMPTZ") and not re.search(r"出生|生日", prop.title_zh)


def items(sources: Iterable[Contract]) -> dict[str, Item]:
    """Item name → where it is collected."""
    found: dict[str, Item] = {}
    for contract in sources:
        for obj in contract.objects:
            keys = {rule.columns[0] for rule in obj.rules if rule.kind == "reference"} | set(obj.parent_key)
            for prop in obj.properties:
                if prop.derive is not None or prop.name in keys or _own_time(prop):
                    continue
                item = found.setdefault(item_name(prop), Item(item_name(prop)))
                item.columns.append(CollectedColumn(contract.id, prop.name, prop.title_zh))
                item.personal |= prop.identifier_kind in PROTECTED_KINDS or prop.pi_mark != "N"
    return found
