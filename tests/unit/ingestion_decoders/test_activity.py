"""Device files: every sequence, every sample, no false date, and damage named instead of hidden."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion import decoders
from ingestion.decoders.activity import model, packed
from lake.errors import TiyuError
from tests.unit.ingestion_decoders import fit_bytes

START = 1_788_000_000
A, S, L, P = (f"ods_training__activity{suffix}" for suffix in ("", "_session", "_lap", "_sample"))
LENGTH, BEAT, APP, W = (
    f"ods_training__{name}" for name in ("swim_length", "rr_interval", "developer_value", "device_wellness")
)

TCX = """<?xml version="1.0"?>
<TrainingCenterDatabase xmlns="http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"><Activities>
<Activity Sport="Biking"><Id>2026-09-01T07:30:00+08:00</Id>
<Lap StartTime="2026-09-01T07:30:00+08:00"><TotalTimeSeconds>2</TotalTimeSeconds><DistanceMeters>10</DistanceMeters>
<AverageHeartRateBpm><Value>120</Value></AverageHeartRateBpm><Track>
<Trackpoint><Time>2026-08-31T23:30:00Z</Time><Position><LatitudeDegrees>31.2</LatitudeDegrees>
<LongitudeDegrees>121.4</LongitudeDegrees></Position><DistanceMeters>0</DistanceMeters>
<HeartRateBpm><Value>118</Value></HeartRateBpm></Trackpoint>
<Trackpoint><Time>2026-08-31T23:30:02Z</Time><DistanceMeters>10</DistanceMeters></Trackpoint>
</Track></Lap>
<Lap StartTime="2026-08-31T23:30:02Z"><TotalTimeSeconds>3</TotalTimeSeconds><DistanceMeters>15</DistanceMeters>
<AverageHeartRateBpm><Value>130</Value></AverageHeartRateBpm><Track>
<Trackpoint><Time>2026-08-31T23:30:02Z</Time><DistanceMeters>10</DistanceMeters></Trackpoint>
<Trackpoint><Time>2026-08-31T23:30:05Z</Time><DistanceMeters>25</DistanceMeters><Cadence>80</Cadence><Extensions>
<TPX xmlns="http://www.garmin.com/xmlschemas/ActivityExtension/v2"><Speed>5.1</Speed><Watts>200</Watts></TPX>
</Extensions></Trackpoint></Track></Lap></Activity></Activities></TrainingCenterDatabase>"""

GPX = """<gpx xmlns="http://www.topografix.com/GPX/1/1" creator="x"><trk><name>n</name><type>running</type><trkseg>
<trkpt lat="31.2" lon="121.4"><ele>4.5</ele><time>2026-08-31T23:30:00Z</time><extensions><hr>118</hr></extensions></trkpt>
<trkpt lat="31.3" lon="121.5"><ele>4.6</ele><time>2026-08-31T23:30:05.250Z</time></trkpt></trkseg></trk></gpx>"""


def run(content: bytes, name: str = "SHA000001/202609010730_badminton.fit"):
    result = decoders.decode({"kind": "activity"}, content, object_name=name, object_sha256="s" * 64, contract=None)
    root, wellness = result.tables[A], result.tables[W]
    assert result.root_count == root.num_rows + wellness.num_rows + len(result.issues)
    numbers = [
        *root["_record_no"].to_pylist(),
        *wellness["_record_no"].to_pylist(),
        *(i.record_no for i in result.issues),
    ]
    assert sorted(numbers) == list(range(1, result.root_count + 1)), "every root record has a number of its own"
    counted = {P: "sample_count", S: "session_count", L: "lap_count", LENGTH: "length_count", BEAT: "interval_count",
               APP: "value_count"}  # fmt: skip
    for table, column in counted.items():
        assert sum(root[column].to_pylist()) == result.tables[table].num_rows, table
    return result


def first(result, table: str) -> dict:
    return result.tables[table].to_pylist()[0]


def test_fit_activity():
    content = fit_bytes.activity(START, 5)
    result = run(content)
    root = first(result, A)
    assert root["activity_id"] == hashlib.sha256(content).hexdigest()[:32]
    assert (root["max_hr_bpm"], root["resting_hr_bpm"], root["decoder"], root["file_format"]) == (
        190,
        52,
        "fitfast",
        "fit",
    )
    assert (root["started_at"].timestamp(), root["sport_code"], root["has_position"]) == (START, "running", True)
    session = first(result, S)
    assert (session["elapsed_s"], session["distance_m"], session["avg_hr_bpm"]) == (5.0, 15.0, 122)
    samples = result.tables[P].to_pylist()
    assert [row["sample_no"] for row in samples] == [1, 2, 3, 4, 5]
    assert [row["sampled_at"].timestamp() for row in samples] == [START + n for n in range(5)]
    assert [row["heart_rate_bpm"] for row in samples] == [120, 121, 122, 123, 124]
    assert samples[1]["lat"] == pytest.approx(31.23001, abs=1e-6)
    assert samples[1]["lng"] == pytest.approx(121.47, abs=1e-6)
    assert (samples[1]["speed_m_s"], samples[1]["altitude_m"], samples[1]["distance_m"]) == (3.0, 10.0, 3.0)


def test_header_crc_of_zero_is_accepted_and_equals_the_fast_path():
    fast = run(fit_bytes.activity(START, 5))
    careful = run(fit_bytes.activity(START, 5, header_crc=False))
    assert first(careful, A)["decoder"] == "fitdecode"
    for table in (S, L, P):
        one, other = (found.tables[table].drop_columns(["activity_id"]) for found in (fast, careful))
        assert one.equals(other), table
    same = set(fast.tables[A].column_names) - {"activity_id", "decoder"}
    assert {k: first(fast, A)[k] for k in same} == {k: first(careful, A)[k] for k in same}


def test_compressed_timestamps():
    result = run(fit_bytes.compressed(START, 200))
    times = [row["sampled_at"].timestamp() for row in result.tables[P].to_pylist()]
    assert times == [START + n * 7 for n in range(200)]


def test_device_uptime_is_no_date():
    result = run(fit_bytes.activity(fit_bytes.FIT_EPOCH + 16_441_242, 7))
    (issue,) = result.issues
    assert (issue.rule_id, issue.preview_bytes) == ("decode.no_valid_date", None)
    assert "7 条" in issue.reason_zh
    assert {table.num_rows for table in result.tables.values()} == {0}


def test_chained_activity_and_settings_are_one_activity():
    content = fit_bytes.activity(START, 5) + fit_bytes.activity(START, 0, kind=2, session=False)
    assert first(run(content), A)["sample_count"] == 5


def test_settings_before_the_activity_are_no_second_record():
    content = fit_bytes.activity(START, 0, kind=2, session=False) + fit_bytes.activity(START, 5)
    assert (run(content).root_count, first(run(content), A)["sample_count"]) == (1, 5)


def test_chained_activities_are_one_activity_each():
    one, other = fit_bytes.activity(START, 5), fit_bytes.activity(START + 100, 4)
    beats = fit_bytes.strap_beats(START + 100, [(n * 0.75, 150) for n in range(8)])
    result = run(one + other + beats)
    roots = result.tables[A].to_pylist()
    assert [(r["_record_no"], r["sample_count"], r["session_count"]) for r in roots] == [(1, 5, 1), (2, 4, 1)]
    assert len({r["activity_id"] for r in roots}) == 2
    assert roots[0]["activity_id"] == first(run(one), A)["activity_id"], "as if it had come in a file of its own"
    samples = result.tables[P].to_pylist()
    assert [row["sample_no"] for row in samples] == [1, 2, 3, 4, 5, 1, 2, 3, 4]
    assert [row["_record_no"] for row in samples] == [1] * 5 + [2] * 4


def test_strap_heart_rate_is_spread_onto_samples():
    beats = [(n * 0.75, 100 + n % 64) for n in range(64)]
    result = run(fit_bytes.activity(START, 60, heart=False) + fit_bytes.strap_beats(START, beats))
    rates = [row["heart_rate_bpm"] for row in result.tables[P].to_pylist()]
    assert rates[0] == 100
    for second in range(1, 48):
        due = [rate for at, rate in beats if second - 1 < at <= second]
        assert rates[second] == round(sum(due) / len(due)), second
    assert rates[-1] is None or 60 - beats[-1][0] <= 10 + 1


def test_stale_beats_say_nothing():
    result = run(fit_bytes.activity(START, 60, heart=False) + fit_bytes.strap_beats(START, [(0.5, 100), (1.0, 101)]))
    rates = [row["heart_rate_bpm"] for row in result.tables[P].to_pylist()]
    assert rates[2:11] == [101] * 9
    assert rates[13:] == [None] * 47


def test_crc_error_is_quarantined_and_what_can_be_read_is_salvaged():
    good, bad = fit_bytes.activity(START, 5), bytearray(fit_bytes.activity(START + 60, 6))
    bad[-1] ^= 0xFF
    result = run(good + bytes(bad))
    (issue,) = result.issues
    assert (issue.rule_id, issue.record_no) == ("decode.damaged_file", 3)
    assert "校验和不符" in issue.reason_zh
    assert "11 条" in issue.reason_zh
    place = (len(good), len(good) + len(bad))
    assert (issue.byte_from, issue.byte_to) == place
    whole, partial = result.tables[A].to_pylist()
    assert (whole["is_partial"], whole["unread_byte_from"], whole["sample_count"]) == (False, None, 5)
    assert (partial["is_partial"], partial["unread_byte_from"], partial["unread_byte_to"]) == (True, *place)
    assert partial["sample_count"] == 6


def test_cut_file_is_quarantined_and_salvaged_up_to_the_cut():
    content = fit_bytes.activity(START, 6, session=False)
    cut = len(content) - 10  # inside the lap
    result = run(content[:cut])
    (issue,) = result.issues
    assert "截断" in issue.reason_zh
    assert "6 条" in issue.reason_zh
    root = first(result, A)
    assert (root["is_partial"], root["sample_count"], root["session_count"], root["elapsed_s"]) == (True, 6, 1, 5.0)
    assert (issue.byte_from, issue.byte_to) == (root["unread_byte_from"], root["unread_byte_to"])
    assert 0 < issue.byte_from < issue.byte_to == cut
    assert content[issue.byte_from] == 3, "the lap's data message begins where reading ended"


def test_damage_before_the_first_sample_leaves_nothing_to_salvage():
    result = run(fit_bytes.activity(START, 6)[:40])
    assert result.tables[A].num_rows == 0
    assert "0 条" in result.issues[0].reason_zh


def test_zero_padding_is_harmless_other_remainders_are_not():
    whole = fit_bytes.activity(START, 5)
    assert first(run(whole + bytes(100)), A)["sample_count"] == 5
    result = run(whole + b"rubbish at the end")
    (issue,) = result.issues
    assert "5 条" in issue.reason_zh
    assert (issue.byte_from, issue.byte_to) == (len(whole), len(whole) + 18)
    assert first(result, A)["is_partial"] is False, "the activity before it is whole: its checksum says so"


@pytest.mark.parametrize("content", [b"", b"\x0e", b"no fit at all"])
def test_rubbish_named_fit_is_quarantined(content):
    (issue,) = run(content).issues
    assert issue.rule_id == "decode.damaged_file"


@pytest.mark.parametrize(("kind", "code"), [(2, "TIYU-ING-0301"), (9, "TIYU-ING-0301"), (6, "TIYU-ING-0303")])
def test_other_device_files_are_refused(kind, code):
    with pytest.raises(TiyuError) as caught:
        run(fit_bytes.activity(START, 0, kind=kind, session=False))
    assert caught.value.code == code


def test_other_files_are_refused():
    with pytest.raises(TiyuError) as caught:
        run(b"a,b\n1,2\n", "notes.csv")
    assert caught.value.code == "TIYU-ING-0302"


def test_tcx():
    result = run(TCX.encode(), "202609010730_cycling.tcx")
    assert result.tables[P].num_rows == 3  # the point repeated at the lap boundary counts once
    session = first(result, S)
    assert (session["elapsed_s"], session["timer_s"], session["distance_m"]) == (5.0, 5.0, 25.0)
    assert (session["avg_hr_bpm"], session["sport_code"]) == (126, "cycling")
    assert session["started_at"].isoformat() == "2026-08-31T23:30:00+00:00"
    last = result.tables[P].to_pylist()[-1]
    assert (last["speed_m_s"], last["power_w"], last["cadence_rpm"], last["lat"]) == (5.1, 200.0, 80.0, None)
    assert [row["distance_m"] for row in result.tables[L].to_pylist()] == [10.0, 15.0]


def test_gpx_and_tcx_of_one_start_agree():
    gpx, tcx = run(GPX.encode(), "x.gpx"), run(TCX.encode(), "x.tcx")
    assert first(gpx, A)["started_at"] == first(tcx, A)["started_at"]
    assert first(gpx, A)["sport_code"] == "running"
    rows = gpx.tables[P].to_pylist()
    assert (rows[0]["heart_rate_bpm"], rows[0]["altitude_m"]) == (118, 4.5)
    assert rows[1]["sampled_at"].microsecond == 250_000


def test_gpx_without_times_has_no_date():
    (issue,) = run(GPX.replace("2026-", "0026-").encode(), "x.gpx").issues
    assert issue.rule_id == "decode.no_valid_date"


def test_cut_xml_is_quarantined_with_salvage():
    cut = GPX[: GPX.index("</trkseg>")].encode()
    result = run(cut, "x.gpx")
    (issue,) = result.issues
    assert issue.rule_id == "decode.damaged_file"
    assert "2 条" in issue.reason_zh
    root = first(result, A)
    assert (root["is_partial"], root["sample_count"], root["unread_byte_to"]) == (True, 2, len(cut))


def test_external_entities_and_bombs_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("121.4", encoding="utf-8")
    attack = f'<!DOCTYPE gpx [<!ENTITY x SYSTEM "file://{secret}">]>' + GPX.replace("<name>n", "<name>&x;")
    (issue,) = run(attack.encode(), "x.gpx").issues
    assert "文档类型" in issue.reason_zh
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    attack = f'<!DOCTYPE gpx [<!ENTITY l0 "ha">{laughs}]>' + GPX.replace("<name>n", "<name>&l11;")
    (issue,) = run(attack.encode(), "x.gpx").issues
    assert issue.rule_id == "decode.damaged_file"


def test_sport_in_the_name_helps_when_the_device_has_no_word():
    plain = GPX.replace("<type>running</type>", "")
    assert first(run(plain.encode(), "SHA000001/202609010730_table_tennis.gpx"), A)["sport_code"] == "table_tennis"
    assert first(run(plain.encode(), "x.gpx"), A)["sport_code"] == "other"
    assert model.sport_code("racket", "badminton") == "badminton"
    assert model.sport_code("soccer") == "football"
    assert model.sport_code("walking", "generic") == "other"


def pack(*files: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_packed_files_are_the_same_activity():
    content = fit_bytes.activity(START, 5)
    ids = {first(run(found, name), A)["activity_id"] for found, name in (
        (content, "x.fit"), (gzip.compress(content), "x.fit.gz"), (pack(("x.fit", content)), "x.fit.zip"),
        (pack(("x.fit.gz", gzip.compress(content))), "x.zip"))}  # fmt: skip
    assert len(ids) == 1


def test_zip_of_several_files_gives_several_roots():
    content = pack(
        ("a.fit", fit_bytes.activity(START, 5)),
        ("b/c_swimming.gpx", GPX.encode()),
        ("d.fit", fit_bytes.activity(START, 5)[:-4]),
        ("e.fit", fit_bytes.activity(START, 0, kind=2, session=False)),
        ("readme.txt", b"hello"),
        ("__MACOSX/._a.fit", b"x"),
    )
    result = run(content, "export.zip")
    assert result.tables[A]["_record_no"].to_pylist() == [1, 2, 3]
    assert result.tables[A]["is_partial"].to_pylist() == [False, False, True]
    assert {i.record_no: i.rule_id for i in result.issues} == {
        4: "decode.damaged_file",
        5: "decode.not_activity",
        6: "decode.unsupported_file",
    }
    assert set(result.tables[P]["_record_no"].to_pylist()) == {1, 2, 3}


@pytest.mark.parametrize("name", ["x.fit.gz", "x.zip"])
def test_archive_bomb_is_refused(monkeypatch, name):
    monkeypatch.setattr(packed, "MAX_EXPANDED_BYTES", 1 << 20)
    zeros = bytes(3 << 20)
    with pytest.raises(TiyuError) as caught:
        run(gzip.compress(zeros) if name.endswith("gz") else pack(("x.fit", zeros)), name)
    assert caught.value.code == "TIYU-ING-0216"


def test_damaged_archives_are_quarantined():
    short = gzip.compress(fit_bytes.activity(START, 50))[:-20]
    (issue,) = run(short, "x.fit.gz").issues
    assert issue.rule_id == "decode.damaged_archive"
    (issue,) = run(pack(("x.fit", fit_bytes.activity(START, 50)))[:-10], "x.zip").issues
    assert issue.rule_id == "decode.damaged_archive"


def test_many_objects_carry_their_source():
    objects = [(f"{n}", f"{n}.fit", fit_bytes.activity(START + n, 3)) for n in range(20)]
    objects.insert(7, ("bad", "bad.txt", b"x"))
    results = list(decoders.decode_many({"kind": "activity"}, objects, None, chunk_bytes=2000))
    assert len(results) > 1
    sources = [sha for r in results for sha in r.tables[P]["_source_object"].to_pylist()]
    assert sources == [str(n) for n in range(20) for _ in range(3)]
    assert {sha: e.code for r in results for sha, e in r.refusals.items()} == {"bad": "TIYU-ING-0302"}
    assert sum(r.root_count for r in results) == 20


_FIT = fit_bytes.activity(START, 12) + fit_bytes.strap_beats(START, [(n * 0.75, 100) for n in range(16)])


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    which=st.sampled_from(["fit", "tcx", "gpx", "fit.gz", "zip"]),
    cut=st.one_of(st.just(0), st.integers(0, 800)),
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    fix_crc=st.booleans(),
)
def test_damage_never_raises_anything_else_and_every_file_is_accounted_for(which, cut, flips, fix_crc):
    original = {
        "fit": _FIT, "tcx": TCX.encode(), "gpx": GPX.encode(), "fit.gz": gzip.compress(_FIT, mtime=0),
        "zip": pack(("a.fit", _FIT)),
    }[which]  # fmt: skip
    content = bytearray(original)
    for position, value in flips:
        content[position % len(content)] = value
    content = content[: max(0, len(content) - cut)]
    if which == "fit" and fix_crc and not cut:  # damage that a checksum does not betray
        size = len(fit_bytes.activity(START, 12))
        content[size - 2 : size] = fit_bytes.crc(bytes(content[: size - 2])).to_bytes(2, "little")
    try:
        result = run(bytes(content), f"x.{which}")
    except TiyuError as error:
        if error.code not in ("TIYU-ING-0301", "TIYU-ING-0302", "TIYU-ING-0303", "TIYU-ING-0216"):
            raise
        return
    assert result.root_count >= 1 or which == "zip"
    if bytes(content) == original:
        assert result.issues == []
