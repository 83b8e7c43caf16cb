"""What breaks around the platform: a full disk, a read-only lake, a damaged archive object, a broken ledger. Each is named
with its code and remedy, and after the remedy the tables are those of an undisturbed run. The whole way: tests/faults."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from city import ingest_and_trust

from ingestion import archive, pipeline
from ingestion.backfill import backfill
from ingestion.replay import replay
from ingestion.run import ingest
from lake import ledger, tables
from lake.backup import backup, restore
from lake.clock import today
from lake.errors import TiyuError
from lake.settings import settings
from quality.reconcile import reconcile
from tests.faults import disk

pytestmark = pytest.mark.integration

RESOURCE, TABLE = "supervision.water_reading", "ods_supervision__water_reading"


def rows() -> list[int]:
    """The readings, whatever batch or run brought them."""
    frame = pl.scan_delta(tables.path(TABLE)).collect().drop("_batch_id", "_ingested_at")
    return sorted(frame.select(sorted(frame.columns)).hash_rows(seed=1).to_list())


@pytest.fixture
def undisturbed(sources, home, tmp_path, monkeypatch) -> list[int]:
    """The rows of a run nothing happened to, made in a home with the same keys."""
    other = tmp_path / "undisturbed"
    shutil.copytree(home / "keys", other / "keys")
    with monkeypatch.context() as patch:
        patch.setenv("TIYU_HOME", str(other))
        ingest_and_trust("venue.register")
        assert ingest(RESOURCE).accepted > 100
        found = rows()
        ledger.disconnect()
    return found


# ------------------------------------------------------------------ full and read-only
@pytest.mark.skipif(disk.possible() is not None, reason=f"cannot mount here: {disk.possible()}")
def test_a_full_disk_and_a_read_only_lake_are_named_and_nothing_is_lost_or_doubled(undisturbed, home):
    ingest_and_trust("venue.register")
    ledger.disconnect()
    attempts = disk.run(
        home, dict(os.environ), [("ingestion.run:ingest", {"resource": RESOURCE})], levels=(0, 256), read_only="lake"
    )
    failed = [item for item in attempts if item.state.endswith("free")]
    assert [item.state for item in attempts] == ["0 KiB free", "256 KiB free", "read only", "repaired"]
    for item in failed:
        assert (item.exit_code, item.said[:14]) == (3, "TIYU-DISK-0001"), item
        assert "处理办法" in item.said
    assert (attempts[-2].exit_code, attempts[-2].said[:14]) == (3, "TIYU-DISK-0002"), attempts[-2]
    assert attempts[-1].exit_code == 0, attempts[-1]
    assert rows() == undisturbed
    balance = reconcile()
    assert balance.ok, balance.problems
    assert ledger.batches(RESOURCE)[0]["failures"] == 0, "the disk's fault must not count against the batch"


# ------------------------------------------------------------------ archive
def killed_before_processing(monkeypatch) -> Path:
    """A batch that is archived and not yet processed; returns the path of one of its objects."""
    ingest_and_trust("venue.register")

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "process", die)
        with pytest.raises(Killed):
            ingest(RESOURCE)
    batch = ledger.batches(RESOURCE, "archived")[0]
    entry = max(ledger.objects(batch["batch_id"]), key=lambda item: item["size"])
    return archive.object_path(RESOURCE, entry["sha256"])


@pytest.mark.parametrize("remedy", ["backup", "source"])
def test_a_damaged_object_stops_only_itself_and_comes_back_after_the_remedy(undisturbed, monkeypatch, remedy):
    path = killed_before_processing(monkeypatch)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])

    report = ingest(RESOURCE)
    assert report.interrupted_runs == 1
    assert [(refusal.sha256, refusal.code) for refusal in report.refusals] == [(path.stem, "TIYU-ARC-0002")]
    message = report.refusals[0].message
    assert path.stem in message, "the message says which object"
    assert "tiyu backfill" in message
    assert "tiyu quarantine replay" in message
    assert report.accepted > 0, "the other objects go on"
    assert set(rows()) < set(undisturbed)
    assert reconcile().ok
    assert replay(RESOURCE).accepted == 0, "without the remedy a replay changes nothing"
    assert set(rows()) < set(undisturbed)

    if remedy == "backup":
        path.write_bytes(whole)
    else:
        backfill(RESOURCE, today().replace(month=1, day=1), today())
        assert path.with_suffix(".damaged").exists(), "what was damaged is kept beside"
    assert replay(RESOURCE).accepted > 0
    assert rows() == undisturbed
    balance = reconcile()
    assert balance.ok, balance.problems


def test_a_missing_object_is_refused_and_a_missing_archive_stops_everything(sources, monkeypatch):
    path = killed_before_processing(monkeypatch)
    aside = settings().home / "elsewhere"
    settings().archive_root.rename(aside)
    with pytest.raises(TiyuError) as raised:
        ingest(RESOURCE)
    assert raised.value.code == "TIYU-ARC-0004", "a disk that is not mounted is no reason to refuse every object"
    assert ledger.batches(RESOURCE, "archived"), "nothing was decided"
    shutil.rmtree(settings().archive_root, ignore_errors=True)
    aside.rename(settings().archive_root)
    path.unlink()
    assert [refusal.code for refusal in ingest(RESOURCE).refusals] == ["TIYU-ARC-0001"]


# ------------------------------------------------------------------ ledger
@pytest.mark.parametrize("how", ["truncated", "garbage", "zero bytes", "deleted"])
def test_a_broken_ledger_is_named_and_a_backup_brings_it_back(sources, home, tmp_path, how):
    ingest_and_trust("venue.register")
    before = ledger.batches()
    backup(tmp_path / "backup")
    ledger.disconnect()
    file = home / "ledger.db"
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    content = file.read_bytes()
    damaged = {"truncated": content[: len(content) // 2], "garbage": b"\x5a" * 65536, "zero bytes": b""}
    file.unlink()
    if how in damaged:
        file.write_bytes(damaged[how])
    with pytest.raises(TiyuError) as raised:
        ingest("venue.register")
    assert raised.value.code == ("TIYU-LED-0003" if how in ("truncated", "garbage") else "TIYU-LED-0005")
    assert "tiyu restore" in raised.value.hint_zh
    ledger.disconnect()
    restore(tmp_path / "backup", force=True)
    assert ledger.batches() == before
    report = ingest("venue.register")
    assert report.status == "nothing_new"
    assert reconcile("venue.register").ok
