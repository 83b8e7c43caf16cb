"""A full disk and a read-only lake over the whole way, a damaged archive object and a broken ledger; then the remedy, then
the tables, serving files, deliveries and open data of an undisturbed run."""

from __future__ import annotations

import pytest

from tests.faults import disk
from tests.faults.conftest import Reference, Results
from tests.faults.support import Home, ads_tables, bring_in, contents, delivered, differences, root_table, serving

pytestmark = pytest.mark.faults

IN_NEED = ("venue.booking", "training.activity")
"""Sources that meet a full disk: one interface, one with child tables."""
REMEDY = "free the space or mount it writable again, run the same command"


def is_undisturbed(reference: Reference, home: Home) -> None:
    found = contents(home)
    assert len(found) >= 35
    assert differences(reference.tables, found) == []
    assert differences(reference.serving, serving(home)) == []
    assert differences(reference.delivered, delivered(home)) == []
    balance = home.run("quality.reconcile:reconcile")
    assert balance["ok"], balance["problems"]


def to_the_end(home: Home) -> None:
    """The rest of the day once every source is in."""
    home.run("catalog.publish:publish_reference")
    home.run("quality.ops:publish_ops")
    for layer in ("dwd", "dws", "ads"):
        home.run("modeling.run:build", layer=layer)
    home.run("quality.gate:run_gate", names=ads_tables(home))
    home.run("dags.verbs:publish_serving")
    home.run("sharing.exchange.run:run_exchange")
    home.run("sharing.open_data.build:build_open_data")


def judge(attempts: list[disk.Attempt], results: Results) -> None:
    """Every failure coded, at least one failure for want of space and one for want of write permission per verb."""
    by_verb: dict[str, list[disk.Attempt]] = {}
    for item in attempts:
        by_verb.setdefault(item.verb, []).append(item)
    for verb, items in by_verb.items():
        full = [item for item in items if item.state.endswith("free") and item.exit_code]
        assert full, f"{verb} never met a full disk"
        for item in full:
            assert item.said.startswith("TIYU-DISK-0001"), item
            assert "处理办法" in item.said
            assert item.exit_code == 3
        for item in items:
            if item.state == "read only" and item.exit_code:
                assert item.said.startswith("TIYU-DISK-0002"), item
        assert items[-1].exit_code == 0, items[-1]
        results.fault(f"full disk: {verb} ({', '.join(item.state for item in full)})", full[-1].said, REMEDY)
    refused = [item for item in attempts if item.state == "read only" and item.exit_code]
    assert refused, "nothing met a read-only lake"
    for item in refused:
        results.fault(f"read-only lake: {item.verb}", item.said, REMEDY)


@pytest.mark.skipif(disk.possible() is not None, reason=f"cannot mount here: {disk.possible()}")
def test_full_disk_and_read_only_lake_over_the_whole_way(reference: Reference, results: Results) -> None:
    home = reference.new_home("disk")
    attempts: list[disk.Attempt] = []
    levels = (0, 128, 1024)
    for resource in bring_in(home, IN_NEED):
        gate = ("quality.gate:run_gate", {"names": [root_table(resource)]})
        ingest = ("ingestion.run:ingest", {"resource": resource})
        attempts += disk.run(home.path, home.env, [ingest], levels=(0, 128), read_only="lake")
        if resource == IN_NEED[-1]:
            attempts += disk.run(home.path, home.env, [gate], levels=(0,), read_only="lake")
        else:
            home.run(gate[0], **gate[1])
    home.run("catalog.publish:publish_reference")
    home.run("quality.ops:publish_ops")
    builds = [("modeling.run:build", {"layer": layer}) for layer in ("dwd", "dws", "ads")]
    attempts += disk.run(home.path, home.env, builds, levels=(0, 256), read_only="lake")
    home.run("quality.gate:run_gate", names=ads_tables(home))
    shared = [
        "dags.verbs:publish_serving",
        "sharing.exchange.run:run_exchange",
        "sharing.open_data.build:build_open_data",
    ]
    attempts += disk.run(home.path, home.env, [(verb, {}) for verb in shared], levels=levels, read_only="")
    judge(attempts, results)
    is_undisturbed(reference, home)


@pytest.mark.parametrize("how", ["truncated", "deleted"])  # all four: tests/integration/test_damaged_state.py
def test_a_broken_ledger_and_a_backup(reference: Reference, results: Results, how: str) -> None:
    home = reference.new_home(f"ledger-{how.replace(' ', '-')}")
    assert list(bring_in(home)) == []
    copy = home.path.with_name(f"{home.path.name}.backup")
    home.run("lake.backup:backup", target=str(copy))
    file = home.path / "ledger.db"
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    content = file.read_bytes()
    file.unlink()
    if how != "deleted":
        file.write_bytes(
            {"truncated": content[: len(content) // 2], "garbage": b"\x5a" * 65536, "zero bytes": b""}[how]
        )
    said = home.fails("modeling.run:build", layer="dwd")
    assert said.startswith("TIYU-LED-0003" if how in ("truncated", "garbage") else "TIYU-LED-0005"), said
    assert "tiyu restore" in said
    home.run("lake.backup:restore", source=str(copy), force=True)
    to_the_end(home)
    is_undisturbed(reference, home)
    results.fault(f"ledger {how}", said, "tiyu restore BACKUP --force, then the rest of the day")


WATER = "supervision.water_reading"
DIES_BEFORE_DECODING = f"""
import os
from ingestion import pipeline
from ingestion.run import ingest
pipeline.process = lambda *_, **__: os._exit(137)
ingest({WATER!r})
"""
FETCH_AGAIN = f"""
from datetime import timedelta
from ingestion.backfill import backfill
from lake.clock import today
backfill({WATER!r}, today() - timedelta(days=400), today())
"""


def test_a_damaged_archive_object_over_the_whole_way(reference: Reference, results: Results) -> None:
    """Damaged between its arrival and its reading; the source still has it."""
    home = reference.new_home("archive")
    said = ""
    for resource in bring_in(home, (WATER,)):
        archive = home.path / "archive"
        before = set(archive.rglob("*"))
        assert home.code(DIES_BEFORE_DECODING) == 137
        new = [path for path in set(archive.rglob("*")) - before if path.is_file()]
        objects = [path for path in new if path.parent.name != "batches"]  # the list of the batch is no object
        damaged = max(objects, key=lambda path: (path.stat().st_size, path.name))
        whole = damaged.read_bytes()
        middle = len(whole) // 2
        damaged.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        report = home.run("ingestion.run:ingest", resource=resource)
        refusals = [refusal for batch in report["batches"] for refusal in batch["refusals"]]
        assert [refusal["code"] for refusal in refusals] == ["TIYU-ARC-0002"], refusals
        said = refusals[0]["message"]
        assert "tiyu backfill" in said
        assert home.code(FETCH_AGAIN) == 0
        assert home.run("ingestion.replay:replay", resource=resource)["accepted"] > 0
        home.run("quality.gate:run_gate", names=[root_table(resource)])
    to_the_end(home)
    is_undisturbed(reference, home)
    results.fault("archived object damaged", said, "tiyu backfill RESOURCE, tiyu quarantine replay RESOURCE")
