"""A small source for tests of what contracts declare: readings of meters, without persons or references."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import yaml

from catalog import contracts
from catalog.contracts import Contract
from ingestion import split

COLUMNS = {
    "meter_id": "VARCHAR",
    "read_date": "DATE",
    "seq_no": "BIGINT",
    "amount": "DOUBLE",
    "state": "VARCHAR",
    "is_gone": "BOOLEAN",
    "changed_at": "TIMESTAMPTZ",
    "declared": "BIGINT",
}
PATH = contracts.FOLDER / "sources" / "venue" / "meter.odcs.yaml"
CSV = {"kind": "csv", "encoding": "utf-8", "delimiter": ","}


def document(decoder: dict[str, Any] | None = None, **behaviour: Any) -> dict[str, Any]:
    """The contract as plain data; `behaviour` are keys of the object's tiyu property."""

    def tiyu(value: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"property": "tiyu", "value": value}]

    properties = [
        {
            "name": name,
            "physicalName": name,
            "businessName": f"列{name}",
            "description": f"试验列 {name}",
            "logicalType": "string",
            "physicalType": kind,
            "required": name in ("meter_id", "read_date"),
            "classification": "L1",
            "customProperties": tiyu({"piMark": "N"}),
        }
        for name, kind in COLUMNS.items()
    ]
    return {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "venue.meter",
        "name": "试验表计",
        "version": "1.0.0",
        "status": "active",
        "domain": "venue",
        "description": {"purpose": "试验", "usage": "试验", "limitations": "试验"},
        "team": {"name": "群众体育处"},
        "customProperties": tiyu(
            {
                "kind": "source",
                "share": {"type": "unconditional"},
                "open": {"type": "unconditional"},
                "updateCycle": {"cycle": "daily"},
                "legalBasis": "试验",
                "retention": "1 年",
            }
        ),
        "servers": [
            {
                "server": "city-drop",
                "type": "custom",
                "description": "试验",
                "customProperties": tiyu(
                    {
                        "connector": {"kind": "file_drop", "connection": "CITY_DROP", "pattern": "venue/meter/*"},
                        "decoder": decoder or CSV,
                    }
                ),
            }
        ],
        "schema": [
            {
                "name": "meter",
                "businessName": "表计读数",
                "description": "一行是一次读数",
                "dataGranularityDescription": "一次读数",
                "logicalType": "object",
                "customProperties": tiyu({"partDate": "read_date", "dedup": ["meter_id", "read_date"], **behaviour}),
                "properties": properties,
            }
        ],
    }


def text(decoder: dict[str, Any] | None = None, **behaviour: Any) -> str:
    """The contract file."""
    return yaml.safe_dump(document(decoder, **behaviour), allow_unicode=True, sort_keys=False)


def contract(decoder: dict[str, Any] | None = None, **behaviour: Any) -> Contract:
    """The contract, checked."""
    return contracts.read_contract(PATH, text=text(decoder, **behaviour))


def delivered(*rows: dict[str, Any], sha: str = "a" * 64, columns: Iterable[str] = COLUMNS) -> pa.Table:
    """Rows as a decoder gives them; absent columns are empty."""
    table = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in columns}
    table["_record_no"] = pa.array(range(2, len(rows) + 2), pa.int64())
    table["_source_object"] = pa.array([sha] * len(rows), pa.string())
    return pa.table(table)


def judged(item: Contract, *rows: dict[str, Any], as_of: Any = None) -> split.Split:
    """Rows split by the rules of the contract, whose table has the columns of these rows or of a meter."""
    columns = {name: None for row in (dict.fromkeys(COLUMNS), *rows) for name in row}
    con = split.connect_for(item)
    try:
        return split.split_text(con, item, delivered(*rows, columns=columns), as_of)
    finally:
        con.close()


__all__ = ["COLUMNS", "contract", "delivered", "document", "judged", "text"]
