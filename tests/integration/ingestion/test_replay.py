"""Replaying the quarantine: what may pass by now is stored once, the books hold, nothing is forgotten."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import city as city_module
import openpyxl
import polars as pl
import pytest
from city import ingest_and_trust
from typer.testing import CliRunner

from ingestion import replay as module
from ingestion.refused import refused
from ingestion.replay import replay, withdraw
from ingestion.run import ingest
from lake import ledger, tables
from lake.errors import TiyuError
from quality import gate, quarantine
from quality.reconcile import reconcile

pytestmark = pytest.mark.integration

BOOKING, REGISTER, FILING = "venue.booking", "venue.register", "event.filing"
UNKNOWN = "venue.booking.venue_id.reference"


def stored(table: str) -> pl.DataFrame:
    return pl.scan_delta(tables.path(table)).collect()


def counts(resource: str) -> tuple[int, int, int, int]:
    rows = ledger.batches(resource)
    return tuple(
        sum(row[f"{name}_count"] for row in rows) for name in ("decoded", "accepted", "quarantined", "duplicate")
    )


@pytest.fixture(scope="module")
def late_home(city, tmp_path_factory):
    """Bookings came in while one venue was not registered yet; now it is. Built once."""
    root = tmp_path_factory.mktemp("late") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("TIYU_HOME", str(root))
        patch.setenv("TIYU_TODAY", "2026-11-20")
        patch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")
        from protection import keys

        keys.ensure()
        with city_module.connected(city, patch):
            ingest_and_trust(REGISTER)
            table = "ods_venue__register"
            whole = tables.version(table)
            rows = stored(table)
            tables.delete(
                table, f"venue_id = '{rows['venue_id'].min()}'", part_dates=rows["part_date"].unique().to_list()
            )
            ledger.set_checked_version(table, tables.version(table), "test")
            ingest(BOOKING)
            tables.open_table(table).restore(whole)
            ledger.set_checked_version(table, tables.version(table), "test")
        ledger.disconnect()
    return root, rows["venue_id"].min()


@pytest.fixture
def late_register(home, late_home):
    """A private copy; gives the venue."""
    shutil.rmtree(home)
    shutil.copytree(late_home[0], home)
    return late_home[1]


def books() -> None:
    report = reconcile(BOOKING)
    assert report.ok, report.problems


def test_bookings_of_a_venue_registered_by_now_are_accepted_once(late_register, city):
    truth = city.truth("counts")[BOOKING]
    before = counts(BOOKING)
    rows = quarantine_rows()
    report = replay(BOOKING)
    assert report.accepted == truth["distinct_true_records"] - before[1] > 0
    assert report.duplicate == truth["duplicate_records"] - before[3]
    assert report.still_refused == truth["bad_records"]
    assert counts(BOOKING) == (
        truth["records_sent"],
        truth["distinct_true_records"],
        truth["bad_records"],
        truth["duplicate_records"],
    )
    assert stored("ods_venue__booking").height == truth["distinct_true_records"]
    assert late_register in stored("ods_venue__booking")["venue_id"].to_list()
    assert report.part_dates
    assert quarantine_rows() == rows, "the quarantine rows stay"
    books()
    versions = tables.version("ods_venue__booking")
    again = replay(BOOKING)
    assert (again.accepted, again.duplicate, again.still_refused) == (0, 0, truth["bad_records"])
    assert tables.version("ods_venue__booking") == versions
    groups, records = refused(BOOKING)
    assert sum(group.records for group in groups) == truth["bad_records"]
    assert records
    gate.run_gate(["ods_venue__booking"])


def test_two_replays_at_once_bring_everything_back_once(late_register, city):
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(replay, [BOOKING, BOOKING]))
    truth = city.truth("counts")[BOOKING]
    assert sorted(report.accepted > 0 for report in reports) == [False, True]
    assert stored("ods_venue__booking").height == truth["distinct_true_records"]
    books()


def quarantine_rows() -> int:
    return stored(quarantine.TABLE).height


@pytest.mark.parametrize("step", ["write_rows", "record_replay"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_replay_killed_at_any_step_ends_in_the_same_tables(late_register, city, monkeypatch, step, after):
    owner = module.pipeline if step == "write_rows" else ledger
    real = getattr(owner, step)

    def dying(*args, **kwargs):
        if after:
            real(*args, **kwargs)
        raise KeyboardInterrupt(step)

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, dying)
        with pytest.raises(KeyboardInterrupt):
            replay(BOOKING)
    replay(BOOKING)
    truth = city.truth("counts")[BOOKING]
    assert stored("ods_venue__booking").height == truth["distinct_true_records"] == counts(BOOKING)[1]
    books()


def test_a_withdrawn_batch_comes_back_only_by_name_and_can_be_withdrawn_again(late_register, city):
    truth = city.truth("counts")[BOOKING]
    replay(BOOKING)
    batch = ledger.batches(BOOKING)[0]["batch_id"]
    for _ in range(2):
        deleted = withdraw(BOOKING, [batch], "来源通知数据有误")
        assert deleted["ods_venue__booking"] == truth["distinct_true_records"]
        books()
        left = replay(BOOKING)
        assert left.examined == 0
        assert left.left_withdrawn > 0
        assert {group.withdrawn for group in refused(BOOKING)[0]} == {True}
        back = replay(BOOKING, [batch])
        assert back.accepted == truth["distinct_true_records"]
        assert counts(BOOKING)[1:] == (
            truth["distinct_true_records"], truth["bad_records"], truth["duplicate_records"],
        )  # fmt: skip
        assert stored("ods_venue__booking").height == truth["distinct_true_records"]
        books()


def test_device_files_come_back_with_all_their_tables(sources):
    names = [f"ods_training__activity{suffix}" for suffix in ("", "_session", "_lap", "_sample")]
    ingest("training.activity")
    before = {name: stored(name).drop("_ingested_at") for name in names}
    batch = ledger.batches("training.activity")[0]["batch_id"]
    withdraw("training.activity", [batch], "试验")
    assert stored(names[0]).height == 0
    replay("training.activity", [batch])
    for name, frame in before.items():
        keys = [
            "_source_object",
            "_record_no",
            *[c for c in ("session_no", "lap_no", "sample_no") if c in frame.columns],
        ]
        now = stored(name).drop("_ingested_at").select(frame.columns)
        assert now.sort(keys).equals(frame.sort(keys)), name
    report = reconcile("training.activity")
    assert report.ok, report.problems


@pytest.fixture
def refused_workbook(city, home, tmp_path, monkeypatch):
    """A filing workbook whose column name the contract did not know: refused as a whole."""
    from catalog import contracts

    drop = tmp_path / "drop"
    source = sorted((city.folder / "drops").glob("event/filing/*.xlsx"))[0]
    target = drop / source.relative_to(city.folder / "drops")
    target.parent.mkdir(parents=True)
    shutil.copy(source, target)
    book = openpyxl.load_workbook(target)
    sheet = book["赛事填报"]
    header = [cell.value for cell in sheet[2]]
    cell = sheet.cell(2, header.index("开始日期") + 1)
    cell.value = "起始日期"
    book.save(target)
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{drop}")
    register = city.folder / "drops" / "venue" / "register"
    shutil.copytree(register, drop / "venue" / "register")
    ingest_and_trust(REGISTER)
    report = ingest(FILING)
    assert [item.code for item in report.refusals] == ["TIYU-ING-0210"]

    def mend():
        real = contracts.load_all("source")[FILING]
        root = real.root
        properties = [
            prop.model_copy(update={"source_name": "起始日期"}) if prop.source_name == "开始日期" else prop
            for prop in root.properties
        ]
        return real.model_copy(update={"objects": [root.model_copy(update={"properties": properties})]})

    return mend


def test_a_refused_file_is_read_anew_after_the_contract_was_mended(refused_workbook, monkeypatch):
    first = replay(FILING)
    assert (first.accepted, first.still_refused) == (0, 1)
    mended = refused_workbook()
    monkeypatch.setattr(module.sources, "contract_of", lambda resource: mended)
    report = replay(FILING)
    assert report.accepted > 0
    (batch,) = ledger.batches(FILING)
    assert batch["decoded_count"] == report.accepted + report.duplicate + report.still_refused > 1
    assert batch["status"] in ("accepted", "partial")
    assert batch["first_part_date"] is not None
    assert stored("ods_event__filing").height == report.accepted
    assert "IN-01" not in {alert["rule_code"] for alert in ledger.alerts("open")}
    result = reconcile(FILING)
    assert result.ok, result.problems
    withdraw(FILING, [batch["batch_id"]], "试验")
    result = reconcile(FILING)
    assert result.ok, result.problems
    assert replay(FILING, [batch["batch_id"]]).accepted == report.accepted
    result = reconcile(FILING)
    assert result.ok, result.problems


def test_times_are_judged_by_when_the_batch_came_in(sources, monkeypatch):
    """A reading said to be of the future does not become true by waiting."""
    ingest_and_trust(REGISTER)
    ingest("supervision.water_reading")
    waiting = counts("supervision.water_reading")[2]
    assert waiting > 0
    monkeypatch.setenv("TIYU_TODAY", "2030-01-01")
    monkeypatch.setenv("TIYU_AS_OF", "2030-01-01T12:00:00+08:00")
    report = replay("supervision.water_reading")
    assert (report.examined, report.accepted) == (waiting, 0)


def test_unknown_batches_and_resources_are_refused(sources):
    ingest_and_trust(REGISTER)
    with pytest.raises(TiyuError, match="TIYU-ING-0001"):
        replay("no.such")
    with pytest.raises(TiyuError, match="TIYU-ING-0010"):
        replay(REGISTER, ["b_unknown"])
    with pytest.raises(TiyuError, match="TIYU-ING-0010"):
        withdraw(BOOKING, [ledger.batches(REGISTER)[0]["batch_id"]], "别的资源的批次")


def test_the_commands(late_register):
    import typer

    from cli import quarantine as command

    app = typer.Typer()
    command.register(app)
    runner = CliRunner()
    shown = runner.invoke(app, ["quarantine", "list", "--json"])
    data = json.loads(shown.stdout)
    assert UNKNOWN in {rule["rule_id"] for rule in data["rules"]}
    assert runner.invoke(app, ["quarantine", "list"]).exit_code == 0
    result = json.loads(runner.invoke(app, ["quarantine", "replay", BOOKING, "--json"]).stdout)
    assert result["accepted"] > 0
    text = runner.invoke(app, ["quarantine", "replay", BOOKING]).output
    assert "入库 0" in text
    batch = ledger.batches(BOOKING)[0]["batch_id"]
    gone = runner.invoke(app, ["quarantine", "withdraw", BOOKING, batch, "--reason", "试验"])
    assert "tiyu gate venue.booking" in gone.output
