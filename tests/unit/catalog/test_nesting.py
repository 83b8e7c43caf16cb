"""What a contract may say of the inside of JSON records, each mistake refused with its place."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from catalog import contracts
from catalog.problems import DeclarationError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingestion"))

import orders


def tiyu(element: dict[str, Any]) -> dict[str, Any]:
    return element["customProperties"][0]["value"]


def prop(document: dict[str, Any], obj: int, name: str) -> dict[str, Any]:
    return next(item for item in document["schema"][obj]["properties"] if item["name"] == name)


def problems_of(change: Callable[[dict[str, Any]], Any]) -> str:
    document = copy.deepcopy(orders.document())
    change(document)
    with pytest.raises(DeclarationError, match="TIYU-CAT-0001") as caught:
        contracts.read_contract(orders.PATH, text=yaml.safe_dump(document, allow_unicode=True, sort_keys=False))
    return "\n".join(caught.value.problems)


def decoder(document: dict[str, Any], **value: Any) -> None:
    tiyu(document["servers"][0])["decoder"] = value


def root_only(document: dict[str, Any]) -> None:
    del document["schema"][1:]


def grandchild(document: dict[str, Any]) -> None:
    key = {"piMark": "N", "derive": {"function": "from_parent"}}
    document["schema"].append(
        orders.schema(
            "order_part",
            [orders.column("order_id", **key), orders.column("item_no", "INTEGER", **key), orders.column("part")],
            parent={"object": "order_item", "key": ["order_id", "item_no"]},
            items="/parts",
            dedup=["order_id", "item_no", "part"],
        )
    )


def csv_of_root(document: dict[str, Any]) -> None:
    root_only(document)
    decoder(document, kind="csv")


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "path that is no pointer": (lambda d: tiyu(prop(d, 0, "city")).update(path="buyer/city"), "path"),
    "path with a bare tilde": (lambda d: tiyu(prop(d, 0, "city")).update(path="/a~2"), "path"),
    "path in another format": (csv_of_root, "city: only ndjson and json_items have an inside"),
    "path to the whole record": (lambda d: tiyu(prop(d, 0, "city")).update(path=""), "city: path must point into"),
    "path of a derived column": (
        lambda d: tiyu(prop(d, 1, "item_no")).update(path="/n"),
        "item_no: path belongs to a column with a physicalName",
    ),
    "one physicalName, two paths": (
        lambda d: prop(d, 0, "city").update(physicalName="remark"),
        "remark: remark is the physicalName of another path",
    ),
    "rename of a pointed column": (
        lambda d: tiyu(d["schema"][0]).update(renames=[{"from": "town", "to": "city", "validFrom": "2026-01-01"}]),
        "renames: city is taken from inside",
    ),
    "lists in another format": (lambda d: decoder(d, kind="csv"), "items: only ndjson and json_items have lists"),
    "child without its list": (
        lambda d: tiyu(d["schema"][1]).pop("items"),
        "items: a child of a JSON record needs the pointer",
    ),
    "list of a root": (lambda d: tiyu(d["schema"][0]).update(items="/x"), "order.items: only an object with a parent"),
    "list at no place": (lambda d: tiyu(d["schema"][1]).update(items=""), "items: the pointer must lead to a list"),
    "list in a list": (grandchild, "order_part.parent: a list inside an element of a list is not read"),
    "key that is not the record's": (
        lambda d: (
            tiyu(d["schema"][1]).update(
                parent={"object": "order", "key": ["ordered_on"]}, dedup=["ordered_on", "item_no"]
            ),
        ),
        "parent.key: must be what tells the records of order apart (order_id)",
    ),
    "record kept in several versions": (
        lambda d: tiyu(d["schema"][0]).update(dedup={"key": ["order_id"], "onChanged": "version"}),
        "order must store each key once",
    ),
    "dedup without the record's key": (
        lambda d: tiyu(d["schema"][1]).update(dedup=["item_no"]),
        "dedup: must hold the key of the parent (order_id)",
    ),
    "drift of elements": (
        lambda d: tiyu(d["schema"][1]).update(drift={"unknownColumn": "ignore"}),
        "drift, renames: members of an element",
    ),
    "values and parts": (
        lambda d: tiyu(prop(d, 1, "note")).update(path=""),
        'path: an element is one value (path "") or has parts',
    ),
    "list without columns": (
        lambda d: d["schema"][2]["properties"].pop(1) and tiyu(d["schema"][2]).update(dedup=["order_id"]),
        "no column is read from the elements",
    ),
    "key from the element": (
        lambda d: (prop(d, 1, "order_id").update(physicalName="order_id"), tiyu(prop(d, 1, "order_id")).pop("derive")),
        "order_id: a key of the parent is derived by from_parent",
    ),
    "number as a text": (
        lambda d: prop(d, 1, "item_no").update(physicalType="VARCHAR"),
        "item_no: item_number is a BIGINT or an INTEGER",
    ),
    "derived with a source": (
        lambda d: prop(d, 1, "item_no").update(physicalName="no"),
        "item_no: a column derived by item_number has no physicalName",
    ),
    "copy of nothing": (
        lambda d: tiyu(prop(d, 1, "note")).update(derive={"function": "from_parent"})
        or prop(d, 1, "note").pop("physicalName"),
        "note: order has no column of this name",
    ),
    "copy with a lower grade": (
        lambda d: prop(d, 0, "order_id").update(classification="L2"),
        "order_id: differs from the column of order in grade",
    ),
    "copy outside a list": (
        lambda d: (prop(d, 0, "remark").pop("physicalName"), tiyu(prop(d, 0, "remark")).update(derive={"function": "from_parent"})),
        "remark: derive from_parent belongs to an object with items",
    ),
    "copy with inputs": (
        lambda d: tiyu(prop(d, 1, "item_no"))["derive"].update(inputs=["sku"]),
        "take none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_refused_with_its_place(case):
    change, expected = REFUSED[case]
    assert expected in problems_of(change)


def test_the_contract_as_it_stands():
    contract = orders.contract()
    assert [obj.name for obj in contract.lists] == ["order_item", "order_label"]
    assert contract.members == ["order_id", "ordered_on", "buyer", "remark", "items", "more"]
    assert contract.object("order_item").items == "/items"
    assert contract.root.by_name["city"].path == "/buyer/address/0/city"


def test_the_rules_of_a_copied_column_are_those_of_its_record():
    assert not [rule.rule_id for rule in orders.contract().object("order_item").rules if "order_id" in rule.rule_id]


def test_members_of_a_flat_source_are_its_columns():
    booking = contracts.load("venue.booking")
    assert booking.members == booking.root.source_columns
