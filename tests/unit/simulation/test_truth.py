"""Ground truth recomputed by another path: from the files that were sent, after removing copies and bad rows."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from datetime import date, datetime, timedelta
from pathlib import Path

from tests.unit.simulation import sent

YESTERDAY = "2026-11-19"


def by_scope(district: str) -> tuple[str, str]:
    return district, "310000"


def test_entries_peak_and_load(tiny: Path) -> None:
    units = sent.venues(tiny)
    capacity: dict[str, int] = defaultdict(int)
    for u in units.values():
        capacity[u["场馆编码"]] += int(u["核定容量"])
    entries: dict[tuple[str, str], int] = defaultdict(int)
    stream: dict[tuple[str, str], list[tuple[datetime, int]]] = defaultdict(list)
    for r in sent.good_entries(tiny):
        day, venue = r["passed_at"][:10], r["venue_id"]
        if day > YESTERDAY:
            continue
        stream[venue, day].append((datetime.fromisoformat(r["passed_at"]), 1 if r["direction"] == "in" else -1))
        for scope in by_scope(venue[1:7]):
            entries[day, scope] += r["direction"] == "in"
    assert {k: (n, None) for k, n in entries.items()} == sent.truth(tiny, "V-06", "entries")
    peaks: dict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
    for (venue, day), passages in stream.items():
        highest = 0
        for tick in range(1, 289):
            end = datetime.fromisoformat(f"{day}T00:00:00+08:00") + timedelta(minutes=5 * tick)
            highest = max(highest, sum(step for at, step in passages if at < end))
        for scope in by_scope(venue[1:7]):
            peaks[day, scope].append((highest, capacity[venue], venue))
    assert {k: (max(p for p, _, _ in v), None) for k, v in peaks.items()} == sent.truth(tiny, "V-06", "peak")
    fullest = {k: min(v, key=lambda x: (-x[0] / x[1], x[2]))[:2] for k, v in peaks.items()}
    assert fullest == sent.truth(tiny, "V-07")
    loads = {k: p / c for k, (p, c) in fullest.items() if k[0] == YESTERDAY}
    assert max(loads.values()) > 1.0
    assert any(0.9 < x <= 1.0 for x in loads.values())
    assert sum(x > 0.9 for x in (p / c for (d, s), (p, c) in fullest.items() if s != "310000")) == 2, (
        "capacity is rarely reached"
    )


def test_bookings(tiny: Path) -> None:
    latest: dict[str, dict[str, str]] = {}
    for line in sent.api(tiny, "bookings"):
        r = json.loads(line)
        if not r["booking_id"].startswith("BKX") and r["updated_at"] >= latest.get(r["booking_id"], r)["updated_at"]:
            latest[r["booking_id"]] = r
    due: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    lost: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    edge = 0
    for r in latest.values():
        start = datetime.fromisoformat(r["slot_start"])
        day = r["slot_start"][:10]
        if not "2026-11-11" <= day <= YESTERDAY:
            continue
        left = start - datetime.fromisoformat(r["cancelled_at"]) if r["status"] == "cancelled" else None
        edge += left == timedelta(hours=2)
        in_time = left is not None and left >= timedelta(hours=2)
        came = r["status"] == "checked_in"
        for scope in by_scope(r["venue_id"][1:7]):
            lost[day, scope][0] += not in_time and not came
            lost[day, scope][1] += 1
            if not in_time:
                due[day, scope][0] += came
                due[day, scope][1] += 1
    assert edge > 0, "the limit itself occurs"
    assert {k: tuple(v) for k, v in due.items()} == sent.truth(tiny, "V-04")
    assert {k: tuple(v) for k, v in lost.items()} == sent.truth(tiny, "V-05")


def test_water(tiny: Path) -> None:
    limits = {
        "free_chlorine": (0.3, 1.0),
        "ph": (7.0, 7.8),
        "turbidity": (0, 1.0),
        "water_temp": (23, 30),
        "orp": (650, 9e9),
    }
    pools = set(sent.venues(tiny))
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    broken: dict[str, list[str]] = defaultdict(list)
    for values in {tuple(r.values()) for f in sent.water(tiny) for r in f}:
        pool, _, at, item, value, _, _ = values
        if pool not in pools or item not in limits or "-02-30" in at or value in ("超量程", "99.90"):
            continue
        low, high = limits[item]
        ok = low <= float(value) <= high
        if item == "free_chlorine" and not ok:
            broken[pool].append(at)
        if at[:10] <= YESTERDAY:
            for scope in by_scope(pool[1:7]):
                found[at[:10], scope][0] += ok
                found[at[:10], scope][1] += 1
    assert {k: tuple(v) for k, v in found.items()} == sent.truth(tiny, "R-03")
    incident = json.loads((tiny / "world.json").read_text("utf-8"))["incidents"]
    assert len([t for t in broken[incident["chlorine_recovered"]] if t[:10] in ("2026-11-17", "2026-11-18")]) >= 2
    assert max(broken[incident["chlorine_still_open"]]) >= "2026-11-20"


def test_events(tiny: Path) -> None:
    latest: dict[str, dict[str, str]] = {}
    for r in sent.filings(tiny):
        if r["填报编号"] < "EV2026900000" and r["更新时间"] >= latest.get(r["填报编号"], r)["更新时间"]:
            latest[r["填报编号"]] = r
    end = date.fromisoformat(YESTERDAY)
    platform: dict[tuple[str, str], int] = defaultdict(int)
    timely: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for e in latest.values():
        first, last = date.fromisoformat(e["开始日期"]), date.fromisoformat(e["结束日期"])
        for scope in by_scope(e["举办区划代码"]):
            if e["状态"] == "已举办":
                platform["2026-01-01", scope] += (min(last, end) - first).days + 1
            if e["状态"] != "已取消" and first <= end:
                pair = timely[f"{first:%Y-%m}-01", scope]
                pair[0] += (first - date.fromisoformat(e["填报日期"])).days >= 20
                pair[1] += 1
    assert {k: (n, None) for k, n in platform.items()} == sent.truth(tiny, "E-01", "platform")
    assert sent.truth(tiny, "E-01", "department")["2026-01-01", "310000"][0] < platform["2026-01-01", "310000"]
    assert {k: tuple(v) for k, v in timely.items()} == sent.truth(tiny, "E-03", file="kpi_partial")


def test_persons_and_visits(tiny: Path) -> None:
    rows = {json.loads(x)["checkin_id"]: json.loads(x) for x in sent.api(tiny, "checkins") if '"CKX' not in x}
    month: dict[tuple[str, str], set[str]] = defaultdict(set)
    persons: dict[tuple[str, str], set[str]] = defaultdict(set)
    visits: dict[tuple[str, str], int] = defaultdict(int)
    opened = set()
    for r in sent.good_entries(tiny):
        if r["direction"] == "in" and r["passed_at"][:10] <= YESTERDAY:
            opened.add(r["checkin_id"])
            for scope in by_scope(r["venue_id"][1:7]):
                visits[r["passed_at"][:10], scope] += 1
    for r in rows.values():
        day = r["scanned_at"][:10]
        if day > YESTERDAY:
            continue
        for scope in by_scope(r["venue_id"][1:7]):
            month["2026-11-01", scope].add(r["id_no"])
            persons[day, scope].add(r["id_no"])
            visits[day, scope] += r["checkin_id"] not in opened
    assert len(opened & rows.keys()) > 500, "check-ins open turnstiles"
    assert {k: (len(v), None) for k, v in month.items()} == sent.truth(tiny, "F-01", file="kpi_partial")
    with (tiny / "truth/daily_visits.csv").open(encoding="utf-8") as f:
        told = {(r["part_date"], r["district_code"]): (int(r["visits"]), int(r["persons"])) for r in csv.DictReader(f)}
    assert told == {k: (n, len(persons[k])) for k, n in visits.items()}
