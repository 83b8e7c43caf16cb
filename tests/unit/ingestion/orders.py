"""A small nested source for tests: orders with a buyer inside and two lists, what was ordered and labels."""

from __future__ import annotations

import json
from typing import Any

import yaml

from catalog import contracts
from catalog.contracts import Contract

PATH = contracts.FOLDER / "sources" / "venue" / "order.odcs.yaml"
NDJSON = {"kind": "ndjson"}
KEY = {"piMark": "N", "derive": {"function": "from_parent"}}
NUMBER = {"piMark": "N", "derive": {"function": "item_number"}}
PHONE = "19000000007"


def _tiyu(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"property": "tiyu", "value": value}]


def column(name: str, kind: str = "VARCHAR", *, source: str | None = None, grade: str = "L1", **tiyu: Any) -> Any:
    """A column of a schema object; one that is derived has no source."""
    found = {
        "name": name,
        "businessName": f"列{name}",
        "description": f"试验列 {name}",
        "logicalType": "string",
        "physicalType": kind,
        "required": name in ("order_id", "ordered_on", "sku"),
        "classification": grade,
        "customProperties": _tiyu({"piMark": "N"} | tiyu),
    }
    return found if "derive" in tiyu else found | {"physicalName": source or name}


def schema(name: str, properties: list[Any], **tiyu: Any) -> dict[str, Any]:
    return {
        "name": name,
        "businessName": f"表{name}",
        "description": f"一行是一个 {name}",
        "dataGranularityDescription": f"一个 {name}",
        "logicalType": "object",
        "customProperties": _tiyu(tiyu),
        "properties": properties,
    }


def document(decoder: dict[str, Any] | None = None, *, most: int = 100, version: str = "1.0.0") -> dict[str, Any]:
    """The contract as plain data. most: how many of one thing may be ordered."""
    parent = {"object": "order", "key": ["order_id"]}
    return {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "venue.order",
        "name": "试验订单",
        "version": version,
        "status": "active",
        "domain": "venue",
        "description": {"purpose": "试验", "usage": "试验", "limitations": "试验"},
        "team": {"name": "群众体育处"},
        "customProperties": _tiyu(
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
                "customProperties": _tiyu(
                    {
                        "connector": {"kind": "file_drop", "connection": "CITY_DROP", "pattern": "venue/order/*"},
                        "decoder": decoder or NDJSON,
                    }
                ),
            }
        ],
        "schema": [
            schema(
                "order",
                [
                    column("order_id"),
                    column("ordered_on", "DATE"),
                    column("city", path="/buyer/address/0/city"),
                    column(
                        "phone_token",
                        source="phone",
                        grade="L3",
                        path="/buyer/phone",
                        piMark="P",
                        identifierKind="phone",
                    ),
                    column("remark"),
                ],
                partDate="ordered_on",
                dedup=["order_id"],
            ),
            schema(
                "order_item",
                [
                    column("order_id", **KEY),
                    column("item_no", "INTEGER", **NUMBER),
                    column("ordered_on", "DATE", **KEY),
                    column("sku"),
                    column("quantity", "BIGINT"),
                    column("price", "DECIMAL(10,2)", path="/price/amount"),
                    column("note"),
                ],
                parent=parent,
                items="/items",
                dedup=["order_id", "item_no"],
                rules=[
                    {"kind": "range", "column": "quantity", "max": most, "messageZh": f"数量不超过 {most}"},
                    {
                        "kind": "range",
                        "column": "price",
                        "severity": "warn",
                        "max": 100,
                        "messageZh": "单价超过 100 元",
                    },
                ],
            ),
            schema(
                "order_label",
                [column("order_id", **KEY), column("label", path="")],
                parent=parent,
                items="/more/labels",
                dedup=["order_id", "label"],
            ),
        ],
    }


def text(decoder: dict[str, Any] | None = None, **options: Any) -> str:
    """The contract file."""
    return yaml.safe_dump(document(decoder, **options), allow_unicode=True, sort_keys=False)


def contract(decoder: dict[str, Any] | None = None, **options: Any) -> Contract:
    """The contract, checked."""
    return contracts.read_contract(PATH, text=text(decoder, **options))


def order(number: int = 1, *items: dict[str, Any], day: str = "2026-11-19", **more: Any) -> dict[str, Any]:
    """A record as the source sends it."""
    return {
        "order_id": f"O-{number}",
        "ordered_on": day,
        "buyer": {"address": [{"city": "上海"}], "phone": PHONE},
        "items": list(items),
        **more,
    }


def item(sku: str = "S-1", quantity: Any = 1, amount: Any = 9.9, **more: Any) -> dict[str, Any]:
    return {"sku": sku, "quantity": quantity, "price": {"amount": amount}, **more}


def lines(*records: dict[str, Any]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


__all__ = ["PATH", "column", "contract", "document", "item", "lines", "order", "schema", "text"]
