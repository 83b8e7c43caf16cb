"""Delta commits, touched dates, checked versions, ledger and clock."""

import datetime as dt
import threading
from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake.exceptions import CommitFailedError

from lake import clock, ledger, properties, query, tables
from lake.errors import TiyuError

DAY = dt.date(2026, 11, 1)
NAME = "ods_venue__probe"

pytestmark = pytest.mark.usefixtures("home")


def frame(*days: int, value: int = 1) -> pl.DataFrame:
    return pl.DataFrame(
        {"value": [value] * len(days), "part_date": [DAY + dt.timedelta(n) for n in days]},
        schema_overrides={"value": pl.Int64},
    )


def rows(name: str = NAME, version="head") -> list[tuple]:
    con = query.connect()
    query.register(con, name, version, view="probe")
    return sorted(con.execute("select value, part_date from probe").fetchall())


def test_a_batch_is_appended_once():
    first = tables.append(NAME, frame(0, 1), batch_id="b1")
    assert tables.append(NAME, frame(0, 1), batch_id="b1") == first
    assert len(rows()) == 2
    tables.append(NAME, frame(0), batch_id="b2")
    assert len(rows()) == 3
    assert tables.has_batch(NAME, "b1")
    assert not tables.has_batch(NAME, "b3")


def test_a_stream_is_appended_once_and_started_again_for_every_attempt(monkeypatch):
    starts = []

    def batches():
        starts.append(1)
        for day in (0, 1, 1):
            yield from frame(day).to_arrow().to_batches()

    schema = frame(0).to_arrow().schema
    days = [DAY, DAY + dt.timedelta(1)]
    real, failures = tables.write_deltalake, [CommitFailedError("lost the race")]

    def write(table, rows, **options):
        if failures:
            rows.read_all()  # the stream is used up when the race is lost
            raise failures.pop()
        real(table, rows, **options)

    monkeypatch.setattr(tables, "write_deltalake", write)
    version = tables.append_stream(NAME, batches, schema, part_dates=days, batch_id="s1")
    assert len(rows()) == 3
    assert len(starts) == 2
    assert tables.append_stream(NAME, batches, schema, part_dates=days, batch_id="s1") == version
    assert len(rows()) == 3
    assert tables.touched_dates(NAME, version - 1, version) == set(days)


def test_an_older_version_has_its_own_history():
    """What a pinned version was made of must not change when commits follow it."""
    first = tables.append(NAME, frame(0), batch_id="h1")
    tables.append(NAME, frame(1, 2), batch_id="h2")
    last = tables.append(NAME, frame(3), batch_id="h3")
    assert [entry["version"] for entry in tables.history(NAME, 0, last - 1)] == [last - 1, first]
    assert tables.commit_metadata(NAME, first)[tables.BATCH_ID] == "h1"
    assert tables.touched_dates(NAME, first, last - 1) == {DAY + dt.timedelta(1), DAY + dt.timedelta(2)}
    assert tables.touched_dates(NAME, first - 1, first) == {DAY}


def test_long_queries_write_nothing_to_standard_output():
    con = query.connect()
    assert con.execute("select current_setting('enable_progress_bar')").fetchone() == (False,)


def test_racing_writers_of_one_batch_write_it_once():
    tables.append(NAME, frame(9), batch_id="b0")
    failures = []

    def write():
        try:
            tables.append(NAME, frame(0, 1, 2), batch_id="race")
        except Exception as error:  # pragma: no cover - the assertion below reports it
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(rows()) == 4


def test_touched_dates_come_from_commits():
    tables.append(NAME, frame(0), batch_id="b1")
    seen = tables.version(NAME)
    tables.append(NAME, frame(3, 4), batch_id="b2")
    tables.delete(NAME, "value = 1", part_dates=[DAY + dt.timedelta(7)])
    tables.set_column_metadata(NAME, {"value": {"grade": "L1"}})
    head = tables.version(NAME)
    assert tables.touched_dates(NAME, seen, head) == {DAY + dt.timedelta(n) for n in (3, 4, 7)}
    assert tables.touched_dates(NAME, head, head) == set()
    assert tables.touched_dates(NAME, None, head) is None


def test_a_full_replace_touches_everything():
    tables.replace_table(NAME, frame(0), partition_by=("part_date",))
    tables.replace_table(NAME, frame(1), partition_by=("part_date",))
    assert tables.touched_dates(NAME, 0, 1) is None


def test_replace_window_clears_and_refuses():
    tables.append(NAME, frame(0, 1, 2), batch_id="b1")
    tables.replace_window(NAME, frame(1, value=5), "part_date", DAY + dt.timedelta(1), DAY + dt.timedelta(2))
    assert rows() == [(1, DAY), (5, DAY + dt.timedelta(1))]
    with pytest.raises(TiyuError, match="TIYU-LAKE-0004") as refused:
        tables.replace_window(NAME, frame(6, value=190000), "part_date", DAY, DAY)
    assert "190000" not in str(refused.value), "Delta previews refused rows in its message: it must not get out"
    with pytest.raises(TiyuError, match="TIYU-LAKE-0003"):
        tables.replace_window(NAME, frame(0), "part_date", DAY, DAY - dt.timedelta(1))


def test_merge_upserts_inside_its_window():
    tables.append(NAME, frame(0), batch_id="b1")
    tables.merge(NAME, frame(0, 1, value=7), ["part_date"], window=("part_date", DAY, DAY + dt.timedelta(1)))
    assert rows() == [(7, DAY), (7, DAY + dt.timedelta(1))]


def test_readers_see_the_checked_version_only():
    con = query.connect()
    version = tables.append(NAME, frame(0), batch_id="b1")
    assert query.register(con, NAME, "checked") is None
    ledger.set_checked_version(NAME, version, "run")
    tables.append(NAME, frame(1), batch_id="b2")
    assert rows(version="checked") == [(1, DAY)]
    assert len(rows(version="head")) == 2


def test_layer_grammar_is_enforced():
    with pytest.raises(TiyuError, match="TIYU-LAKE-0001"):
        tables.path("bronze_venue")


def test_memory_only_connection_cannot_spill():
    con = query.connect(memory_limit="60MB", spill=False)
    with pytest.raises(Exception, match=r"(?i)memory"):
        con.execute("create table big as select range as a, md5(range::varchar) as b from range(4000000) order by b")


def test_an_extension_that_is_not_the_signed_one_is_refused(tmp_path, monkeypatch):
    """Later connections skip the comparison, so the first one of a process must make it."""
    data = bytearray(Path(query._delta_extension()).read_bytes())
    data[len(data) // 2] ^= 1
    forged = tmp_path / "delta.duckdb_extension"
    forged.write_bytes(data)
    monkeypatch.setattr(query, "_delta_extension", lambda: str(forged))
    query._verified_extension.cache_clear()
    with pytest.raises(duckdb.Error, match="signature"):
        query.connect()
    monkeypatch.undo()
    query._verified_extension.cache_clear()
    query.connect().close()


def test_alert_is_opened_once_and_reopened():
    first = ledger.open_alert("QG-01", "table", NAME, severity="red", message="m")
    assert ledger.open_alert("QG-01", "table", NAME, severity="red", message="n") == first
    assert [a["message"] for a in ledger.alerts("open")] == ["n"]
    assert ledger.close_alert("QG-01", "table", NAME)
    assert not ledger.close_alert("QG-01", "table", NAME)
    ledger.open_alert("QG-01", "table", NAME, severity="red", message="again")
    assert [a["status"] for a in ledger.alerts()] == ["open"]


def test_ledger_times_are_utc():
    ledger.set_checked_version("dim_date", 3, "run")
    row = ledger.read(ledger.checked.select())[0]
    assert row["checked_at"].tzinfo is not None
    assert ledger.checked_versions() == {"dim_date": 3}


def test_demo_mark_is_stored_in_the_lake():
    assert properties.demo_banner() == ""
    properties.set("is_demo", "true")
    version = tables.version(properties.TABLE)
    properties.set("is_demo", "true")
    assert tables.version(properties.TABLE) == version
    assert properties.demo_banner() == "演示数据，非真实统计"


def test_clock_is_pinned(monkeypatch):
    assert clock.today() == dt.date(2026, 11, 20)
    assert clock.as_of() == dt.datetime(2026, 11, 20, 4, tzinfo=dt.UTC)
    monkeypatch.delenv("TIYU_AS_OF")
    assert clock.as_of() == dt.datetime(2026, 11, 20, 4, tzinfo=dt.UTC)
    monkeypatch.setenv("TIYU_TODAY", "yesterday")
    with pytest.raises(TiyuError, match="TIYU-CLK-0001"):
        clock.today()
    monkeypatch.setenv("TIYU_AS_OF", "2026-11-20 12:00")
    with pytest.raises(TiyuError, match="TIYU-CLK-0002"):
        clock.as_of()


def test_a_home_can_pin_the_clock_and_the_environment_wins(monkeypatch):
    monkeypatch.delenv("TIYU_TODAY")
    monkeypatch.delenv("TIYU_AS_OF")
    assert clock.today() != dt.date(2026, 1, 31), "the real date"
    clock.pin(dt.date(2026, 1, 31), dt.datetime(2026, 1, 31, 9, tzinfo=clock.SHANGHAI))
    assert clock.today() == dt.date(2026, 1, 31)
    assert clock.as_of() == dt.datetime(2026, 1, 31, 1, tzinfo=dt.UTC)
    monkeypatch.setenv("TIYU_TODAY", "2026-02-01")
    assert clock.today() == dt.date(2026, 2, 1)
    assert clock.as_of() == dt.datetime(2026, 2, 1, 4, tzinfo=dt.UTC), "the pinned instant belongs to the pinned day"
