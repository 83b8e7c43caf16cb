"""The same activity in several files: one stays, the richest, in whatever order and batches they come."""

from __future__ import annotations

import shutil

import polars as pl
import pytest

from ingestion.fate import ask
from ingestion.run import ingest
from lake import ledger, tables
from quality import row_events
from quality.gate import withdraw_batches
from quality.reconcile import reconcile
from tests.unit.ingestion_decoders import tracks

pytestmark = pytest.mark.integration
RESOURCE = "training.activity"
NAMES = [f"ods_training__{name}" for name in ("activity", "activity_session", "activity_lap", "activity_sample")]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return tracks.variants(1_788_000_300)


OWN = ("_batch_id", "_ingested_at", "_source_object", "_record_no")


@pytest.fixture
def drop(home, tmp_path, monkeypatch):
    folder = tmp_path / "drop"
    (folder / "training" / "activity" / "SHA000001").mkdir(parents=True)
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{folder}")
    return folder / "training" / "activity" / "SHA000001"


def content() -> dict[str, pl.DataFrame]:
    """The tables without what tells by which batch and file they came."""
    found = {}
    for name in NAMES:
        frame = pl.scan_delta(tables.path(name)).collect().drop(OWN)
        found[name] = frame.sort(frame.columns, nulls_last=True)
    return found


def test_poorer_first_richer_later_and_the_other_way_round_end_the_same(files, home, drop, tmp_path, monkeypatch):
    ended = []
    for folder, order in (("one", ("cut.fit", "watch.gpx", "watch.tcx", "watch.fit")), ("two", None)):
        monkeypatch.setenv("TIYU_HOME", str(tmp_path / folder))
        shutil.copytree(home / "keys", tmp_path / folder / "keys")
        for old in drop.iterdir():
            old.unlink()
        for name in order or ("watch.fit", "watch.tcx", "watch.gpx", "cut.fit"):
            (drop / name).write_bytes(files[name])
            ingest(RESOURCE)
        batches = ledger.batches(RESOURCE)
        # a replaced record was accepted when it came
        assert [b["accepted_count"] for b in batches] == ([1, 1, 1, 1] if order else [1, 0, 0, 0])
        assert sum(b["decoded_count"] for b in batches) == 5, "the cut file is a record and its damage another"
        assert [b["duplicate_count"] for b in batches] == ([0, 0, 0, 0] if order else [0, 1, 1, 1])
        report = reconcile(RESOURCE)
        assert report.ok, report.problems
        ended.append(content())
    for name in NAMES:
        assert ended[0][name].equals(ended[1][name]), name
    (root,) = ended[0][NAMES[0]].to_dicts()
    assert (root["file_format"], root["is_partial"], root["sample_count"]) == ("fit", False, 160)


@pytest.mark.parametrize("step", ["row_events.append", "tables.append", "tables.change_rows", "ledger.finish_batch"])
def test_an_interrupted_replacement_is_finished_and_counted_once(files, drop, monkeypatch, step):
    (drop / "watch.gpx").write_bytes(files["watch.gpx"])
    ingest(RESOURCE)
    (drop / "watch.fit").write_bytes(files["watch.fit"])
    owner, name = step.split(".")
    with monkeypatch.context() as patch:

        def fail(*_args, **_kwargs):
            raise RuntimeError("the power went")

        patch.setattr({"row_events": row_events, "tables": tables, "ledger": ledger}[owner], name, fail)
        with pytest.raises(Exception, match="TIYU-ING-0007"):
            ingest(RESOURCE)
    ingest(RESOURCE)
    report = reconcile(RESOURCE)
    assert report.ok, report.problems
    assert [(b["accepted_count"], b["duplicate_count"]) for b in ledger.batches(RESOURCE)] == [(1, 0), (1, 0)]
    assert row_events.replaced_now(RESOURCE).height == 1
    (root,) = content()[NAMES[0]].to_dicts()
    assert root["file_format"] == "fit"
    assert content()[NAMES[3]].height == 160


def test_a_replaced_activity_comes_back_whole_when_what_replaced_it_is_withdrawn(files, drop):
    (drop / "watch.tcx").write_bytes(files["watch.tcx"])
    ingest(RESOURCE)
    before = content()
    (drop / "watch.fit").write_bytes(files["watch.fit"])
    ingest(RESOURCE)
    first, second = ledger.batches(RESOURCE)
    (event,) = row_events.of("replaced").to_dicts()
    assert (event["batch_id"], event["record_no"], event["by_batch_id"]) == (first["batch_id"], 1, second["batch_id"])
    withdraw_batches(RESOURCE, [second["batch_id"]], "试验")
    report = reconcile(RESOURCE)
    assert report.ok, report.problems
    after = content()
    for name in NAMES:
        assert after[name].equals(before[name]), name


def test_each_file_of_one_activity_is_told_what_became_of_it(files, home, drop):
    for name in ("watch.gpx", "watch.fit", "watch.tcx", "cut.fit"):
        (drop / name).write_bytes(files[name])
        ingest(RESOURCE)
    gpx, fit, tcx, cut = (ledger.objects(batch["batch_id"])[0]["sha256"] for batch in ledger.batches(RESOURCE))
    told = {sha: [ask([f"{sha}#{number}"]).fates[0] for number in numbers] for sha, numbers in ((gpx, (1,)), (fit, (1,)), (tcx, (1,)), (cut, (1, 2)))}  # fmt: skip
    assert [fate.state for fate in told[fit]] == ["accepted"]
    assert [fate.state for fate in told[gpx]] == ["replaced"]
    assert told[gpx][0].other.object == fit
    assert [fate.state for fate in told[tcx]] == ["duplicate"]
    assert told[tcx][0].other.object == fit, told[tcx][0].reason
    assert sorted(fate.state for fate in told[cut]) == ["duplicate", "quarantined"]
    assert {fate.rule_id for fate in told[cut] if fate.state == "quarantined"} == {"decode.damaged_file"}
