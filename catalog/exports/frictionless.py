"""The catalogue as a Frictionless Data Package: one resource a table, its columns as a Table Schema.

A package describes; it carries no data. Paths are where a table would be found as CSV beside the package. Meaning, unit,
grade and mark travel as extra properties, which Table Schema allows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import date
from typing import Any

from catalog import vocabularies
from catalog.entries import Entry, EntryColumn, EntryTable
from catalog.entries.declared import Provider

PROFILE = "tabular-data-package"
TYPES = {
    "VARCHAR": "string", "BIGINT": "integer", "INTEGER": "integer", "DOUBLE": "number", "BOOLEAN": "boolean", "DATE": "date",
}  # fmt: skip


def field_type(type_: str | None) -> str:
    """Table Schema type of a DuckDB type."""
    kind = (type_ or "").upper()
    if kind.startswith("DECIMAL"):
        return "number"
    return "datetime" if kind.startswith("TIMESTAMP") else TYPES.get(kind, "any")


def _field(column: EntryColumn) -> dict[str, Any]:
    extra = {"unit": column.unit, "grade": column.grade, "piMark": column.pi_mark, "codeList": column.code_list}
    field: dict[str, Any] = {
        "name": column.name,
        "type": field_type(column.type),
        "title": column.title_zh,
        "description": column.description or column.title_zh,
        **{name: value for name, value in extra.items() if value},
    }
    if column.code_list and vocabularies.exists(column.code_list) and column.type == "VARCHAR":
        field["constraints"] = {"enum": vocabularies.codes(column.code_list)}
    return field


def name_of(entry: Entry, table: EntryTable) -> str:
    """Resource name: lower case letters, digits, `.`, `_`, `-`; an output is named by its id, a stored table by itself."""
    return re.sub(r"[^a-z0-9._-]", "-", (entry.id if entry.layer == "out" else table.name).lower())


def _resource(entry: Entry, table: EntryTable) -> dict[str, Any]:
    name = name_of(entry, table)
    names = {column.name for column in table.columns}
    schema: dict[str, Any] = {"fields": [_field(column) for column in table.columns], "missingValues": [""]}
    if table.key and set(table.key) <= names:
        schema["primaryKey"] = list(table.key)
    return {
        "profile": "tabular-data-resource",
        "name": name,
        "path": f"data/{name}.csv",
        "title": table.title_zh or entry.title_zh,
        "description": entry.summary,
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "schema": schema,
        "entry": entry.id,
        "code": entry.code,
        "grade": entry.grade,
        "updateCycle": vocabularies.name_of("update_cycle", entry.update_cycle),
    }


def package(entries: Iterable[Entry], provider: Provider, base: str, issued: date) -> dict[str, Any]:
    """The descriptor."""
    return {
        "profile": PROFILE,
        "name": "tiyu-catalogue",
        "title": f"{provider.name}数据资源目录",
        "homepage": base,
        "version": issued.strftime("%Y.%m.%d"),
        "created": f"{issued.isoformat()}T00:00:00Z",
        "contributors": [{"title": provider.name, "role": "publisher"}],
        "resources": [_resource(entry, table) for entry in entries for table in entry.tables],
    }


def text(entries: Iterable[Entry], provider: Provider, base: str, issued: date) -> str:
    """The descriptor as JSON text."""
    return json.dumps(package(entries, provider, base, issued), ensure_ascii=False, indent=1) + "\n"
