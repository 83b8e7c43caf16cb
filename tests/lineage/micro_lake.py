"""An in-memory lake of a few hundred rows in which every branch of every model is taken, and the models run over it.

Rich on purpose: persons enough that cells are shown and others hidden, bookings that move, readings beyond their limits
in episodes that open and close, sessions with gaps, late resources, failed gates. The oracle's guard says whether it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
from oracle import Oracle, Query

TODAY = date(2026, 11, 20)
AS_OF = datetime(2026, 11, 20, 4, tzinfo=UTC)


def _registers(day: date, venues: int, later: int = 0) -> list[dict]:
    """A register of a day. later: how many went before; a later one says something else of every attribute."""
    rows = []
    for v in range(venues):
        district = ("310101", "310104")[(v + (v == 3) * later) % 2]
        for u in (1, 2, 3):
            rows.append({
                "register_date": day, "part_date": day, "venue_id": f"V{v}", "venue_name": f"馆{v}{'新' * later}",
                "venue_type": ("gymnasium", "pool", "odd")[(v + later) % 3], "ownership_type": ("public", "private")[(v + later) % 2],
                "operator_uscc": f"U{v}{later}", "district_code": district, "street_name": f"街{v}{later}", "address": f"路{v}号{later}",
                "lng": 121.4 + v / 100 + later / 1000, "lat": 31.2 + v / 90 + later / 900, "crs": ("CGCS2000", "WGS84")[(v + later) % 2],
                "is_public": (v + later) % 4 != 3, "open_time": f"0{6 + (v + later) % 3}:00", "close_time": f"2{(v + later) % 3}:00",
                "unit_id": f"V{v}-U{u}", "unit_name": f"单元{u}{later}", "unit_type": "pool" if u < 3 else ("court", "hall", "field")[later],
                "sport_code": ("swimming", "tennis", "climbing")[(u + v + later) % 3], "area_m2": 100.0 * u + v + 7 * later,
                "capacity_count": 3 + u + v + later, "is_indoor": (u + later) % 3 != 2, "depth_min_m": 0.8 + u / 10 + later / 20,
                "depth_max_m": 1.4 + u / 10 + later / 20, "is_location_consistent": v != 2 + later,
            })  # fmt: skip
    return rows


def source_rows() -> dict[str, list[dict]]:
    """Rows of the ODS and OPS tables; reference tables come from the catalogue itself."""

    def at(day: date, minutes: int, seconds: int = 0) -> datetime:
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minutes, seconds=seconds)

    days = [date(2026, 10, 30) + timedelta(days=n) for n in range(0, 22, 3)] + [
        date(2026, 11, 18),
        date(2026, 11, 19),
        TODAY,
    ]
    days = sorted(set(days))
    found: dict[str, list[dict]] = {}
    # Twice on the same day: the later record counts, and the oracle sees by what it is known to be later.
    found["ods_venue__register"] = [
        row for n, day in enumerate((1, 15, 15)) for row in _registers(date(2026, 11, day), 5 - min(n, 1), n)
    ]
    bookings, entries, checkins = [], [], []
    statuses = ("booked", "cancelled", "checked_in", "cancelled", "booked")
    for n in range(90):
        day = days[n % len(days)]
        start = at(day, 60 * (n % 12))
        cancelled = start - timedelta(hours=1 + n % 4) if statuses[n % 5] == "cancelled" else None
        row = {
            "booking_id": f"b{n}", "venue_id": f"V{n % 4}", "unit_id": f"V{n % 4}-U{n % 3 + 1}", "sport_code": ("tennis", "swimming")[n % 2],
            "channel": ("ywtb", "venue")[n % 2], "slot_start_at": start, "slot_end_at": start + timedelta(hours=1), "person_phone_token": f"ph{n % 11}",
            "amount_cny": 10 + n, "status": statuses[n % 5], "created_at": start - timedelta(days=2), "updated_at": start - timedelta(days=1),
            "cancelled_at": cancelled, "checked_in_at": start if statuses[n % 5] == "checked_in" else None, "part_date": day,
        }  # fmt: skip
        bookings.append(row)
        if n % 6 == 0:
            bookings.append(
                {
                    **row,
                    "status": "checked_in",
                    "updated_at": start + timedelta(hours=n % 2),
                    "amount_cny": 5,
                    "unit_id": f"V{n % 4}-U1",
                }
            )
    n = 0
    for d, day in enumerate(days):
        for person in range(34 if d % 2 == 0 else 7):
            n += 1
            venue = person % 4 if d % 3 else person % 2 * 2
            minute = 30 + person * 17 % 700
            unit = None if n % 5 == 0 else f"V{venue}-U{n % 3 + 1}"
            checkins.append({
                "checkin_id": f"c{n}", "venue_id": f"V{venue}", "unit_id": unit, "sport_code": None if n % 4 == 0 else ("swimming", "tennis", "odd")[n % 3],
                "scanned_at": at(day, minute), "purpose": ("enter", "leave")[n % 2], "channel": ("code", "face")[n % 3 % 2], "id_type": ("id", "pass")[n % 2],
                "person_token": None if n % 13 == 0 else f"p{person}", "phone_token": f"ph{person}", "updated_at": at(day, minute), "birth_year": 1950 + person,
                "is_minor": person % 6 == 0, "part_date": day,
            })  # fmt: skip
            if n % 3:
                entries.append({
                    "device_id": f"g{venue}", "seq_no": n, "venue_id": f"V{venue}", "unit_id": f"V{venue}-U{(n + 1) % 3 + 1}", "direction": "in",
                    "method": ("code", "face", "card")[n % 3], "passed_at": at(day, minute + n % 5 - 2, n % 50), "checkin_id": f"c{n}" if n % 4 else None, "part_date": day,
                })  # fmt: skip
            if n % 4 == 1:
                entries.append({
                    "device_id": f"g{venue}", "seq_no": 1000 + n, "venue_id": f"V{venue}", "unit_id": None, "direction": "out", "method": "code",
                    "passed_at": at(day, minute + 40 + n % 30), "checkin_id": None, "part_date": day,
                })  # fmt: skip
    found["ods_venue__booking"], found["ods_fitness__checkin"], found["ods_venue__entry"] = bookings, checkins, entries
    readings = []
    values = {"free_chlorine": (0.5, 1.2, 1.3, 0.6, 0.6, 2.4, 0.5, 0.1), "ph": (7.2, 8.4, 8.5, 7.3, 7.2, 4.0, 7.4, 7.1), "turbidity": (0.5, 0.4, 1.4, 1.5, 0.3, 0.2, 2.0, 0.6),
              "water_temperature": (25.0, 31.0, 22.0, 26.0, 27.0, 35.0, 24.0, 25.5), "unlimited": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)}  # fmt: skip
    for pool, (v, u) in enumerate(((0, 1), (0, 2), (1, 1), (2, 1), (3, 2))):
        for item, series in values.items():
            for k in range(12):
                day = days[(k + pool) % len(days)]
                readings.append({
                    "pool_id": f"V{v}-U{u}", "device_id": f"d{pool}", "sampled_at": at(day, 120 + 7 * k + pool), "item": item, "value": series[(k + pool) % 8],
                    "unit": {"ph": "1"}.get(item, "mg/L"), "method": ("sensor", "lab")[k % 2], "part_date": day,
                })  # fmt: skip
    found["ods_supervision__water_reading"] = readings
    filings = []
    for n in range(24):
        start = days[n % len(days)] + timedelta(days=n % 4 - 2)
        row = {
            "filing_id": f"f{n}", "event_name": f"赛{n}", "organizer_name": f"单位{n}", "organizer_uscc": f"U{n}", "organizer_type": ("sports_department", "company")[n % 2],
            "sport_code": ("swimming", "tennis")[n % 2], "event_level": ("international", "national", "city")[n % 3], "event_type": ("match", "fun")[n % 2],
            "is_assessed": n % 4 != 1, "district_code": ("310101", "310104")[n % 5 % 2], "venue_id": f"V{n % 4}", "place_name": f"地{n}", "start_date": start,
            "end_date": start + timedelta(days=n % 3), "expected_count": 100 + n, "participant_count": 90 + n, "is_high_risk": n % 5 == 0,
            "police_permit_no": f"x{n}" if n % 3 else None, "status": ("held", "filed", "held", "cancelled")[n % 4],
            "filed_date": start - timedelta(days=10 + n), "contact_name": "某", "contact_phone_token": f"ph{n}", "updated_at": at(start, -1000 + n), "part_date": start,
        }  # fmt: skip
        filings.append(row)
        if n % 5 == 0:
            filings.append(
                {
                    **row,
                    "event_name": f"赛{n}改", "organizer_name": f"单位{n}改", "organizer_uscc": f"U{n}x", "place_name": f"地{n}改",
                    "organizer_type": ("company", "sports_department")[n % 2], "sport_code": ("tennis", "swimming")[n % 2],
                    "event_level": "national", "event_type": ("fun", "match")[n % 2], "is_assessed": not row["is_assessed"],
                    "district_code": ("310104", "310101")[n % 5 % 2], "venue_id": f"V{(n + 1) % 4}", "end_date": row["end_date"] + timedelta(days=1),
                    "expected_count": 150 + n, "participant_count": 140 + n, "is_high_risk": not row["is_high_risk"], "police_permit_no": f"y{n}",
                    "status": "held", "filed_date": start - timedelta(days=3), "updated_at": at(start, n),
                }
            )  # fmt: skip
        if n % 10 == 0:
            filings.append(
                {**row, "updated_at": at(start, n), "status": "filed", "filed_date": start - timedelta(days=2)}
            )
    found["ods_event__filing"] = filings
    activities, sessions, samples = [], [], []
    for a in range(9):
        day = days[a % len(days)]
        begin = at(day, 60 + a * 11)
        activities.append({
            "activity_id": f"a{a}", "athlete_token": None if a == 7 else f"t{a % 4}", "file_format": "fit", "device_maker": "m", "device_product": "p", "started_at": begin,
            "sport_code": ("running", "swimming")[a % 2], "sub_sport": "x", "max_hr_bpm": None if a == 5 else 180 + a, "resting_hr_bpm": 50, "session_count": 2, "lap_count": 1,
            "sample_count": 60, "has_position": True, "decoder": "d", "local_date": day, "is_partial": False, "part_date": day,
        })  # fmt: skip
        for s in (1, 2):
            sessions.append({
                "activity_id": f"a{a}", "session_no": s, "started_at": begin + timedelta(seconds=200 * (s - 1)), "elapsed_s": 200.0 + s + a,
                "timer_s": None if a % 3 == 0 else 190.0 + s, "distance_m": 500.0 + s + a, "avg_hr_bpm": 130 + s + a, "max_hr_bpm": 170, "sport_code": None if s == 2 else "running",
                "is_training": None if a == 6 else not (a == 3 and s == 2),
                "part_date": day,
            })  # fmt: skip
        for k in range(40):
            gap = 200 if k == 20 else 0
            samples.append({
                "activity_id": f"a{a}", "sample_no": k, "sampled_at": begin + timedelta(seconds=10 * k + gap + k % 3), "heart_rate_bpm": None if k % 11 == 0 else 85 + (k * 7 + a) % 100,
                "speed_m_s": 3.0, "cadence_rpm": 80, "power_w": 200, "altitude_m": 4.0, "distance_m": 10.0 * k, "lng": 121.0, "lat": 31.0, "part_date": day,
            })  # fmt: skip
    found["ods_training__activity"], found["ods_training__activity_session"], found["ods_training__activity_sample"] = (
        activities,
        sessions,
        samples,
    )
    rosters = []
    for roster in (date(2026, 11, 1), date(2026, 11, 15)):
        for n in range(8):  # the last two are the same membership twice, of which the later counts
            rosters.append({
                "roster_date": roster, "athlete_token": f"t{min(n, 6) % 4}", "athlete_name": f"名{min(n, 6)}{'*' * (1 + n // 7)}", "squad_code": f"SQ0{1 + min(n, 6) // 2}",
                "member_no": 1 + n, "sport_code": ("running", "swimming", "cycling")[n % 3], "joined_date": days[0] - timedelta(days=10) + timedelta(days=4 * min(n, 6)),
                "left_date": None if n % 3 else roster + timedelta(days=2 - n), "part_date": roster,
            })  # fmt: skip
    found["ods_training__athlete"] = rosters
    found["ods_reference__official_figure"] = [{
        "list_date": date(2025 + n // 5, 3, 1), "indicator_code": ("department_events", "assessed_events", "i2")[n % 3], "indicator_name": f"官方指标{n % 3}", "figure_year": 2020 + n % 4, "value": 10.0 + n,
        "unit": ("场次", "%")[n % 2], "document": f"公报{n}", "method_note": f"口径{n}", "provenance": "V2", "part_date": date(2025 + n // 5, 3, 1),
    } for n in range(10)]  # fmt: skip
    states = ("fresh", "late", "failed", "never", "fresh")
    found["ops_ingest__freshness"] = [{
        "resource": f"r{n}", "title": f"资源{n}", "update_cycle": ("每日", "每周")[n % 2], "state": state, "reason": None if state == "fresh" else f"原因{n}", "latest_data_date": None if state == "never" else TODAY - timedelta(days=n),
        "last_success_at": at(TODAY, -60 * n), "is_missing": n % 2 == 1, "due_at": None if n == 3 else at(TODAY, 60 * n), "received_count": 10 + n, "accepted_count": 8 + n, "quarantined_count": n, "duplicate_count": 2,
    } for n, state in enumerate(states)]  # fmt: skip
    found["ops_quality__result"] = [{
        "run_id": f"run{n}", "table_name": f"t{n % 3}", "rule_id": f"q{n % 2}", "layer": "ods", "outcome": ("pass", "fail", "error")[n % 3], "examined_count": 100 + n,
        "failed_count": n, "message": "m", "checked_at": at(TODAY, -30 * n),
    } for n in range(9)]  # fmt: skip
    found["ops_quality__grading"] = [
        {"table_name": f"t{n}", "column_count": 10 + n, "graded_count": 8 + n} for n in range(3)
    ]
    return found


def reference_rows() -> dict[str, pa.Table]:
    """The reference tables as the platform publishes them."""
    from catalog import publish

    return {table.name: pa.Table.from_pylist(table.rows(1.0), schema=table.schema) for table in publish.TABLES}


def build(session: Any, compiled: Mapping[str, str]) -> Oracle:
    """The oracle over all models of a compiled project."""
    from modeling import literals, store

    con = duckdb.connect(config={"threads": 1})
    con.execute("set TimeZone = 'UTC'")
    rows, reference = source_rows(), reference_rows()
    tables, queries = {}, []
    for name, (schema, columns) in session.sources.items():
        con.execute(f"create schema if not exists {schema}")
        relation = f'{schema}."{name}"'
        declared = ", ".join(f'"{column}" {kind}' for column, kind in columns)
        con.execute(f"create table {relation} ({declared})")
        if name in reference:
            con.register("given", reference[name])
        else:
            technical = {"_batch_id": "b", "_source_object": "o"}
            content = [
                {**technical, "_record_no": n, "_ingested_at": AS_OF + timedelta(seconds=n % 7), **row}
                for n, row in enumerate(rows.get(name, []))
            ]
            if not content:
                continue
            con.register("given", pl.DataFrame(content, infer_schema_length=None))
        have = {row[0] for row in con.execute("describe given").fetchall()}
        listed = ", ".join(f'cast("{c}" as {kind})' if c in have else "null" for c, kind in columns)
        con.execute(f"insert into {relation} select {listed} from given")
        con.unregister("given")
        tables[name] = relation
    known = set(session.sources) | set(session.specs)
    for name, spec in session.specs.items():
        con.execute(f"create schema if not exists {spec.layer}")
        sql = literals.render(
            compiled[name], window=None, business_date=TODAY, as_of=AS_OF, versions=lambda table: {table: 0}
        )
        reads = frozenset(spec.inputs) & known
        without = reads & set(session.sources) - set(tables)
        assert not without, f"{name} reads {sorted(without)}: give it rows in source_rows()"
        queries.append(Query(name, f'{spec.layer}."{name}"', store.contract_select(sql, spec), reads))
    return Oracle(con, tables, queries)
