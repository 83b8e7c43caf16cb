"""Dirt is what the ledger says it is: recounted from the files that were sent."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from simulation.ledger import RESOURCES
from simulation.sources import ROSTER_HEADER
from tests.unit.simulation import sent


@pytest.fixture(scope="module")
def dirt(tiny: Path) -> dict[str, Any]:
    return dict(json.loads((tiny / "truth/dirt.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def counts(tiny: Path) -> dict[str, Any]:
    return dict(json.loads((tiny / "truth/counts.json").read_text("utf-8")))


def test_counts_balance_for_every_resource(counts: dict[str, Any]) -> None:
    assert set(counts) == set(RESOURCES)
    assert len(counts) > 8
    for c in counts.values():
        assert c["distinct_true_records"] > 0
        assert c["records_sent"] == c["distinct_true_records"] + c["duplicate_records"] + c["bad_records"]


def test_entries(tiny: Path, dirt: dict[str, Any], counts: dict[str, Any]) -> None:
    files, d, c = sent.entries(tiny), dirt["venue.entry"], counts["venue.entry"]
    lines = [x for f in files for x in f]
    assert len(lines) == c["records_sent"]
    assert len(files) == c["objects"]
    assert sent.repeated(lines) == d["duplicate_rows"]["total"] > 0
    assert sum(sent.repeated(f) for f in files) == d["duplicate_rows"]["within_file"]
    rows = [json.loads(x) for x in set(lines)]
    as_of = "2026-11-20T12:00:00+08:00"
    bad = {
        "unknown_venue": [r for r in rows if r["venue_id"] == "V310199-999"],
        "unknown_direction": [r for r in rows if r["direction"] not in ("in", "out")],
        "bad_time": [r for r in rows if "-02-30" in r["passed_at"]],
        "text_in_number": [r for r in rows if not isinstance(r["seq_no"], int)],
        "future_time": [r for r in rows if r["passed_at"] > as_of],
    }
    assert {k: len(v) for k, v in bad.items() if v} == {k: n for k, n in d["bad_rows"].items() if k != "total"}
    # A bad row never shares the key of a true one, or deduplication could drop the truth.
    assert sent.repeated([(r["device_id"], r["seq_no"]) for r in rows if isinstance(r["seq_no"], int)]) == 0


@pytest.mark.parametrize(
    ("name", "resource", "mark"), [("checkins", "fitness.checkin", "CKX"), ("bookings", "venue.booking", "BKX")]
)
def test_apis(tiny: Path, dirt: dict[str, Any], counts: dict[str, Any], name: str, resource: str, mark: str) -> None:
    lines = sent.api(tiny, name)
    assert len(lines) == counts[resource]["records_sent"]
    assert sent.repeated(lines) == dirt[resource]["duplicate_rows"]["total"] > 0
    ids = [json.loads(x)[f"{name[:-1]}_id"] for x in set(lines)]
    assert sum(i.startswith(mark) for i in ids) == dirt[resource]["bad_rows"]["total"]
    if name == "bookings":
        assert all(dirt[resource]["bad_rows"][k] >= 1 for k in ("unknown_venue", "slot_reversed", "text_in_number"))
        keys = [(json.loads(x)["booking_id"], json.loads(x)["updated_at"]) for x in set(lines)]
        assert sent.repeated(keys) == 0


def test_water(tiny: Path, dirt: dict[str, Any], counts: dict[str, Any]) -> None:
    files = sent.water(tiny)
    rows = [tuple(r.values()) for f in files for r in f]
    resource = "supervision.water_reading"
    assert len(rows) == counts[resource]["records_sent"]
    assert sent.repeated(rows) == dirt[resource]["duplicate_rows"]["total"]
    keys = [
        (r["pool_id"], r["item"], r["sampled_at"]) for r in {tuple(r.values()): r for f in files for r in f}.values()
    ]
    assert len(keys) > 1_000
    assert sent.repeated(keys) == 0


def test_register_has_bad_rows_and_one_bad_byte(tiny: Path, dirt: dict[str, Any], counts: dict[str, Any]) -> None:
    files = sorted((tiny / "drops/venue/register").glob("*.csv"))
    undecodable = 0
    rows: list[dict[str, str]] = []
    per_file = []
    for path in files:
        lines = path.read_bytes().split(b"\r\n")[:-1]
        per_file.append(sent.repeated(lines))
        for line in lines:
            try:
                line.decode("gb18030")
            except UnicodeDecodeError:
                undecodable += 1
        rows += csv.DictReader(io.StringIO(path.read_bytes().decode("gb18030", errors="replace")))
    assert undecodable == dirt["venue.register"]["bad_rows"]["bad_byte"] == 1
    assert len(rows) == counts["venue.register"]["records_sent"]
    assert sum(per_file) == dirt["venue.register"]["duplicate_rows"]["total"]
    assert sum(r["面积"].startswith("-") for r in rows) == dirt["venue.register"]["bad_rows"]["negative_area"]
    assert sum(not r["核定容量"].isdigit() for r in rows) == dirt["venue.register"]["bad_rows"]["text_in_number"]


def test_filings(tiny: Path, dirt: dict[str, Any], counts: dict[str, Any]) -> None:
    rows = [tuple(r.values()) for r in sent.filings(tiny)]
    assert len(rows) == counts["event.filing"]["records_sent"]
    assert sent.repeated(rows) == dirt["event.filing"]["duplicate_rows"]["total"]
    bad = {str(r[0]) for r in rows if str(r[0]) >= "EV2026900000"}
    assert len(bad) == dirt["event.filing"]["bad_rows"]["total"] > 0


def test_roster(tiny: Path, dirt: dict[str, Any], counts: dict[str, Any]) -> None:
    files = sorted((tiny / "drops/training/athlete").glob("*.csv"))
    lines = [path.read_text("utf-8").splitlines()[1:] for path in files]
    rows = [dict(zip(ROSTER_HEADER, line.split(","), strict=True)) for part in lines for line in part]
    resource = "training.athlete"
    assert len(files) == counts[resource]["objects"] >= 2
    assert len(rows) == counts[resource]["records_sent"]
    assert sum(sent.repeated(part) for part in lines) == dirt[resource]["duplicate_rows"]["total"] == len(files)
    bad = {
        "unknown_squad": sum(row["运动队"] == "SQ99" for row in rows),
        "left_before_joined": sum("" < row["离队日期"] < row["入队日期"] for row in rows),
        "text_in_number": sum(not row["队内编号"].isdigit() for row in rows),
        "bad_date": sum("-02-30" in row["入队日期"] for row in rows),
    }
    assert bad == {kind: n for kind, n in dirt[resource]["bad_rows"].items() if kind != "total"}
    assert sum(row["运动员编号"] >= "SHA990000" for row in rows) == sum(bad.values())
    newest = [row for row in rows if row["名册日期"] == "2026-11-20" and row["运动员编号"] < "SHA990000"]
    moved = {row["运动员编号"] for row in newest if row["离队日期"] == "2026-11-15"}
    assert moved == {row["运动员编号"] for row in newest if row["入队日期"] == "2026-11-16"}
    assert len(moved) == 1
    assert any(row["离队日期"] == "2026-11-14" for row in newest)
    truth = dict(line.split(",") for line in (tiny / "truth/squads.csv").read_text("utf-8").splitlines()[1:])
    there = {(row["运动队"], row["运动员编号"]) for row in newest if not row["离队日期"]}
    assert {squad: sum(1 for each, _ in there if each == squad) for squad, _ in there} == {
        s: int(n) for s, n in truth.items()
    }


def test_device_files(tiny: Path, counts: dict[str, Any]) -> None:
    files = [p for p in (tiny / "drops/training/activity").rglob("*") if p.is_file()]
    c = counts["training.activity"]
    assert len(files) == c["objects"] < c["records_sent"], "one of the files holds two activities"
    assert c["bad_records"] == 1
    assert c["duplicate_records"] >= 2
