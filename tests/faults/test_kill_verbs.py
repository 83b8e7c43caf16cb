"""SIGKILL of the process group at chosen instants of ingest, layers, serving, delivery and publication; then run again.

The instants are states of the disk, not times: they are met whatever the machine's speed. One state folder is disturbed all the way
through, so that the damage of an early kill would also show in everything built on it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.conftest import Reference
from tests.faults.support import (
    DISTURBED,
    Home,
    ads_tables,
    bring_in,
    commits,
    contents,
    data_files,
    delivered,
    differences,
    root_table,
    serving,
)

pytestmark = pytest.mark.faults


def disturbed_ingest(home: Home, resource: str) -> None:
    """Kill after the first archived object, at the first uncommitted file, after the first commit; then run to the end."""
    table, archive = home.table(root_table(resource)), home.path / "archive"
    files = sum(1 for path in archive.rglob("*") if path.is_file()) if archive.exists() else 0
    points = [
        (
            "first object archived",
            lambda: archive.exists() and sum(1 for p in archive.rglob("*") if p.is_file()) > files,
        ),
        ("data file written, not committed", lambda: data_files(table) > 0 and commits(table) <= 1),
        ("committed, ledger not yet told", lambda: commits(table) >= 2),
    ]
    for title, condition in points:
        home.kill_when(f"{resource}: {title}", condition, "ingestion.run:ingest", resource=resource)
    home.run("ingestion.run:ingest", resource=resource)


def disturbed_layer(home: Home, layer: str, prefixes: tuple[str, ...]) -> None:
    """Kill after the first, the third and the last-but-one commit of a layer's tables; then run to the end."""

    def done() -> int:
        folders = [path for prefix in prefixes for path in (home.path / "lake" / prefix).glob("*") if path.is_dir()]
        return sum(commits(folder) for folder in folders)

    before = done()
    for further in (1, 3, 4):
        home.kill_when(
            f"{layer}: {further} commits", lambda f=further: done() >= before + f, "modeling.run:build", layer=layer
        )
    home.run("modeling.run:build", layer=layer)


def test_killed_anywhere_then_run_again_equals_an_undisturbed_run(reference: Reference) -> None:
    home = reference.new_home("killed")
    for resource in bring_in(home, DISTURBED):
        disturbed_ingest(home, resource)
        name = root_table(resource)
        home.kill_when(
            f"{resource}: gate",
            lambda: any(home.path.glob("tmp/gate-*")),
            "quality.gate:run_gate",
            names=[name],
        )
        home.run("quality.gate:run_gate", names=[name])
    reconciled = home.run("quality.reconcile:reconcile")
    assert reconciled
    home.run("catalog.publish:publish_reference")
    home.run("quality.ops:publish_ops")
    disturbed_layer(home, "dwd", ("dim", "dwd"))
    disturbed_layer(home, "dws", ("dws",))
    disturbed_layer(home, "ads", ("ads",))
    home.run("quality.gate:run_gate", names=ads_tables(home))

    serving_root, outbox = home.path / "serving", home.path / "exchange"
    home.kill_when("serving: file written aside", lambda: _any(serving_root, ".*.tmp*"), "dags.verbs:publish_serving")
    home.kill_when(
        "serving: first file swapped in",
        lambda: _any(serving_root, "*.duckdb"),
        "dags.verbs:publish_serving",
    )
    home.run("dags.verbs:publish_serving")
    home.kill_when("exchange: written aside", lambda: _any(outbox / ".aside", "*"), "sharing.exchange.run:run_exchange")
    home.kill_when(
        "exchange: first delivery moved in", lambda: _any(outbox / "outbox", "*/*"), "sharing.exchange.run:run_exchange"
    )
    home.run("sharing.exchange.run:run_exchange")
    home.kill_when(
        "open data: first file", lambda: _any(home.path / "open", "**/*.csv"), "sharing.open_data.build:build_open_data"
    )
    home.run("sharing.open_data.build:build_open_data")

    found = contents(home)
    assert len(found) >= 35, "the comparison must have looked at all tables"
    assert all(value is not None for value in found.values()), "a table is not visible"
    assert differences(reference.tables, found) == []
    files = serving(home)
    assert len(files) >= 20
    assert differences(reference.serving, files) == []
    shared = delivered(home)
    assert len(shared) >= 4
    assert differences(reference.delivered, shared) == []
    # the kills really happened, in every part of the way
    assert len(home.kills) >= 20, home.kills
    for part in ("ingest", "gate", "dwd", "dws", "ads", "serving", "exchange"):
        wanted = part if part != "ingest" else "first object archived"
        assert any(wanted in point for point in home.kills), f"{part}: {home.kills}"


def _any(folder: Path, pattern: str) -> bool:
    return folder.exists() and any(folder.glob(pattern))


def test_the_comparison_sees_a_difference(reference: Reference) -> None:
    """A check that cannot fail proves nothing: change one row and one digest must differ."""
    changed = dict(reference.tables)
    name = next(iter(changed))
    changed[name] = [0, "other", []]
    assert differences(reference.tables, changed) == [name]
    missing = dict(reference.tables)
    del missing[name]
    assert differences(reference.tables, missing) == [name]
