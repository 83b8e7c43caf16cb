"""An old ledger is brought up to date with its rows; a newer one is refused; a column without a migration is noticed."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from lake import ledger, migrations
from lake.errors import TiyuError
from lake.migrations import Migration, add_column

OLD = Path(__file__).with_name("ledger_0.sql").read_text("utf-8")


def shape(url: str) -> dict[str, dict[str, str]]:
    """Columns with their types, per table."""
    engine = sa.create_engine(url)
    try:
        inspector = sa.inspect(engine)
        return {
            table: {column["name"]: str(column["type"]) for column in inspector.get_columns(table)}
            for table in inspector.get_table_names()
        }
    finally:
        engine.dispose()


@pytest.fixture
def old(home):
    """A ledger from before schemas had numbers, with one batch in it."""
    home.mkdir(exist_ok=True)
    file = home / "ledger.db"
    con = sqlite3.connect(file)
    con.executescript(OLD)
    con.execute(
        "INSERT INTO batch (batch_id, resource, contract_version, run_id, status, object_count, decoded_count, accepted_count,"
        " quarantined_count, duplicate_count, failures, started_at) VALUES ('b_1','venue.register','1.0.0','r','accepted',0,0,0,0,0,0,"
        " '2026-11-01 00:00:00')"
    )
    con.commit()
    con.close()
    return file


def test_an_old_ledger_gains_what_is_new_and_keeps_its_rows(old, tmp_path):
    assert "supersedes" not in shape(f"sqlite:///{old}")["batch"]
    assert [row["batch_id"] for row in ledger.batches()] == ["b_1"]
    assert ledger.batches()[0]["supersedes"] is None
    fresh = f"sqlite:///{tmp_path / 'fresh.db'}"
    migrations.migrate(sa.create_engine(fresh), ledger.metadata)
    # Fails for a column that was declared without a migration: the old ledger would not have it.
    assert shape(f"sqlite:///{old}") == shape(fresh)
    assert len(shape(fresh)) >= 15


def test_a_column_without_a_migration_is_noticed(old, tmp_path):
    changed = sa.MetaData()
    for table in ledger.metadata.tables.values():
        table.to_metadata(changed)
    changed.tables["batch"].append_column(sa.Column("forgotten", sa.String))
    urls = [f"sqlite:///{old}", f"sqlite:///{tmp_path / 'fresh.db'}"]
    for url in urls:
        migrations.migrate(sa.create_engine(url), changed)
    assert shape(urls[0]) != shape(urls[1])


def test_migrations_run_once_in_order_and_are_numbered(old, monkeypatch):
    url = f"sqlite:///{old}"
    ledger.batches()
    ran: list[str] = []
    later = (
        *migrations.MIGRATIONS,
        Migration("second", lambda connection: ran.append("second")),
        Migration("third", add_column("batch", sa.Column("third", sa.Integer))),
    )
    monkeypatch.setattr(migrations, "MIGRATIONS", later)
    for _ in range(2):
        assert migrations.migrate(sa.create_engine(url), ledger.metadata) == len(later)
    assert ran == ["second"]
    con = sqlite3.connect(old)
    assert con.execute("SELECT version, note FROM ledger_schema ORDER BY version").fetchall() == [
        (number, entry.note) for number, entry in enumerate(later, 1)
    ]
    assert con.execute("SELECT third FROM batch").fetchall() == [(None,)]


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(old, monkeypatch):
    def fails(connection):
        raise RuntimeError("no")

    before = shape(f"sqlite:///{old}")
    steps = (Migration("first", add_column("batch", sa.Column("x", sa.String))), Migration("second", fails))
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    with pytest.raises(RuntimeError):
        migrations.migrate(sa.create_engine(f"sqlite:///{old}"), ledger.metadata)
    assert shape(f"sqlite:///{old}") == before


def test_a_ledger_of_newer_code_is_refused_with_a_code(home, monkeypatch):
    ledger.batches()
    ledger.disconnect()
    con = sqlite3.connect(home / "ledger.db")
    con.execute("INSERT INTO ledger_schema VALUES (99, 'of tomorrow', 'x')")
    con.commit()
    con.close()
    with pytest.raises(TiyuError, match="TIYU-LED-0002") as caught:
        ledger.batches()
    assert caught.value.context == {"ledger": 99, "program": len(migrations.MIGRATIONS)}
    assert caught.value.exit_code == 3


def _open(url: str) -> int:
    return migrations.migrate(sa.create_engine(url, connect_args={"timeout": 60}), ledger.metadata)


def test_two_processes_may_open_an_old_ledger_at_once(old):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_open, [f"sqlite:///{old}"] * 6) == [len(migrations.MIGRATIONS)] * 6
    con = sqlite3.connect(old)
    assert con.execute("SELECT count(*) FROM ledger_schema").fetchone() == (len(migrations.MIGRATIONS),)
