"""What deliveries and open datasets have in common: the columns that an output contract lists, and their grades."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog import policy
from catalog.policy import Facet
from sharing import files

if TYPE_CHECKING:
    from catalog.contracts import Contract


@dataclass(frozen=True)
class Column:
    """A column as the contract lists it; ``type`` is the DuckDB type name."""

    name: str
    title_zh: str
    type: str
    grade: str
    pi_mark: str
    unit: str | None = None
    code_list: str | None = None
    required: bool = False
    description: str = ""


def columns_of(contract: Contract) -> tuple[Column, ...]:
    """The columns that leave by an output contract, in its order."""
    return tuple(
        Column(p.name, p.title_zh, p.type, p.grade, p.pi_mark, p.unit, p.code_list, p.required, p.description)
        for p in contract.root.properties
    )


def schema_version(contract_version: str, columns: Sequence[Column]) -> str:
    """Contract version plus a fingerprint of the columns: changes whenever the layout does."""
    layout = json.dumps([[c.name, c.type, c.unit, c.code_list, c.required] for c in columns], ensure_ascii=False)
    return f"{contract_version}-{files.sm3_bytes(layout.encode())[:8]}"


def described(table: str) -> dict[str, Facet]:
    """Grade, mark and identifier kind that the catalogue gives the columns of a lake table."""
    from catalog.policy.explain import table_columns

    columns = table_columns(table)
    person_level = policy.is_person_level(columns)
    return {column.name: policy.facet_of(column, person_level=person_level) for column in columns}


def refused(table: str, columns: Sequence[Column], channel: str) -> dict[str, str]:
    """Columns that the policy does not let leave by a channel (``exchange`` or ``open``) as they are, with the reason.

    The stricter of what the contract and what the catalogue says of a column counts.
    """
    in_lake = described(table)
    nobody = Facet(None, None, None)
    found: dict[str, str] = {}
    for column in columns:
        facet = policy.strictest(Facet(column.grade, column.pi_mark, None), in_lake.get(column.name, nobody))
        decision = policy.decide(*policy.CHANNELS[channel], facet)
        if decision.treatment != "plain":
            found[column.name] = "、".join(dict.fromkeys(step.text_zh.partition("：")[2] for step in decision.why))
    return found
