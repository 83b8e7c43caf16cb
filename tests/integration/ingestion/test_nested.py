"""Nested records: a record and the elements of its lists have one fate, whatever happens to them."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "ingestion"))

import orders
from orders import item, lines, order

from catalog import contracts
from ingestion import decoders, pipeline
from ingestion.replay import replay, withdraw
from ingestion.reread import reread
from ingestion.run import ingest
from lake import ledger, tables
from lake.errors import TiyuError
from protection import keys
from quality import quarantine
from quality.reconcile import reconcile

pytestmark = pytest.mark.integration

RESOURCE = "venue.order"
ID_NO = "990101199003071237"  # 990101 is no region; the check character is right
ROOT, ITEMS, LABELS = "ods_venue__order", "ods_venue__order_item", "ods_venue__order_label"


@pytest.fixture
def declare(monkeypatch):
    """Put a contract of the orders beside those of the platform."""
    real = contracts.load_all

    def use(**options) -> None:
        changed = orders.contract(**options)
        monkeypatch.setattr(contracts, "load_all", lambda kind=None, **more: {**real(kind, **more), RESOURCE: changed})

    use()
    return use


@pytest.fixture
def deliver(home, tmp_path, monkeypatch, declare):
    keys.ensure()
    folder = tmp_path / "drop" / "venue" / "order"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{tmp_path / 'drop'}")
    monkeypatch.setenv("TIYU_TODAY", "2026-11-20")

    def lay(name: str, *records, content: bytes | None = None):
        (folder / name).write_bytes(content if content is not None else lines(*records))
        return ingest(RESOURCE)

    return lay


def stored(table: str, *columns: str) -> list[tuple]:
    if not tables.exists(table):
        return []
    return pl.scan_delta(tables.path(table)).select(columns).collect().sort(columns).rows()


def refused() -> list[tuple]:
    rows = pl.scan_delta(tables.path(quarantine.TABLE)).select("record_no", "rule_id", "reason", "preview").collect()
    return rows.sort("record_no").rows()


def books() -> tuple[int, ...]:
    """The balance holds, no element is without its record; decoded, accepted, quarantined, duplicate."""
    report = reconcile(RESOURCE)
    assert report.ok, report.problems
    names = ("decoded", "accepted", "quarantined", "duplicate")
    return tuple(sum(row[f"{name}_count"] for row in ledger.batches(RESOURCE)) for name in names)


def test_records_and_their_elements_are_stored_typed_and_protected(deliver):
    deliver(
        "a.ndjson",
        order(1, item("S-1", 2, 9.5), item("S-2", 3), more={"labels": ["急", "赠"]}),
        order(2, items=None),
        {"order_id": "O-3", "ordered_on": "2026-11-18"},
    )
    assert books() == (3, 3, 0, 0)
    assert [row[:2] for row in stored(ROOT, "order_id", "city")] == [("O-1", "上海"), ("O-2", "上海"), ("O-3", None)]
    tokens = {row[0] for row in stored(ROOT, "phone_token")}
    assert len(tokens) == 2
    assert orders.PHONE not in tokens
    found = stored(ITEMS, "order_id", "item_no", "sku", "quantity", "price", "part_date", "ordered_on")
    assert [row[:4] for row in found] == [("O-1", 1, "S-1", 2), ("O-1", 2, "S-2", 3)]
    assert [str(row[4]) for row in found] == ["9.50", "9.90"]
    assert {str(day) for row in found for day in row[5:]} == {"2026-11-19"}
    assert stored(LABELS, "order_id", "label") == [("O-1", "急"), ("O-1", "赠")]


def test_a_bad_element_refuses_its_record_once_and_names_its_place(deliver):
    deliver(
        "a.ndjson",
        order(1, item(), item(quantity=500), item(quantity="viele"), more={"labels": ["急"]}),
        order(2, item()),
        order(3, item(), more={"labels": ["急", "急"]}),
        order(4, 5),
        order(5, items={"sku": "S-1"}),
    )
    assert books() == (5, 1, 4, 0)
    assert [row[:3] for row in refused()] == [
        (1, "venue.order_item.quantity.range", "数量不超过 100（/items/1，第 2 项）"),
        (3, "venue.order_label.dedup.conflict", "同一记录的列表中有主键相同的项（/more/labels/0，第 1 项）"),
        (4, "decode.not_an_item", "该记录的列表项 /items/0 不是契约所说的结构"),
        (5, "decode.not_a_list", "该记录的 /items 处不是列表"),
    ]
    assert stored(ITEMS, "order_id") == [("O-2",)]
    assert stored(LABELS, "order_id") == []


def test_the_elements_of_a_record_refused_for_itself_are_neither_stored_nor_told(deliver):
    deliver("a.ndjson", order(1, item(quantity=500), day="gestern"))
    assert [row[1] for row in refused()] == ["venue.order.ordered_on.type"]
    assert stored(ITEMS, "order_id") == []
    assert books() == (1, 0, 1, 0)


def test_a_rule_that_warns_of_an_element_lets_it_in_and_is_counted(deliver):
    deliver("a.ndjson", order(1, item(amount=200), item()))
    assert len(stored(ITEMS, "order_id")) == 2
    (finding,) = [row for row in ledger.findings(resource=RESOURCE) if row["rule_id"] == "venue.order_item.price.range"]
    assert (finding["found_count"], finding["examined_count"], finding["message"]) == (1, 2, "单价超过 100 元")


def test_a_repetition_is_a_duplicate_and_changed_elements_are_a_contradiction(deliver):
    deliver("a.ndjson", order(1, item("S-1"), item("S-2")), order(2), order(1, item("S-1"), item("S-2")))
    assert books() == (3, 2, 0, 1)
    deliver("b.ndjson", order(1, item("S-1"), item("S-2")), order(2, item("S-9")), order(1, item("S-1")))
    assert books() == (6, 2, 2, 2)
    assert {row[1] for row in refused()} == {"venue.order.dedup.conflict"}
    assert stored(ITEMS, "order_id", "sku") == [("O-1", "S-1"), ("O-1", "S-2")]


def test_what_is_mended_comes_back_with_its_elements_once(deliver, declare):
    deliver("a.ndjson", order(1, item(), item(quantity=500), more={"labels": ["急"]}), order(2, item()))
    declare(most=1000)
    report = replay(RESOURCE)
    assert (report.examined, report.accepted, report.still_refused) == (1, 1, 0)
    after = stored(ITEMS, "order_id", "item_no", "quantity")
    assert after == [("O-1", 1, 1), ("O-1", 2, 500), ("O-2", 1, 1)]
    assert stored(LABELS, "order_id", "label") == [("O-1", "急")]
    assert books() == (2, 2, 0, 0)
    assert replay(RESOURCE).examined == 0
    assert stored(ITEMS, "order_id", "item_no", "quantity") == after


def test_a_replay_restores_the_order_of_delivery_also_where_only_elements_differ(deliver, declare):
    deliver("a.ndjson", order(1, item(quantity=500)))
    deliver("b.ndjson", order(1, item(quantity=7)))
    assert stored(ITEMS, "quantity") == [(7,)]
    declare(most=1000)
    replay(RESOURCE)
    assert stored(ITEMS, "quantity") == [(500,)], "what was delivered first is stored, as if the rule had been right"
    assert books() == (2, 1, 1, 0)


def test_a_batch_taken_back_takes_its_elements_along_and_brings_them_back(deliver):
    deliver("a.ndjson", order(1, item(), item(), more={"labels": ["急"]}))
    before = [stored(table, "order_id", "_record_no") for table in (ROOT, ITEMS, LABELS)]
    batch = ledger.batches(RESOURCE)[0]["batch_id"]
    withdraw(RESOURCE, [batch], "试验")
    assert [stored(table, "order_id") for table in (ROOT, ITEMS, LABELS)] == [[], [], []]
    assert books() == (1, 0, 1, 0)
    replay(RESOURCE, [batch])
    assert [stored(table, "order_id", "_record_no") for table in (ROOT, ITEMS, LABELS)] == before
    assert books() == (1, 1, 0, 0)


def test_history_is_read_again_under_a_new_version(deliver, declare):
    deliver("a.ndjson", order(1, item(quantity=500), item()), order(2, item()))
    assert len(stored(ITEMS, "order_id")) == 1
    declare(most=1000, version="1.1.0")
    reread(RESOURCE)
    assert stored(ITEMS, "order_id", "item_no") == [("O-1", 1), ("O-1", 2), ("O-2", 1)]
    assert reconcile(RESOURCE).ok


def test_an_identity_number_in_an_element_stops_the_batch(deliver):
    with pytest.raises(TiyuError, match="TIYU-ING-0020") as stopped:
        deliver("a.ndjson", order(1, item(), item(note=f"证件 {ID_NO}")), order(2, item()))
    assert (stopped.value.context["column"], stopped.value.context["records"]) == ("note（列note）", 1)
    assert not tables.exists(ITEMS)
    assert not tables.exists(ROOT)


def test_many_elements_are_read_in_pieces(deliver, monkeypatch):
    monkeypatch.setattr(pipeline, "PIECE_FROM_BYTES", 20_000)
    monkeypatch.setattr(decoders, "CHUNK_BYTES", 20_000)
    seen: list[int] = []
    judge = pipeline.elements.judge

    def watched(con, contract, root, delivered, as_of):
        seen.append(delivered[ITEMS].num_rows)
        return judge(con, contract, root, delivered, as_of)

    monkeypatch.setattr(pipeline.elements, "judge", watched)
    records = [order(n, *(item(f"S-{k}") for k in range(50))) for n in range(1, 41)]
    deliver("a.ndjson", *records)
    assert books() == (40, 40, 0, 0)
    assert len(stored(ITEMS, "order_id")) == 2000
    assert stored(ITEMS, "order_id", "_record_no", "item_no")[-1] == ("O-9", 9, 50)
    assert max(seen) <= 500, "a piece holds what its bytes hold, not the whole object"
