"""Device files by rule: one test a rule, on files made here byte by byte."""

from __future__ import annotations

import struct
from datetime import date

import pytest

from catalog import contracts, rules
from ingestion.decoders.activity import model, xml
from ingestion.decoders.activity.fit import YARD_M, read_fit
from lake import query
from lake.errors import TiyuError
from tests.unit.ingestion_decoders import fit_bytes
from tests.unit.ingestion_decoders.test_activity import APP, BEAT, GPX, LENGTH, START, TCX, A, P, S, W, first, run

SESSION, LENGTH_MESSAGE, RECORD, ACTIVITY_MESSAGE = 18, 101, 20, 34


def message(number: int, *rows: list[tuple[int, str, int]]) -> bytes:
    """A definition and one data message a row; all rows have the same fields."""
    fields = [(field, letter, 1) for field, letter, _ in rows[0]]
    layout = "".join(letter for _, letter, _ in rows[0])
    body = fit_bytes.definition(0, number, fields)
    return body + b"".join(fit_bytes.data(0, layout, *(value for _, _, value in row)) for row in rows)


def file_id(kind: int = 4) -> bytes:
    return message(0, [(0, "E", kind), (4, "I", fit_bytes.stamp(START))])


def records(count: int, start: int = START) -> bytes:
    return message(RECORD, *([(253, "I", fit_bytes.stamp(start + n)), (3, "B", 100 + n)] for n in range(count)))


def session(start: int, sport: int, seconds: int, *more: tuple[int, str, int]) -> bytes:
    at = fit_bytes.stamp(start)
    return message(SESSION, [(253, "I", at + seconds), (2, "I", at), (5, "E", sport), (7, "I", seconds * 1000), *more])


def swim(pool_cm: int, unit: int, lengths: list[list[tuple[int, str, int]]], distance_cm: int) -> dict:
    body = file_id() + records(3)
    body += b"".join(message(LENGTH_MESSAGE, row) for row in lengths)
    body += session(START, 5, 600, (44, "H", pool_cm), (46, "E", unit), (9, "I", distance_cm))
    return run(fit_bytes.wrap(body), "x.fit")


def length(number: int, kind: int = 1) -> list[tuple[int, str, int]]:
    at = fit_bytes.stamp(START + 30 * number)
    return [(254, "H", number), (253, "I", at + 28), (2, "I", at), (3, "I", 28_000), (12, "E", kind), (5, "H", 14)]


def test_pool_lengths_and_a_length_with_only_a_start():
    only_start = [(254, "H", 3), (2, "I", fit_bytes.stamp(START + 120)), (12, "E", 1)]
    found = swim(2500, 0, [length(0), length(1, kind=0), length(2), only_start], 7500)
    rows = found.tables[LENGTH].to_pylist()
    assert [(r["length_no"], r["session_no"], r["length_type"]) for r in rows] == [
        (1, 1, "active"), (2, 1, "idle"), (3, 1, "active"), (4, 1, "active"),
    ]  # fmt: skip
    assert (rows[3]["started_at"].timestamp(), rows[3]["elapsed_s"], rows[3]["stroke_count"]) == (
        START + 120,
        None,
        None,
    )
    assert (rows[0]["elapsed_s"], rows[0]["stroke_count"]) == (28.0, 14)
    told = first(found, S)
    assert (told["pool_length"], told["pool_length_unit"], told["active_length_count"]) == (25.0, "m", 3)


def test_a_yard_pool_stays_in_yards():
    told = first(swim(2286, 1, [length(0)], 2286), S)
    assert (told["pool_length"], told["pool_length_unit"]) == (25.0, "yd")
    assert told["distance_m"] == pytest.approx(told["pool_length"] * YARD_M)


@pytest.mark.parametrize(
    ("lengths", "pool", "unit", "distance", "fine"),
    [
        (3, 25.0, "m", 75.0, True),
        (114, 25.0, "yd", 2606.04, True),
        (3, 25.0, "m", 100.0, False),
        (4, 25.0, "yd", 100.0, False),
    ],
)
def test_the_rule_of_pool_lengths(lengths, pool, unit, distance, fine):
    (rule,) = (
        rule
        for rule in contracts.load("training.activity").object("activity_session").rules
        if rule.rule_id == "training.activity_session.distance_m.pool_lengths"
    )
    assert rule.severity == "warn"
    values = f"{lengths} AS active_length_count, {pool} AS pool_length, '{unit}' AS pool_length_unit, {distance} AS distance_m"
    con = query.connect()
    assert con.execute(f"SELECT {rules.compile(rule).predicate} FROM (SELECT {values})").fetchone() == (fine,)
    con.close()


def test_multisport_legs_are_sessions_of_one_activity_and_the_transition_is_no_training():
    body = file_id() + records(20)
    body += session(START, 5, 8) + session(START + 8, 3, 4) + session(START + 12, 2, 8)
    found = run(fit_bytes.wrap(body), "x.fit")
    assert (found.tables[A].num_rows, first(found, A)["session_count"]) == (1, 3)
    legs = found.tables[S].to_pylist()
    assert [(r["sport_code"], r["is_training"]) for r in legs] == [
        ("swimming", True), ("other", False), ("cycling", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("offset_h", "day"), [(8, date(2026, 8, 30)), (-11, date(2026, 8, 29)), (None, date(2026, 8, 30))]
)
def test_the_date_is_the_wearers(offset_h, day):
    """17:30 UTC is the next day in Shanghai, where a file tells no zone; not west of it."""
    start = START - START % 86_400 + 17 * 3600 + 1800
    body = file_id() + records(3, start) + session(start, 1, 3)
    if offset_h is not None:
        at = fit_bytes.stamp(start + 3)
        body += message(ACTIVITY_MESSAGE, [(253, "I", at), (5, "I", at + offset_h * 3600)])
    root = first(run(fit_bytes.wrap(body), "x.fit"), A)
    assert (root["local_date"], root["utc_offset_min"]) == (day, None if offset_h is None else offset_h * 60)


def app_field(name: bytes, values: list[int], unit: bytes = b"W") -> bytes:
    """Records with heart rate 100, 101 … and a one-byte field of an app."""
    body = file_id() + message(207, [(3, "B", 0)])
    body += struct.pack("<BBBHB", 0x41, 0, 0, 206, 5)
    body += bytes([0, 1, 2, 1, 1, 2, 2, 1, 2, 3, len(name) + 1, 7, 8, len(unit) + 1, 7])
    body += bytes([1, 0, 5, 2]) + name + b"\0" + unit + b"\0"
    body += (
        struct.pack("<BBBHB", 0x40 | 0x20 | 2, 0, 0, RECORD, 2) + bytes([253, 4, 0x86, 3, 1, 2]) + bytes([1, 5, 1, 0])
    )
    for number, value in enumerate(values):
        body += bytes([2]) + struct.pack("<IBB", fit_bytes.stamp(START + number), 100 + number, value)
    return fit_bytes.wrap(body)


def test_fields_of_apps_are_kept_and_their_missing_values_are_not():
    found = run(app_field(b"Form Power", [40, 255, 42]), "x.fit")
    rows = found.tables[APP].to_pylist()
    assert [(r["value_scope"], r["item_no"], r["field_name"], r["field_unit"], r["value"]) for r in rows] == [
        ("sample", 1, "Form Power", "W", 40.0), ("sample", 3, "Form Power", "W", 42.0),
    ]  # fmt: skip


def test_a_field_of_an_app_never_takes_the_place_of_the_devices_own():
    found = run(app_field(b"heart_rate", [7, 7, 7]), "x.fit")
    assert found.tables[P]["heart_rate_bpm"].to_pylist() == [100, 101, 102]
    assert found.tables[APP]["value"].to_pylist() == [7.0, 7.0, 7.0]


def test_a_number_of_a_person_is_no_name_of_a_field():
    (name,) = set(run(app_field(b"13800138000", [1, 2, 3]), "x.fit").tables[APP]["field_name"].to_pylist())
    assert name == "app_field_1"


def test_missing_is_null_and_never_zero():
    body = file_id() + message(
        RECORD, [(253, "I", fit_bytes.stamp(START)), (3, "B", 255), (7, "H", 0xFFFF), (4, "B", 0)]
    )
    row = first(run(fit_bytes.wrap(body), "x.fit"), P)
    assert (row["heart_rate_bpm"], row["power_w"], row["cadence_rpm"], row["lat"]) == (None, None, 0.0, None)


def test_beat_intervals():
    body = file_id() + records(3) + fit_bytes.definition(1, 78, [(0, "H", 5)])
    for values in ([812, 799, 0xFFFF, 0xFFFF, 0xFFFF], [805, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF]):
        body += fit_bytes.data(1, "5H", *values)
    found = run(fit_bytes.wrap(body), "x.fit")
    assert [(r["rr_no"], r["rr_ms"]) for r in found.tables[BEAT].to_pylist()] == [(1, 812.0), (2, 799.0), (3, 805.0)]


def monitoring(rows: list[list[tuple[int, str, int]]]) -> bytes:
    info = message(103, [(253, "I", fit_bytes.stamp(START)), (0, "I", fit_bytes.stamp(START) + 8 * 3600)])
    return fit_bytes.wrap(file_id(32) + info + b"".join(message(55, row) for row in rows))


def test_sixteen_bit_times_of_a_days_monitoring_are_whole_again():
    steps = [600, 30_000, 66_000, 90_000]  # the counter of sixteen bits passes zero once
    low = [(fit_bytes.stamp(START) + step) & 0xFFFF for step in steps]
    found = run(monitoring([[(26, "H", value), (5, "E", 6), (3, "I", 100)] for value in low]), "x.fit")
    rows = found.tables[W].to_pylist()
    assert [r["recorded_at"].timestamp() - START for r in rows] == steps
    assert {(r["record_kind"], r["activity_type"], r["step_count"], r["utc_offset_min"]) for r in rows} == {
        ("monitoring", "walking", 100, 480)
    }
    assert rows[0]["heart_rate_bpm"] is None
    assert (found.tables[A].num_rows, found.root_count) == (0, 4)


def test_a_later_whole_time_counts_more_than_the_counter():
    far = fit_bytes.stamp(START) + 3 * 86_400
    found = run(monitoring([[(253, "I", far), (3, "I", 1)], [(26, "H", (far + 60) & 0xFFFF), (3, "I", 2)]]), "x.fit")
    times = [r["recorded_at"].timestamp() for r in found.tables[W].to_pylist()]
    assert times == [START + 3 * 86_400, START + 3 * 86_400 + 60]


def test_persons_on_one_scale_are_told_apart():
    rows = [[(253, "I", fit_bytes.stamp(START + n)), (0, "H", 7000 + n * 100), (12, "H", n)] for n in (0, 1)]
    found = run(fit_bytes.wrap(file_id(9) + message(30, *rows)), "x.fit")
    assert [(r["user_no"], r["weight_kg"], r["is_shared"]) for r in found.tables[W].to_pylist()] == [
        (0, 70.0, True), (1, 71.0, True),
    ]  # fmt: skip
    alone = run(fit_bytes.wrap(file_id(9) + message(30, rows[0])), "x.fit")
    assert first(alone, W)["is_shared"] is False


def test_the_same_wellness_record_in_another_file_has_the_same_number():
    row = [(253, "I", fit_bytes.stamp(START)), (0, "H", 7000)]
    other = [(253, "I", fit_bytes.stamp(START) + 60), (0, "H", 7010)]
    one = run(fit_bytes.wrap(file_id(9) + message(30, row)), "x.fit")
    two = run(fit_bytes.wrap(file_id(9) + message(30, other, row)), "y.fit")
    numbers = two.tables[W]["wellness_id"].to_pylist()
    assert first(one, W)["wellness_id"] == numbers[1] != numbers[0]


def test_an_activity_and_a_wellness_file_chained_are_both_read():
    found = run(fit_bytes.activity(START, 5) + monitoring([[(26, "H", 7), (3, "I", 1)]]), "x.fit")
    assert (found.tables[A].num_rows, found.tables[W].num_rows, found.root_count) == (1, 1, 2)


ROUTE_GPX = '<gpx xmlns="http://www.topografix.com/GPX/1/1"><{0}><{1} lat="31.2" lon="121.4"/></{0}></gpx>'
COURSE = (
    TCX[: TCX.index("<Activities>")] + "<Courses><Course><Name>x</Name></Course></Courses></TrainingCenterDatabase>"
)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (ROUTE_GPX.format("rte", "rtept"), "x.gpx"),
        ("<gpx><trk><trkseg><trkpt lat='31.2' lon='121.4'><ele>4</ele></trkpt></trkseg></trk></gpx>", "x.gpx"),
        (COURSE, "x.tcx"),
    ],
)
def test_a_route_without_times_is_no_activity(content, name):
    with pytest.raises(TiyuError) as caught:
        run(content.encode(), name)
    assert caught.value.code == "TIYU-ING-0303"


def test_several_activities_in_one_tcx_are_one_activity_each_and_legs_are_sessions():
    one = TCX[TCX.index("<Activity ") : TCX.index("</Activities>")]
    two = TCX.replace(one, one + one.replace("07:30:0", "09:30:0").replace("T23:30:0", "T01:30:0"))
    found = run(two.encode(), "x.tcx")
    assert found.tables[A].num_rows == 2
    assert len(set(found.tables[A]["activity_id"].to_pylist())) == 2
    legs = (
        f"<MultiSportSession><Id>x</Id><FirstSport>{one}</FirstSport><NextSport><Transition"
        f' StartTime="2026-09-01T07:31:00+08:00"><TotalTimeSeconds>9</TotalTimeSeconds></Transition>{one}</NextSport>'
        "</MultiSportSession>"
    )
    found = run(TCX.replace(one, legs).encode(), "x.tcx")
    assert found.tables[A].num_rows == 1
    assert [r["is_training"] for r in found.tables[S].to_pylist()] == [True, False, True]


def test_the_place_of_damage_in_a_document_is_a_byte():
    text = GPX.encode()
    at = text.index(b"<trkpt", text.index(b"<trkpt") + 1)  # in the third line
    assert text[:at].count(b"\n") == 2
    (problem,) = xml.read_xml(b"\n " + text[:at] + b"<&" + text[at:], "gpx").problems
    assert abs(problem.byte_from - (at + 2)) <= 2
    assert problem.byte_to == len(text) + 4


def test_fingerprints_know_an_activity_by_another_clock():
    one, shifted = (read_fit(fit_bytes.activity(start, 30)).activities[0] for start in (START, START + 7200))
    assert model.fingerprints(one.samples) == model.fingerprints(shifted.samples)
    assert None not in model.fingerprints(one.samples)
    other = read_fit(fit_bytes.activity(START, 31)).activities[0]
    assert model.fingerprints(one.samples)[0] != model.fingerprints(other.samples)[0]
    short = read_fit(fit_bytes.activity(START, 5)).activities[0]
    assert model.fingerprints(short.samples) == (None, None), "few samples are alike by chance"


def test_compressed_times_pass_the_end_of_five_bits():
    found = run(fit_bytes.compressed(START, 40), "x.fit")
    times = [r["sampled_at"].timestamp() for r in found.tables[P].to_pylist()]
    assert (times[0], times[-1]) == (START, START + 39 * 7)
