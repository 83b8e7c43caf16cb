"""The whole way from source systems to ODS, on the simulated city: counted, repeated, interrupted, attacked."""

from __future__ import annotations

import datetime as dt
import json
import multiprocessing
import re
import shutil
from collections import Counter

import openpyxl
import polars as pl
import pytest
from city import RESOURCES, ingest_and_trust

from catalog import contracts
from ingestion import archive, decoders, pipeline
from ingestion import run as ingestion_run
from ingestion.decoders import activity
from ingestion.run import ingest
from lake import ledger, tables
from lake.errors import TiyuError
from lake.settings import settings
from quality import quarantine

pytestmark = pytest.mark.integration


def snapshot() -> dict[str, pl.DataFrame]:
    """Every ODS table and the quarantine, in a canonical row order."""
    names = [name for name in tables.all_tables() if name.startswith("ods_")] + [quarantine.TABLE]
    result = {}
    for name in names:
        if tables.exists(name):
            frame = pl.scan_delta(tables.path(name)).collect()
            frame = frame.select(sorted(frame.columns))
            result[name] = frame.sort(
                pl.struct(frame.columns).hash(seed=1), *[c for c in ("_record_no", "record_no") if c in frame.columns]
            )
    return result


def assert_same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> None:
    assert one.keys() == other.keys()
    for name, frame in one.items():
        keys = sorted(frame.columns)
        assert frame.height == other[name].height, name
        assert frame.sort(keys, nulls_last=True).equals(other[name].sort(keys, nulls_last=True)), name


def ingest_all() -> dict[str, ingestion_run.IngestReport]:
    return {resource: ingest_and_trust(resource) for resource in RESOURCES}


def test_every_source_balances_with_the_truth_and_a_second_run_changes_nothing(sources):
    reports = ingest_all()
    truth = sources.truth("counts")
    compared = 0
    for resource, report in reports.items():
        if resource == "training.activity":
            continue  # repeated files are partly duplicate objects, checked below
        assert report.decoded == truth[resource]["records_sent"], resource
        assert report.accepted == truth[resource]["distinct_true_records"], resource
        assert report.duplicate == truth[resource]["duplicate_records"], resource
        assert report.quarantined == truth[resource]["bad_records"], resource
        compared += 1
    assert compared == 7
    activity, expected = reports["training.activity"], truth["training.activity"]
    assert activity.received_objects == expected["objects"]
    assert activity.accepted == expected["distinct_true_records"]
    assert activity.duplicate + activity.duplicate_objects == expected["duplicate_records"]
    assert activity.quarantined == expected["bad_records"]

    versions = {name: tables.version(name) for name in tables.all_tables()}
    for resource in RESOURCES:
        again = ingest(resource)
        assert (again.status, again.decoded) == ("nothing_new", 0), resource
    assert {name: tables.version(name) for name in tables.all_tables()} == versions


def test_no_raw_identifier_outside_the_archive(sources):
    ingest_all()
    raw: set[bytes] = set()
    for path in (sources.folder / "api").glob("*.parquet"):
        for body in pl.read_parquet(path, columns=["body"])["body"].to_list()[::7]:
            row = json.loads(body)
            raw |= {str(row[key]).encode() for key in ("id_no", "phone") if row.get(key)}
    for path in (sources.folder / "drops" / "venue" / "register").glob("*.csv"):
        raw |= set(re.findall(rb"199\d{8}", path.read_bytes()))
    raw |= {entry.name.encode() for entry in (sources.folder / "drops" / "training" / "activity").iterdir()}
    raw = {value for value in raw if len(value) >= 9}
    assert len(raw) > 100
    pattern = re.compile(b"|".join(re.escape(value) for value in sorted(raw)))
    examined = 0
    for path in settings().home.rglob("*"):
        if path.is_file() and "keys" not in path.parts:
            assert not pattern.search(path.read_bytes()), f"raw identifier in {path.relative_to(settings().home)}"
            examined += 1
    # Parquet pages are compressed, so the stored values are looked at as well as the bytes
    columns = 0
    for name in tables.all_tables():
        frame = pl.scan_delta(tables.path(name)).collect()
        for column in frame.select(pl.col(pl.String)).get_columns():
            values = b"\n".join(value.encode() for value in column.drop_nulls().unique().to_list())
            assert not pattern.search(values), f"raw identifier in {name}.{column.name}"
            columns += 1
    assert examined > 100
    assert columns > 50


STEPS = {
    "archive": (archive, "sync"),
    "ledger row of the batch": (ledger, "open_batch"),
    "decode": (pipeline, "judge"),
    "quarantine": (quarantine, "append_quarantine"),
    "table commit": (tables, "append"),
    "close of the batch": (ledger, "finish_batch"),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_interrupted_at_any_step_ends_in_the_same_tables(sources, monkeypatch, tmp_path, step, after):
    """Die before or after each durable step, run again, compare with an undisturbed run."""
    resources = ("venue.register", "training.activity")
    module, name = STEPS[step]
    real = getattr(module, name)
    deaths = 0

    def dying(*args, **kwargs):
        nonlocal deaths
        if after:
            real(*args, **kwargs)
        deaths += 1
        raise KeyboardInterrupt(step)  # not an Exception: no handler may tidy up

    for resource in resources:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, dying)
            with pytest.raises(KeyboardInterrupt):
                ingest(resource)
        ingest_and_trust(resource)
    assert deaths == 2
    interrupted = snapshot()
    states = {row["status"] for row in ledger.batches()}
    assert states <= {"accepted", "partial", "refused"}

    monkeypatch.setenv("TIYU_HOME", str(tmp_path / "undisturbed"))
    shutil.copytree(sources_home_keys(tmp_path), tmp_path / "undisturbed" / "keys")
    for resource in resources:
        ingest_and_trust(resource)
    assert_same(interrupted, snapshot())


def sources_home_keys(tmp_path):
    """Tokens depend on the keys, so the undisturbed run gets the same ones."""
    return tmp_path / "home" / "keys"


def _ingest_in_child(resource: str) -> None:
    ingest(resource)


def test_two_runs_at_once_store_everything_once(sources):
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_ingest_in_child, args=("venue.register",)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    stored = pl.scan_delta(tables.path("ods_venue__register")).collect()
    assert stored.height == sources.truth("counts")["venue.register"]["distinct_true_records"]
    assert len(ledger.batches("venue.register")) == 1


@pytest.fixture
def drop(home, tmp_path, monkeypatch):
    """An empty drop folder, connected."""
    folder = tmp_path / "drop"
    folder.mkdir()
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{folder}")
    return folder


def copy_one(city, drop, pattern: str):
    source = next(iter(sorted((city.folder / "drops").glob(pattern))))
    target = drop / source.relative_to(city.folder / "drops")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    return target


def quarantined() -> list[dict]:
    return pl.scan_delta(tables.path(quarantine.TABLE)).collect().to_dicts()


def test_a_gb18030_file_with_a_bad_byte_loses_one_row(city, drop):
    path = copy_one(city, drop, "venue/register/*.csv")
    lines = path.read_bytes().splitlines(keepends=True)
    good = [line for line in lines[1:] if decodable(line)]
    fields = good[3].split(b",")
    fields[2] = fields[2][:2] + b"\xff\xff" + fields[2][2:]
    path.write_bytes(lines[0] + b"".join(good[:3]) + b",".join(fields) + b"".join(good[4:8]))
    report = ingest("venue.register")
    assert (report.decoded, report.quarantined + report.accepted + report.duplicate) == (8, 8)
    row = next(row for row in quarantined() if row["rule_id"] == "decode.bad_encoding")
    assert row["record_no"] == 4
    assert row["byte_to"] > row["byte_from"] > 0
    assert archive.read_object("venue.register", row["source_object"]) == path.read_bytes()


def decodable(line: bytes) -> bool:
    try:
        line.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return True


def test_a_workbook_with_a_missing_column_is_refused_and_kept(city, drop):
    path = copy_one(city, drop, "event/filing/*.xlsx")
    book = openpyxl.load_workbook(path)
    sheet = book["赛事填报"]
    header = [cell.value for cell in sheet[2]]
    sheet.delete_cols(header.index("开始日期") + 1)
    book.save(path)
    ledger.set_checked_version("ods_venue__register", _register_with_pools(), "test")
    report = ingest("event.filing")
    assert [refusal.code for refusal in report.refusals] == ["TIYU-ING-0210"]
    assert "开始日期" in report.refusals[0].message
    assert path.name in report.refusals[0].message
    assert (report.decoded, report.quarantined, report.accepted) == (1, 1, 0)
    assert [alert["rule_code"] for alert in ledger.alerts("open")] == ["IN-01"]
    (row,) = quarantined()
    assert archive.read_object("event.filing", row["source_object"]) == path.read_bytes()


def test_a_column_nobody_graded_is_refused_at_ingest(city, drop):
    path = copy_one(city, drop, "supervision/water_reading/*/*.csv")
    lines = path.read_text("utf-8").splitlines()
    path.write_text(
        "\n".join([lines[0] + ",inspector_phone", *(line + ",19900000001" for line in lines[1:])]) + "\n", "utf-8"
    )
    ledger.set_checked_version("ods_venue__register", _register_with_pools(), "test")
    report = ingest("supervision.water_reading")
    assert [refusal.code for refusal in report.refusals] == ["TIYU-ING-0211"]
    assert "inspector_phone" in report.refusals[0].message
    assert report.accepted == 0
    assert not tables.exists("ods_supervision__water_reading")


def _register_with_pools() -> int:
    schema_columns = {
        "unit_id": ["V310101-001-U01"],
        "venue_id": ["V310101-001"],
        "part_date": [dt.date(2026, 11, 1)],
    }
    return tables.append("ods_venue__register", pl.DataFrame(schema_columns), batch_id="fixture")


def test_a_damaged_device_file_is_quarantined_and_the_rest_goes_on(city, drop):
    whole = copy_one(city, drop, "training/activity/*/*.fit")
    data = whole.read_bytes()
    (whole.parent / "209901010101_broken.fit").write_bytes(data[: len(data) * 2 // 3])
    report = ingest("training.activity")
    # what can be read of the damaged file is in the whole one as well
    assert (report.decoded, report.accepted, report.quarantined, report.duplicate) == (3, 1, 1, 1)
    (row,) = quarantined()
    assert row["rule_id"].startswith("decode.")
    assert row["preview"] is None
    assert "SHA" not in row["object_name"]


def test_a_booking_of_an_unknown_venue_is_quarantined(sources):
    ingest_and_trust("venue.register")
    report = ingest("venue.booking")
    sent = sources.truth("dirt")["venue.booking"]["bad_rows"]["unknown_venue"]
    assert sent >= 1
    assert report.batches[0].quarantined_by_rule["venue.booking.venue_id.reference"] == sent
    assert report.batches[0].rules_examined["venue.booking.venue_id.reference"] == report.decoded


def test_a_reference_without_checked_data_stops_the_line(sources):
    ingest("venue.register")  # not checked
    with pytest.raises(TiyuError, match="TIYU-ING-0005"):
        ingest("venue.booking")
    assert [alert["rule_code"] for alert in ledger.alerts("open")] == ["IN-02"]
    ingest_and_trust("venue.register")
    ledger.set_checked_version("ods_venue__register", tables.version("ods_venue__register"), "test")
    report = ingest("venue.booking")
    assert report.recovered_batches == 1, "the archived batch is used, nothing is fetched twice"
    assert ledger.alerts("open") == []


def test_the_same_key_with_other_content_is_a_conflict(city, drop):
    path = copy_one(city, drop, "venue/register/*.csv")
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if decodable(line)]
    header = lines[0].decode("gb18030").strip().split(",")
    capacity, uscc, area = (header.index(name) for name in ("核定容量", "运营单位统一社会信用代码", "面积"))
    rows = [line.split(b",") for line in lines[1:]]
    operators = Counter(fields[uscc] for fields in rows)
    # a sound row: its operator occurs more than once (a corrupted code is unique), numbers are numbers
    fields = next(f for f in rows if operators[f[uscc]] > 1 and f[capacity].isdigit() and float(f[area]) > 0)
    row = b",".join(fields)
    fields[capacity] = b"77"
    path.write_bytes(lines[0] + row + b",".join(fields))
    report = ingest("venue.register")
    assert report.batches[0].quarantined_by_rule == {"venue.register.dedup.conflict": 1}
    assert (report.accepted, report.duplicate) == (1, 0)


def test_small_batches_give_the_same_rows(sources, monkeypatch, tmp_path):
    ingest("venue.register")
    whole = snapshot()["ods_venue__register"].drop("_batch_id")
    monkeypatch.setenv("TIYU_HOME", str(tmp_path / "small"))
    shutil.copytree(sources_home_keys(tmp_path), tmp_path / "small" / "keys")
    report = ingest("venue.register", max_bytes=1)
    assert len(report.batches) == 3
    parts = snapshot()["ods_venue__register"].drop("_batch_id")
    keys = sorted(whole.columns)
    assert parts.sort(keys).equals(whole.sort(keys))


def test_device_files_fill_batches_of_their_own_size(sources, monkeypatch, tmp_path):
    """Where the operator says nothing a batch holds what its decoder can unfold in memory; the rows are the same."""
    names = ["ods_training__activity", "ods_training__activity_session", "ods_training__activity_lap"]
    names.append("ods_training__activity_sample")
    one = ingest("training.activity")
    whole = snapshot()
    assert len(one.batches) == 1
    assert whole["ods_training__activity_sample"].height > 1000
    monkeypatch.setenv("TIYU_HOME", str(tmp_path / "small"))
    shutil.copytree(sources_home_keys(tmp_path), tmp_path / "small" / "keys")
    monkeypatch.setattr(activity, "BATCH_BYTES", 300_000)
    many = ingest("training.activity")
    assert len(many.batches) >= 3
    assert (one.decoded, one.accepted, one.quarantined, one.duplicate) == (
        many.decoded, many.accepted, many.quarantined, many.duplicate,
    )  # fmt: skip
    parts = snapshot()
    for name in names:
        keys = sorted(set(whole[name].columns) - {"_batch_id"})
        assert parts[name].select(keys).sort(keys).equals(whole[name].select(keys).sort(keys))
        days = {
            day
            for version in range(tables.version(name) + 1)
            for day in tables.touched_dates(name, version - 1, version) or ()
        }
        assert days == set(parts[name]["part_date"])
    assert decoders.batch_bytes("activity") == 300_000 < decoders.batch_bytes("csv")


def test_contract_version_is_part_of_the_batch_identity():
    objects = ["a" * 64, "b" * 64]
    one = ingestion_run.batch_identity("venue.register", "1.0.0", objects)
    assert one == ingestion_run.batch_identity("venue.register", "1.0.0", objects)
    assert one != ingestion_run.batch_identity("venue.register", "1.1.0", objects)
    assert one != ingestion_run.batch_identity("venue.register", "1.0.0", objects[::-1])
    assert contracts.load("venue.register").version


def test_an_object_nobody_can_read_does_not_block_its_source_for_ever(city, drop, monkeypatch):
    """An unforeseen crash while reading one object: coded error, then that object alone is refused."""
    copy_one(city, drop, "venue/register/*.csv")
    bad = drop / "venue" / "register" / "场馆登记_20990101.csv"
    bad.write_bytes("登记日期\n毒\n".encode("gb18030"))
    real = pipeline.decoders.decode_many

    def crashing(options, objects, contract, **more):
        objects = list(objects)
        if any(data == bad.read_bytes() for _, _, data in objects):
            raise RuntimeError("19900000001")
        return real(options, objects, contract, **more)

    monkeypatch.setattr(pipeline.decoders, "decode_many", crashing)
    for attempt in (1, 2):
        with pytest.raises(TiyuError, match="TIYU-ING-0007") as failed:
            ingest("venue.register")
        assert "19900000001" not in str(failed.value)
        assert f"attempt={attempt}" in str(failed.value)
    report = ingest("venue.register")
    assert [refusal.code for refusal in report.refusals] == ["TIYU-ING-0008"]
    assert report.accepted > 50
    assert report.decoded == report.accepted + report.quarantined + report.duplicate
    assert ledger.batches("venue.register")[0]["status"] == "partial"
