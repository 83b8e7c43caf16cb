"""An entry as an Open Data Contract Standard v3.2 file.

A source or output has one already: it is written out as declared. For a table of the platform the contract is made from
its entry, so that a consumer reads one format for everything.
"""

from __future__ import annotations

from typing import Any

import yaml

from catalog import contracts
from catalog.entries import Entry, EntryColumn, EntryTable

LOGICAL = {
    "VARCHAR": "string", "BIGINT": "integer", "INTEGER": "integer", "DOUBLE": "number", "BOOLEAN": "boolean", "DATE": "date",
}  # fmt: skip


def logical_type(type_: str | None) -> str:
    """ODCS logical type of a DuckDB type."""
    kind = (type_ or "").upper()
    if kind.startswith("DECIMAL"):
        return "number"
    return "timestamp" if kind.startswith("TIMESTAMP") else LOGICAL.get(kind, "string")


def _property(column: EntryColumn, key: tuple[str, ...]) -> dict[str, Any]:
    tiyu = {
        "piMark": column.pi_mark,
        "identifierKind": column.identifier_kind,
        "unit": column.unit,
        "codeList": column.code_list,
    }
    found: dict[str, Any] = {
        "name": column.name,
        "businessName": column.title_zh,
        "description": column.description or column.title_zh,
        "logicalType": logical_type(column.type),
        "physicalType": column.type or "VARCHAR",
        "classification": column.grade or "L4",
        "customProperties": [{"property": "tiyu", "value": {k: v for k, v in tiyu.items() if v}}],
    }
    if column.name in key:
        found |= {"primaryKey": True, "primaryKeyPosition": key.index(column.name) + 1}
    return found


def _object(table: EntryTable) -> dict[str, Any]:
    return {
        "name": table.name,
        "physicalName": table.name,
        "businessName": table.title_zh,
        "description": table.title_zh,
        "dataGranularityDescription": table.grain or table.title_zh,
        "logicalType": "object",
        "properties": [_property(column, table.key) for column in table.columns],
    }


def document(entry: Entry) -> dict[str, Any]:
    """The contract as a mapping."""
    declared = contracts.load_all().get(entry.id)
    if declared is not None:
        return declared.raw
    tiyu = {
        "kind": entry.kind,
        "code": entry.code,
        "share": entry.share.model_dump(exclude_none=True),
        "open": entry.open.model_dump(exclude_none=True),
        "updateCycle": {"cycle": entry.update_cycle},
        "legalBasis": entry.legal_basis,
        "retention": entry.retention,
        **({"crs": entry.crs} if entry.crs else {}),
    }
    return {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": entry.id,
        "name": entry.title_zh,
        "version": entry.version or "1.0.0",
        "status": "active",
        "domain": entry.domain,
        "description": {"purpose": entry.summary},
        "team": {"name": entry.owner_name},
        "customProperties": [{"property": "tiyu", "value": tiyu}],
        "schema": [_object(table) for table in entry.tables],
    }


def text(entry: Entry) -> str:
    """The contract as YAML text."""
    return yaml.safe_dump(document(entry), allow_unicode=True, sort_keys=False, width=120)
