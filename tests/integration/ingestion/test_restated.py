"""Records that are delivered again with other content, and records that are gone: what stays in the lake, and the books."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from meter_lake import METER, TABLE, books, row, stored

from ingestion import pipeline
from ingestion.rebuild import rebuild
from ingestion.replay import replay, withdraw
from ingestion.run import ingest
from lake import ledger, tables
from lake.settings import settings
from quality import gate, row_events

pytestmark = pytest.mark.integration

BY_TIME = {"key": ["meter_id"], "onChanged": "newest", "by": "changed_at"}
LATER = {"key": ["meter_id"], "onChanged": "newest"}
EARLY, NOON, LATE = "2026-11-19 08:00:00", "2026-11-19 12:00:00", "2026-11-19 20:00:00"


def alive() -> list[tuple]:
    frame = (
        pl.scan_delta(tables.path(TABLE)).filter(pl.col("_deleted_at").is_null()).select("meter_id", "amount").collect()
    )
    return frame.sort("meter_id").rows()


def counts(report) -> tuple[int, int, int, int]:
    return report.decoded, report.accepted, report.quarantined, report.duplicate


def test_the_newest_stays_in_whatever_order_it_comes(declare, deliver):
    declare(dedup=BY_TIME)
    deliver("a.csv", row(amount="2", changed_at=NOON), row("M2", amount="5", changed_at=NOON))
    newer = deliver("b.csv", row(amount="3", changed_at=LATE, day="2026-11-20"))  # on another day
    older = deliver("c.csv", row(amount="1", changed_at=EARLY), row("M2", amount="5", changed_at=NOON))
    odd = deliver("d.csv", row(amount="9", changed_at=LATE))
    within = deliver("e.csv", row("M3", amount="1", changed_at=NOON), row("M3", amount="2", changed_at=LATE))
    assert [counts(r) for r in (newer, older, odd, within)] == [(1, 1, 0, 0), (2, 1, 0, 1), (1, 0, 1, 0), (2, 2, 0, 0)]
    assert stored("meter_id", "amount") == [("M1", 3.0), ("M2", 5.0), ("M3", 2.0)]
    assert row_events.of("replaced").height == 3
    books()
    gate.run_gate([TABLE])
    assert replay(METER).accepted == 0  # the contradiction stays one
    before = {b["batch_id"]: (b["status"], b["accepted_count"], b["duplicate_count"]) for b in ledger.batches(METER)}
    ledger.disconnect()
    for file in settings().home.rglob("*.db*"):
        file.unlink()
    rebuild()
    assert {
        b["batch_id"]: (b["status"], b["accepted_count"], b["duplicate_count"]) for b in ledger.batches(METER)
    } == before
    books()


def test_without_a_column_the_later_delivery_wins(declare, deliver):
    declare(dedup=LATER)
    deliver("a.csv", row(amount="1"))
    deliver("b.csv", row(amount="2"), row(amount="3"))
    assert counts(deliver("c.csv", row(amount="3"))) == (1, 0, 0, 1)
    assert stored("meter_id", "amount") == [("M1", 3.0)]
    books()


@pytest.mark.parametrize("step", ["append", "write_rows", "change_rows", "finish_batch"])
def test_interrupted_while_replacing_it_ends_the_same(declare, deliver, monkeypatch, step):
    declare(dedup=LATER)
    deliver("a.csv", row(amount="1"), row("M2", amount="1"))
    place = {"append": row_events, "write_rows": pipeline, "change_rows": tables, "finish_batch": ledger}[step]
    real = getattr(place, step)

    def crash(*arguments, **options):
        real(*arguments, **options)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(place, step, crash)
        with pytest.raises(SystemExit):
            deliver("b.csv", row(amount="2"))
    ingest(METER)
    assert stored("meter_id", "amount") == [("M1", 2.0), ("M2", 1.0)]
    assert row_events.of("replaced").height == 1
    books()


def test_what_a_withdrawn_batch_replaced_comes_back_and_goes_again(declare, deliver):
    declare(dedup=LATER)
    deliver("a.csv", row(amount="1"))
    second = deliver("b.csv", row(amount="2")).batches[0].batch_id
    third = deliver("c.csv", row(amount="3")).batches[0].batch_id
    withdraw(METER, [second], "试验")
    assert stored("meter_id", "amount") == [("M1", 3.0)]  # its row had been replaced already
    books()
    withdraw(METER, [third], "试验")
    assert stored("meter_id", "amount") == [("M1", 1.0)]  # the one before the withdrawn ones
    books()
    assert replay(METER, [third]).accepted == 1
    assert stored("meter_id", "amount") == [("M1", 3.0)]
    assert replay(METER, [second]).accepted == 1
    assert stored("meter_id", "amount") == [("M1", 3.0)]  # older than what is stored
    books()


def test_every_version_or_every_repetition_is_stored_when_declared(declare, deliver):
    declare(dedup={"key": ["meter_id"], "onChanged": "version"})
    deliver("a.csv", row(amount="1"), row(amount="1"))
    deliver("b.csv", row(amount="2"), row(amount="1"))
    assert stored("amount") == [(1.0,), (2.0,)]
    books()
    gate.run_gate([TABLE])


def test_repetitions_that_are_facts_are_kept(declare, deliver):
    declare(dedup={"key": ["meter_id", "read_date"], "onSame": "keep"})
    done = deliver("a.csv", row(amount="1"), row(amount="1"), row(amount="2"))
    assert counts(done) == (3, 2, 1, 0)
    deliver("b.csv", row(amount="1"), row("M2"))
    assert stored("amount") == [(None,), (1.0,), (1.0,), (1.0,)]
    assert counts(ingest(METER)) == (0, 0, 0, 0)  # the same file is no repetition
    books()
    gate.run_gate([TABLE])


def test_a_column_says_that_the_record_is_gone(declare, deliver):
    declare(dedup=BY_TIME, deletes={"by": "column", "column": "is_gone"})
    deliver("a.csv", row(amount="1", changed_at=EARLY), row("M2", amount="1", changed_at=EARLY))
    deliver("b.csv", row(amount="1", changed_at=NOON, is_gone="是"))
    assert alive() == [("M2", 1.0)]
    assert len(stored("meter_id")) == 2
    deliver("c.csv", row(amount="1", changed_at=LATE, is_gone="否"))
    assert alive() == [("M1", 1.0), ("M2", 1.0)]
    books()


def test_tombstones_name_what_is_gone(declare, deliver):
    declare(dedup=BY_TIME, deletes={"by": "tombstone", "pattern": r"gone_"})
    deliver("a.csv", row(amount="1", changed_at=EARLY), row("M2", amount="1", changed_at=EARLY))
    gone = deliver("gone_1.csv", content="meter_id,why\nM1,x\nM9,x\n,x\n")
    assert counts(gone) == (3, 1, 2, 0)
    assert gone.batches[0].quarantined_by_rule == {"venue.meter.delete.key": 1, "venue.meter.delete.unknown_key": 1}
    assert alive() == [("M2", 1.0)]
    assert counts(deliver("gone_2.csv", content="meter_id\nM1\n")) == (1, 0, 0, 1)
    books()
    deliver("b.csv", row("M9", changed_at=EARLY))
    assert replay(METER).accepted == 1  # the row had not come yet
    assert alive() == [("M2", 1.0)]
    deliver("c.csv", row(amount="1", changed_at=EARLY))  # it is back as it was
    assert alive() == [("M1", 1.0), ("M2", 1.0)]
    books()
    gate.run_gate([TABLE])


def test_what_a_snapshot_no_longer_lists_is_gone(declare, deliver):
    declare(dedup=LATER, delivery="snapshot", deletes={"by": "absence"})
    deliver("a.csv", row(amount="1"), row("M2", amount="1"), row("M3", amount="1"))
    second = deliver("b.csv", row(amount="1"), row("M2", amount="2")).batches[0]
    assert alive() == [("M1", 1.0), ("M2", 2.0)]
    assert second.absence == (1, None)
    books()
    unsure = deliver("c.csv", row(amount="1"), row("M2", amount="?")).batches[0]
    assert unsure.absence == (0, "快照中有被拒的记录，不据此判定删除")
    assert deliver("d.csv").batches[0].absence == (0, "快照没有任何记录，不据此判定删除")
    assert alive() == [("M1", 1.0), ("M2", 2.0)]
    back = deliver("e.csv", row(amount="1"), row("M3", amount="1")).batches[0]
    assert alive() == [("M1", 1.0), ("M3", 1.0)]
    assert [f["outcome"] for f in ledger.findings(back.batch_id)] == ["pass"]
    withdraw(METER, [back.batch_id], "试验")
    assert alive() == [("M1", 1.0), ("M2", 2.0)]
    books()
    gate.run_gate([TABLE])
