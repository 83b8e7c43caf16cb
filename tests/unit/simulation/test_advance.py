"""Days after the first: what was written stays, what comes is the same however the city gets there, and it goes wrong as planned."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import openpyxl
import pytest

from simulation.advance import advance, today
from simulation.generate import generate
from simulation.incidents import DOWN, REFUSALS, incidents
from tests.unit.simulation import sent
from tests.unit.simulation.conftest import SEED
from tests.unit.simulation.test_generate import fingerprints


def quiet(text: str) -> None:
    del text


@pytest.fixture(scope="module")
def moved(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The city after seven days; the seventh is calm."""
    out = tmp_path_factory.mktemp("moved") / "city"
    shutil.copytree(tiny, out)
    for number in range(1, 8):
        assert advance(out, say=quiet)["number"] == number
    return out


def test_what_was_written_stays_and_the_way_does_not_matter(tiny: Path, moved: Path, tmp_path: Path) -> None:
    before = {name: text for name, text in fingerprints(tiny).items() if not name.startswith("truth/")}
    after = fingerprints(moved)
    assert len(before) > 300
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before) + 7 * 24
    shutil.copytree(tiny, tmp_path / "jump")
    advance(tmp_path / "jump", 7, say=quiet)
    assert fingerprints(tmp_path / "jump") == after


def test_a_killed_day_is_written_again_and_loses_no_backlog(tiny: Path, tmp_path: Path) -> None:
    """Killed after everything but the last mark was written: on the day when files wait, and on the one they arrive."""
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    for out in (straight, cut):
        shutil.copytree(tiny, out)
    advance(straight, 3, say=quiet)
    for number in (1, 2, 3):
        advance(cut, number, say=quiet)
        marked = (cut / "today.json").read_text("utf-8")
        state = {**json.loads(marked), "number": number - 1}
        (cut / "today.json").write_text(json.dumps(state), "utf-8")
        advance(cut, number, say=quiet)
        assert (cut / "today.json").read_text("utf-8") == marked
    assert fingerprints(cut) == fingerprints(straight)


def test_history_before_an_outage_is_whole_and_meets_the_same_day(tiny: Path, moved: Path, tmp_path: Path) -> None:
    out = tmp_path / "late"
    shutil.copytree(tiny, out)
    assert incidents(2).down == "supervision.water_reading"
    assert advance(out, 2, uninterrupted=True, say=quiet)["down"] is None
    assert list((out / "drops/supervision/water_reading/20261122").glob("*.csv"))
    advance(out, 7, say=quiet)
    assert fingerprints(out) == fingerprints(moved)


def test_a_city_does_not_go_back(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "city")
    advance(tmp_path / "city", 2, say=quiet)
    with pytest.raises(ValueError, match="cannot go back"):
        advance(tmp_path / "city", 1, say=quiet)
    assert today(tmp_path / "city")["number"] == 2
    with pytest.raises(FileNotFoundError):
        advance(tmp_path / "nothing", say=quiet)


def test_keys_stay_with_what_they_name(moved: Path) -> None:
    """A booking keeps court, slot and time of booking through all its updates; no check-in or passage has a second life."""
    facts: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for line in sent.api(moved, "bookings"):
        row = json.loads(line)
        if not row["booking_id"].startswith("BKX"):
            facts[row["booking_id"]].add((row["unit_id"], row["slot_start"], row["created_at"], row["phone"]))
    assert len(facts) > 2_000
    assert [key for key, seen in facts.items() if len(seen) > 1] == []
    assert sent.repeated([(unit, start) for seen in facts.values() for unit, start, *_ in seen]) == 0
    scans: dict[str, set[str]] = defaultdict(set)
    for line in sent.api(moved, "checkins"):
        scans[json.loads(line)["checkin_id"]].add(line)
    assert [key for key, seen in scans.items() if len(seen) > 1] == []
    rows = {line for file in sent.entries(moved) for line in file}
    keys = [(r["device_id"], r["seq_no"]) for r in map(json.loads, rows) if isinstance(r["seq_no"], int)]
    assert sent.repeated(keys) == 0


def test_nothing_is_told_before_it_happened_nor_after_the_present(moved: Path) -> None:
    as_of = today(moved)["as_of"]
    for number in range(1, 8):
        day = datetime.fromisoformat(as_of) - timedelta(days=7 - number)
        since = (day - timedelta(days=1)).isoformat()
        for name in ("bookings", "checkins"):
            rows = sent.rows_of_day(moved, name, f"{day:%Y%m%d}")
            assert rows
            assert all(since < row["updated_at"] <= day.isoformat() for row in rows)
    assert (
        max(
            r["passed_at"]
            for r in map(json.loads, (x for f in sent.entries(moved) for x in f))
            if r["passed_at"] < "2027"
        )
        < as_of
    )
    assert {
        r["sampled_at"] for f in sent.water(moved) for r in f if r["sampled_at"] > as_of[:19].replace("T", " ")
    } == set()


def test_truth_of_every_later_day_recomputed_from_what_was_sent(moved: Path) -> None:
    """Calm day: everything has arrived. Bookings changed days later count as they are known now."""
    latest: dict[str, dict[str, str]] = {}
    for line in sent.api(moved, "bookings"):
        row = json.loads(line)
        if (
            not row["booking_id"].startswith("BKX")
            and row["updated_at"] >= latest.get(row["booking_id"], row)["updated_at"]
        ):
            latest[row["booking_id"]] = row
    due: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for row in latest.values():
        left = datetime.fromisoformat(row["slot_start"]) - datetime.fromisoformat(
            row["cancelled_at"] or row["slot_start"]
        )
        if "2026-11-11" <= row["slot_start"][:10] <= "2026-11-26" and not (
            row["status"] == "cancelled" and left >= timedelta(hours=2)
        ):
            for scope in (row["venue_id"][1:7], "310000"):
                due[row["slot_start"][:10], scope][0] += row["status"] == "checked_in"
                due[row["slot_start"][:10], scope][1] += 1
    assert {k: tuple(v) for k, v in due.items()} == sent.truth(moved, "V-04")
    entries: dict[tuple[str, str], int] = defaultdict(int)
    for row in {line: json.loads(line) for file in sent.entries(moved) for line in file}.values():
        if row["direction"] == "in" and row["venue_id"] != "V310199-999" and isinstance(row["seq_no"], int):
            for scope in (row["venue_id"][1:7], "310000"):
                entries[row["passed_at"][:10], scope] += 1
    truth = sent.truth(moved, "V-06", "entries")
    assert {k: (n, None) for k, n in entries.items() if "2026-11-20" <= k[0] <= "2026-11-26"} == {
        k: v for k, v in truth.items() if k[0] >= "2026-11-20"
    }


def test_two_days_later_a_venue_reports_who_came(tiny: Path, moved: Path) -> None:
    before, after = sent.truth(tiny, "V-04"), sent.truth(moved, "V-04")
    restated = {key for key, value in before.items() if after[key] != value}
    assert {day for day, _ in restated} == {"2026-11-19"}
    assert ("2026-11-19", "310000") in restated


def test_incidents_come_in_turn_and_heal(tiny: Path, moved: Path) -> None:
    plans = [incidents(number) for number in range(15)]
    assert {plan.down for plan in plans} == {None, *DOWN}
    assert {plan.refusal for plan in plans} == {None, *REFUSALS}
    assert all(b.returned == a.down for a, b in itertools.pairwise(plans))
    assert len({plan.lost_column for plan in plans}) > 3
    assert [plan.number for plan in plans if plan.pool_turn is None] == [0, 7, 14]
    assert not list((moved / "waiting").rglob("*.csv"))
    books = sorted(path.name for path in (moved / "drops/event/filing").glob("*_202611*.xlsx"))
    for number in (1, 3, 5):
        day = f"{plans[number].day:%Y%m%d}"
        lost = openpyxl.load_workbook(moved / f"drops/event/filing/赛事填报_{day}.xlsx")["赛事填报"]
        whole = openpyxl.load_workbook(moved / f"drops/event/filing/赛事填报_{day}_更正.xlsx")["赛事填报"]
        assert plans[number].lost_column in [cell.value for cell in whole[2]]
        assert plans[number].lost_column not in [cell.value for cell in lost[2]]
        assert whole.max_row == lost.max_row
    assert len(books) == 3 + 7 + 3


def test_the_pool_of_the_day_is_out_of_limits_at_noon_and_well_in_the_evening(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "city")
    plan = advance(tmp_path / "city", 1, say=quiet)["incidents"]
    advance(tmp_path / "city", 3, say=quiet)
    rows = [r for f in sent.water(tmp_path / "city") for r in f if r["sampled_at"].startswith(plan["day"])]
    mine = sorted(
        {
            (r["sampled_at"], float(r["value"]))
            for r in rows
            if (r["pool_id"], r["item"]) == (plan["pool_id"], plan["pool_item"])
        }
    )
    morning = [value for at, value in mine if at[11:13] < "12"]
    evening = [value for at, value in mine if at[11:13] >= "20"]
    assert len(morning) >= 2
    assert all(value < 0.3 for value in morning)
    assert all(value >= 0.3 for value in evening)
    others = [
        float(r["value"])
        for r in rows
        if r["item"] == "free_chlorine" and r["pool_id"] != plan["pool_id"] and r["value"] != "超量程"
    ]
    assert sum(value < 0.3 for value in others) < 0.02 * len(others)


def test_a_city_of_fewer_days_moves_on_too(tmp_path: Path) -> None:
    from simulation.sizes import SIZES

    generate(SIZES["tiny"].shortened(5), SEED, tmp_path / "city", say=quiet)
    advance(tmp_path / "city", 2, say=quiet)
    with (tmp_path / "city/truth/daily_visits.csv").open(encoding="utf-8") as file:
        days = sorted({row["part_date"] for row in csv.DictReader(file)})
    assert days == [f"2026-11-{number}" for number in range(16, 22)]
