"""The promise of the planner: after any sequence of batches an incremental build equals a full one, row for row."""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, date, datetime, timedelta

import pytest

from lake import ledger, query, tables
from modeling import session, store

pytestmark = pytest.mark.data

VENUES = ("V310101-001", "V310104-001", "V310104-002")
FIRST, TODAY = date(2026, 11, 1), date(2026, 11, 20)
#: Models whose rows are compared; every one of them is built in windows.
WINDOWED = (
    "dwd_venue__booking", "dwd_venue__passage", "dwd_venue__visit", "dwd_fitness__checkin", "dwd_supervision__water_reading",
    "dwd_training__session", "dws_venue__daily_use", "dws_fitness__daily_checkin", "dws_supervision__daily_water",
    "dws_training__weekly_load", "ads_open__daily_visit", "ads_cockpit__district_day", "ads_training__squad_session",
    "ads_training__squad_week",
)  # fmt: skip


def at(day: date, seconds: int) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=8) + timedelta(seconds=seconds)


class Source:
    """Random batches: new rows, later updates, bookings that move, scans whose passage arrives another day."""

    def __init__(self, lake, seed: int) -> None:
        self.lake, self.rng, self.number = lake, random.Random(seed), 0
        self.bookings: dict[str, date] = {}
        self.scans: list[tuple[str, str, date]] = []

    def day(self) -> date:
        return FIRST + timedelta(days=self.rng.randrange(24))

    def next(self) -> int:
        self.number += 1
        return self.number

    def booking(self) -> None:
        rows = []
        for _ in range(self.rng.randrange(1, 6)):
            if self.bookings and self.rng.random() < 0.5:
                name = self.rng.choice(sorted(self.bookings))
                day = self.bookings[name] + timedelta(days=self.rng.choice([0, 0, -3, 5]))
            else:
                name, day = f"b{self.next()}", self.day()
            self.bookings.setdefault(name, day)
            status = self.rng.choice(["booked", "checked_in", "cancelled"])
            start = at(day, 10 * 3600)
            rows.append(
                {
                    "booking_id": name, "venue_id": self.rng.choice(VENUES), "unit_id": f"{VENUES[0]}-U02", "sport_code": "tennis", "channel": "ywtb",
                    "slot_start_at": start, "slot_end_at": start + timedelta(hours=1), "status": status, "created_at": at(FIRST, 0),
                    "updated_at": at(FIRST, self.next()), "part_date": day,
                    "cancelled_at": start - timedelta(hours=self.rng.choice([1, 3])) if status == "cancelled" else None,
                }
            )  # fmt: skip
        self.lake.append("ods_venue__booking", rows)

    def checkin(self) -> None:
        rows = []
        for _ in range(self.rng.randrange(1, 30)):
            name, venue, day = f"c{self.next()}", self.rng.choice(VENUES), self.day()
            self.scans.append((name, venue, day))
            rows.append(
                {
                    "checkin_id": name, "venue_id": venue, "scanned_at": at(day, self.rng.randrange(86_400)), "purpose": "entry", "channel": "ywtb",
                    "id_type": "resident_id", "person_token": f"p{self.rng.randrange(60)}", "is_minor": False, "part_date": day,
                }
            )  # fmt: skip
        self.lake.append("ods_fitness__checkin", rows)

    def entry(self) -> None:
        rows = []
        for _ in range(self.rng.randrange(1, 10)):
            day, venue, scan = self.day(), self.rng.choice(VENUES), None
            if self.scans and self.rng.random() < 0.7:
                scan, venue, day = self.rng.choice(self.scans)
                day += timedelta(days=self.rng.choice([0, 0, 0, 1]))
            rows.append(
                {
                    "device_id": "g", "seq_no": self.next(), "venue_id": venue, "direction": self.rng.choice(["in", "in", "out"]), "method": "code",
                    "passed_at": at(day, self.rng.randrange(86_400)), "checkin_id": scan, "part_date": day,
                }
            )  # fmt: skip
        self.lake.append("ods_venue__entry", rows)

    def water(self) -> None:
        day = self.day()
        rows = [
            {
                "pool_id": f"{VENUES[0]}-U01", "item": "ph", "sampled_at": at(day, self.next()), "value": self.rng.choice([7.0, 7.9]), "unit": "1",
                "method": "online", "part_date": day,
            }
            for _ in range(3)
        ]  # fmt: skip
        self.lake.append("ods_supervision__water_reading", rows)

    def training(self) -> None:
        day, name = self.day(), f"a{self.next()}"
        common = {"activity_id": name, "part_date": day, "started_at": at(day, 3600), "sport_code": "running"}
        self.lake.append("ods_training__activity_session", [{**common, "session_no": 1, "timer_s": 60.0}])
        self.lake.append(
            "ods_training__activity_sample",
            [
                {
                    "activity_id": name,
                    "sample_no": n,
                    "sampled_at": at(day, 3600 + 5 * n),
                    "heart_rate_bpm": 100 + n,
                    "part_date": day,
                }
                for n in range(5)
            ],
        )
        self.lake.append(
            "ods_training__activity", [{**common, "athlete_token": f"t{self.rng.randrange(3)}", "max_hr_bpm": 200}]
        )

    def roster(self) -> None:
        """Three athletes; one changes squads in the middle."""
        rows = [("t0", "SQ01", FIRST, None), ("t1", "SQ01", FIRST, FIRST + timedelta(days=9)),
                ("t1", "SQ02", FIRST + timedelta(days=10), None), ("t2", "SQ02", FIRST, None)]  # fmt: skip
        self.lake.append("ods_training__athlete", [
            {"roster_date": FIRST, "athlete_token": token, "athlete_name": "张**", "squad_code": squad, "member_no": n, "sport_code": "running",
             "joined_date": joined, "left_date": left, "part_date": FIRST}
            for n, (token, squad, joined, left) in enumerate(rows, 1)
        ])  # fmt: skip

    def step(self) -> None:
        for kind in self.rng.sample(["booking", "checkin", "entry", "water", "training"], self.rng.randrange(1, 4)):
            getattr(self, kind)()


def only(base: session.Session, names: tuple[str, ...]) -> session.Session:
    """The session reduced to these models and what they read."""
    kept: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in base.specs and name not in kept:
            kept.add(name)
            waiting += base.specs[name].inputs
    return dataclasses.replace(base, specs={name: spec for name, spec in base.specs.items() if name in kept})


def build_all(base: session.Session, sql: dict[str, str], today: date, *, full: bool = False) -> session.Session:
    """Every model once, in order, through the store's own code; the new heads become checked."""
    now = session.Session(
        "r", today, datetime(2026, 11, 20, 4, tzinfo=UTC), base.specs, base.sources, full_refresh=full
    )
    now.selected = set(base.specs)
    con = query.connect()
    try:
        store.register_lake(con, now)
        for name in base.specs:
            store.build_model(con, now, name, sql[name])
    finally:
        con.close()
    for name in now.built:
        ledger.set_checked_version(name, now.built[name], "test")
    return now


def rows_of(name: str) -> list[tuple]:
    con = query.connect()
    try:
        return con.execute(
            f"select columns(* exclude (part_date)), part_date from {query.scan_sql(name, tables.version(name))} order by all"
        ).fetchall()
    finally:
        con.close()


@pytest.mark.parametrize("seed", [2])
def test_random_batches(small_lake, compiled_models, seed):
    base, sql = only(compiled_models[0], WINDOWED), compiled_models[1]
    source = Source(small_lake, seed)
    for kind in ("booking", "checkin", "entry", "water", "roster", "training"):
        getattr(source, kind)()
    build_all(base, sql, TODAY - timedelta(days=3))
    actions: dict[str, set[str]] = {}
    for n in range(3):
        source.step()
        done = build_all(base, sql, TODAY - timedelta(days=2 - n))
        for name, plan in done.plans.items():
            actions.setdefault(name, set()).add(plan.action)
    incremental = {name: rows_of(name) for name in WINDOWED}
    # A comparison of empty tables, or of tables that were built in full anyway, would prove nothing.
    assert {name for name in WINDOWED if not incremental[name]} == set()
    assert {name for name in WINDOWED if "windows" not in actions[name]} == set()
    assert {name for name in WINDOWED if "full" in actions[name]} == set()
    build_all(base, sql, TODAY, full=True)
    different = {name for name in WINDOWED if rows_of(name) != incremental[name]}
    assert different == set()


def test_a_build_without_change_makes_no_commit(small_lake, compiled_models):
    base, sql = compiled_models
    source = Source(small_lake, 3)
    source.booking()
    source.checkin()
    build_all(base, sql, TODAY)
    before = {name: tables.version(name) for name in base.specs}
    again = build_all(base, sql, TODAY)
    assert again.built == {}
    assert {name: tables.version(name) for name in base.specs} == before


def test_a_whole_table_of_equal_content_is_not_written_again(small_lake, compiled_models):
    base, sql = only(compiled_models[0], ("dwd_event__event",)), compiled_models[1]
    filing = {
        "filing_id": "f1",
        "start_date": FIRST,
        "end_date": FIRST,
        "filed_date": FIRST,
        "status": "held",
        "part_date": FIRST,
    }
    small_lake.append("ods_event__filing", [{**filing, "updated_at": at(FIRST, 9)}])
    build_all(base, sql, TODAY)
    small_lake.append(
        "ods_event__filing", [{**filing, "updated_at": at(FIRST, 1), "status": "filed"}]
    )  # an older state
    assert build_all(base, sql, TODAY).built == {}
    small_lake.append("ods_event__filing", [{**filing, "updated_at": at(FIRST, 10), "status": "cancelled"}])
    assert build_all(base, sql, TODAY).built == {"dwd_event__event": 1}


def test_an_interrupted_build_does_all_ranges_again(small_lake, compiled_models, monkeypatch):
    """Killed between two ranges, the model must not believe that it has read the new inputs."""
    base, sql = only(compiled_models[0], ("dwd_venue__passage",)), compiled_models[1]
    source = Source(small_lake, 4)
    source.entry()
    build_all(base, sql, TODAY)
    for day in (FIRST, FIRST + timedelta(days=10)):
        small_lake.append(
            "ods_venue__entry",
            [
                {
                    "device_id": "x",
                    "seq_no": day.day,
                    "venue_id": VENUES[0],
                    "direction": "in",
                    "method": "card",
                    "passed_at": at(day, 36_000),
                    "part_date": day,
                }
            ],
        )
    real, calls = tables.replace_window, []

    def dies_in_the_second_range(name, *args, **options):
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(name, *args, **options)

    monkeypatch.setattr(tables, "replace_window", dies_in_the_second_range)
    with pytest.raises(KeyboardInterrupt):
        build_all(base, sql, TODAY)
    assert calls == ["dwd_venue__passage"] * 2
    monkeypatch.setattr(tables, "replace_window", real)
    done = build_all(base, sql, TODAY)
    assert len(done.plans["dwd_venue__passage"].ranges) == 2
    incremental = rows_of("dwd_venue__passage")
    build_all(base, sql, TODAY, full=True)
    assert rows_of("dwd_venue__passage") == incremental


def test_the_check_can_fail(small_lake, compiled_models):
    """A model that claims less reach than it has is caught by the comparison."""
    name = "dwd_venue__visit"
    base, sql = only(compiled_models[0], (name,)), compiled_models[1]
    lying = {**base.specs, name: dataclasses.replace(base.specs[name], lookback_days=0, lookahead_days=0)}
    base = dataclasses.replace(base, specs=lying)
    scan, night = FIRST + timedelta(days=5), FIRST + timedelta(days=6)
    small_lake.append(
        "ods_fitness__checkin",
        [
            {
                "checkin_id": "c1",
                "venue_id": VENUES[0],
                "scanned_at": at(scan, 86_390),
                "person_token": "p",
                "part_date": scan,
            }
        ],
    )
    small_lake.append(
        "ods_venue__entry",
        [
            {
                "device_id": "g",
                "seq_no": 1,
                "venue_id": VENUES[0],
                "direction": "out",
                "method": "card",
                "passed_at": at(scan, 0),
                "part_date": scan,
            }
        ],
    )
    build_all(base, sql, TODAY)
    small_lake.append(
        "ods_venue__entry",
        [
            {
                "device_id": "g",
                "seq_no": 2,
                "venue_id": VENUES[0],
                "direction": "in",
                "method": "code",
                "checkin_id": "c1",
                "passed_at": at(night, 5),
                "part_date": night,
            }
        ],
    )
    build_all(base, sql, TODAY)
    incremental = rows_of(name)
    build_all(base, sql, TODAY, full=True)
    assert rows_of(name) != incremental


def test_compiled_models_name_registered_relations_only(compiled_models):
    base, sql = compiled_models
    assert len(sql) == len(base.specs) >= 25
    assert [name for name, text in sql.items() if "delta_scan" in text or "read_parquet" in text] == []
    assert set(sql) == set(base.specs)


#: What a compiled model may call: portable SQL, and what macros/dialect.sql spells for DuckDB.
PORTABLE = {
    "abs", "case", "cast", "coalesce", "concat", "concat_ws", "count", "extract", "first_value", "floor", "greatest", "if", "lag", "lead", "least",
    "max", "min", "row_number", "sum", "trim", "upper", "md5", "and", "or",
}  # fmt: skip
DIALECT = {
    "at_time_zone", "date_trunc", "timestamp_trunc", "date_diff", "epoch", "epoch_us", "explode", "format", "generate_series", "last_day", "printf", "strftime",
    "time_to_str", "to_seconds", "to_timestamp", "unix_to_time", "time_to_unix", "unnest", "datediff", "isodow", "group_concat", "interval", "current_date",
}  # fmt: skip


def functions(sql: str) -> set[str]:
    import sqlglot
    from sqlglot import exp

    found = set()
    for node in sqlglot.parse_one(sql, dialect="duckdb").find_all(exp.Func):
        found.add(node.name.lower() if isinstance(node, exp.Anonymous) else node.sql_name().lower())
    return found


def test_compiled_models_call_allowed_functions_only(compiled_models):
    used = {name: functions(text) for name, text in compiled_models[1].items()}
    assert sum(map(len, used.values())) > 100
    assert {name: found - PORTABLE - DIALECT for name, found in used.items() if found - PORTABLE - DIALECT} == {}


def test_a_function_outside_the_list_is_seen():
    assert functions("select list_aggregate([1], 'sum'), sum(1) from t") - PORTABLE - DIALECT >= {"list_aggregate"}
