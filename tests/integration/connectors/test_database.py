"""A real PostgreSQL: what is fetched, how pages are cut, what is found deleted, and what a dying server leaves."""

from __future__ import annotations

import logging
import random
import re
import sys
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import postgres

from catalog import contracts
from ingestion import connectors
from ingestion.connectors.database import as_parquet
from ingestion.connectors.key_list import KeyLists
from ingestion.run import ingest
from lake import tables
from lake.errors import TiyuError
from quality.reconcile import reconcile

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server():
    with postgres.running() as found:
        yield found


@pytest.fixture
def sql(server):
    """A table of members, and SQL on it."""
    _, run = server
    run(
        'DROP TABLE IF EXISTS "会员 ""表"""',
        'CREATE TABLE "会员 ""表""" (id int PRIMARY KEY, name text, changed timestamptz)',
        "INSERT INTO \"会员 \"\"表\"\"\" SELECT n, 'm' || n, '2026-11-20 12:00:00+08'::timestamptz + n * interval '1 second' FROM generate_series(1, 25) n",
    )
    return lambda *statements: run(*(re.sub(r"\bT\b", '"会员 ""表"""', text) for text in statements))


def members(server, uri=None, seen=None, **options):
    return connectors.create(
        {"kind": "database", "table": '会员 "表"', "key": ["id"], "watermark": "changed", "page_rows": 10, **options},
        uri or server[0],
        lambda _: False,
        columns=["id", "name", "changed"] if seen is None else seen,
        resource="test.member",
    )


def pull(connector, state=None, max_bytes=1 << 40):
    objects = list(connector.fetch(state or {}, max_bytes=max_bytes))
    return objects, connector.next_state()


def rows(found) -> pa.Table:
    return pq.read_table(BytesIO(found.open().read()))


def ids(objects) -> list[int]:
    return [number for found in objects if "_deleted_" not in found.name for number in rows(found)["id"].to_pylist()]


def test_pages_are_plain_parquet_with_the_same_bytes_every_time(server, sql, home):
    objects, state = pull(members(server))
    assert ids(objects) == list(range(1, 26))
    assert [rows(found).num_rows for found in objects] == [10, 10, 5]
    assert len({found.name for found in objects}) == 3
    assert state == {"updated_since": "2026-11-20 04:00:25+00", "generation": 0, "more": False}
    again, _ = pull(members(server))
    assert [found.open().read() for found in objects] == [found.open().read() for found in again]
    table = rows(objects[0])
    assert table.schema.names == ["id", "name", "changed"]
    assert table["changed"][0].as_py() == datetime(2026, 11, 20, 4, 0, 1, tzinfo=UTC)
    assert not any(key.startswith(b"ADBC") for key in table.schema.field("name").metadata or {})


def test_only_what_changed_since_and_the_overlap(server, sql, home):
    _, state = pull(members(server))
    sql(
        "UPDATE T SET name = 'new', changed = '2026-11-20 12:01:00+08' WHERE id = 3",
        "INSERT INTO T VALUES (99, 'late', '2026-11-20 12:00:20.5+08')",  # a transaction that committed late
    )
    assert ids(pull(members(server), state)[0]) == [25, 3], "the mark itself is read again: others may bear it"
    objects, after = pull(members(server, overlap=5), state)
    assert ids(objects) == [20, 99, 21, 22, 23, 24, 25, 3]
    assert after["updated_since"] == "2026-11-20 04:01:00+00"


def test_batches_bounded_by_bytes_go_on_behind_the_last_key(server, sql, home):
    state, found, batches = {}, [], 0
    while True:
        objects, state = pull(members(server), state, max_bytes=1)
        found += ids(objects)
        batches += 1
        if not state["more"]:
            break
        if batches == 1:  # what changes meanwhile comes next time
            sql("UPDATE T SET changed = '2026-11-20 12:05:00+08' WHERE id = 20")
    assert found == [*range(1, 20), *range(21, 26)]
    assert batches == 4
    assert state["updated_since"] == "2026-11-20 04:00:25+00"
    assert 20 in ids(pull(members(server), state)[0])


def test_equal_watermarks_are_cut_by_the_key(server, sql, home):
    sql("UPDATE T SET changed = '2026-11-20 12:00:00+08'")
    assert ids(pull(members(server))[0]) == list(range(1, 26))


def test_rows_without_a_watermark_are_not_lost_and_not_delivered_twice(server, sql, home):
    sql("UPDATE T SET changed = NULL WHERE id IN (4, 5)")
    objects, state = pull(members(server))
    assert sorted(ids(objects)) == list(range(1, 26))
    assert ids(pull(members(server), state)[0]) == [25]
    sql("UPDATE T SET name = 'b' WHERE id = 4")
    objects, second = pull(members(server), state)
    assert ids(objects) == [25, 4, 5]
    sql("UPDATE T SET name = 'm4' WHERE id = 4")  # back again: the page must not be taken for the first one
    back, _ = pull(members(server), second)
    assert ids(back) == [25, 4, 5]
    first = {found.open().read() for found in pull(members(server))[0]}
    assert back[-1].open().read() not in first


def test_a_table_without_a_watermark_is_read_whole(server, sql, home):
    options = {"watermark": None}
    objects, state = pull(members(server, **options))
    assert ids(objects) == list(range(1, 26))
    assert pull(members(server, **options), state)[0] == []
    sql("UPDATE T SET name = 'x' WHERE id = 12")
    assert ids(pull(members(server, **options), state)[0]) == list(range(11, 21)), "the page that changed"


def test_one_fetch_sees_one_moment(server, sql, home):
    reading = members(server).fetch({}, max_bytes=1 << 40)
    first = next(reading)
    sql("UPDATE T SET name = 'torn', changed = '2026-11-20 12:05:00+08' WHERE id > 20", "DELETE FROM T WHERE id = 15")
    objects = [first, *reading]
    assert ids(objects) == list(range(1, 26))
    assert "torn" not in str([rows(found).to_pylist() for found in objects])


def test_deleted_keys_come_as_an_object_of_their_own(server, sql, home):
    options = {"deletes": "compare"}
    objects, state = pull(members(server, **options))
    assert not any("_deleted_" in found.name for found in objects)
    sql("DELETE FROM T WHERE id IN (7, 19)", "INSERT INTO T VALUES (30, 'in', '2026-11-20 12:02:00+08')")
    objects, second = pull(members(server, **options), state)
    gone = objects[-1]
    assert "_deleted_" in gone.name
    assert sorted(rows(gone)["id"].to_pylist()) == [7, 19]
    assert rows(gone).schema.names == ["id"]
    repeated, _ = pull(members(server, **options), state)  # the run died before the ledger: the same bytes
    assert repeated[-1].open().read() == gone.open().read()
    _, second = pull(members(server, **options), state)
    objects, third = pull(members(server, **options), second)
    assert not any("_deleted_" in found.name for found in objects)
    assert third["keys"] == second["keys"], "nothing came and went"
    sql("INSERT INTO T VALUES (7, 'back', '2026-11-20 12:03:00+08')")
    _, fourth = pull(members(server, **options), third)
    sql("DELETE FROM T WHERE id IN (7)", "INSERT INTO T VALUES (19, 'x', now())", "DELETE FROM T WHERE id = 19")
    _, fifth = pull(members(server, **options), fourth)
    assert fifth["generation"] > fourth["generation"], "deleted once more is another object"
    assert len(list((home / "connectors" / "test.member").iterdir())) <= 2
    for path in (home / "connectors" / "test.member").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_deletes_among_many_keys(server, sql, home):
    sql("INSERT INTO T SELECT n, 'm', '2026-11-20 13:00:00+08' FROM generate_series(1000, 20000) n")
    options = {"deletes": "compare", "page_rows": 10_000}
    _, state = pull(members(server, **options))
    sql("DELETE FROM T WHERE id % 1009 = 0 OR id > 19990")
    objects, _ = pull(members(server, **options), state)
    gone = {number for found in objects if "_deleted_" in found.name for number in rows(found)["id"].to_pylist()}
    expected = {number for number in [*range(1, 26), *range(1000, 20001)] if number % 1009 == 0 or number > 19990}
    assert gone == expected
    sql("DELETE FROM T")
    objects, _ = pull(members(server, **options), state)
    assert sum(rows(found).num_rows for found in objects if "_deleted_" in found.name) == 25 + 19_001


@pytest.mark.parametrize("seed", range(8))
def test_lists_are_compared_whatever_their_parts(home, seed):
    chance = random.Random(seed)

    def parts(keys):
        left = sorted(keys)
        while left:
            size = chance.choice([1, 2, 7, 40])
            yield pa.table({"_digest": [f"{key:06d}" for key in left[:size]], "id": left[:size]})
            left = left[size:]

    lists = KeyLists(home / "connectors" / "x")
    before = set(chance.sample(range(300), chance.choice([0, 1, 90, 200])))
    gone = {key for key in before if chance.random() < chance.choice([0.0, 0.1, 1.0])}
    new = set(chance.sample(range(300, 400), chance.choice([0, 3, 60])))
    names = lists.write(parts(before)), lists.write(parts(before - gone | new))
    found = list(lists.compare(*names))
    assert {key for part, _ in found if part.num_rows for key in part["id"].to_pylist()} == gone
    assert found[-1][1] == bool(new)
    lists.keep_only(names[1])
    assert (lists.has(names[0]), lists.has(names[1])) == (False, True)


def test_a_lost_key_list_is_told_once_and_then_begun_anew(server, sql, home):
    options = {"deletes": "compare"}
    _, state = pull(members(server, **options))
    (home / "connectors" / "test.member" / state["keys"]).unlink()
    with pytest.raises(TiyuError) as caught:
        pull(members(server, **options), state)
    assert (caught.value.code, caught.value.exit_code) == ("TIYU-ING-0135", 3)
    _, begun = pull(members(server, **options), state)
    sql("DELETE FROM T WHERE id = 2")
    objects, _ = pull(members(server, **options), begun)
    assert rows(objects[-1])["id"].to_pylist() == [2]


def test_history_leaves_the_key_list_alone(server, sql, home):
    options = {"deletes": "compare"}
    _, state = pull(members(server, **options))
    sql("DELETE FROM T WHERE id = 2")
    kind = connectors.of_kind("database")
    since = kind.state_since(datetime.fromisoformat("2026-11-20T12:00:23+08:00"))
    objects, _ = pull(members(server, **options), {**since, "_again": True})
    assert ids(objects) == [23, 24, 25]
    objects, _ = pull(members(server, **options), state)
    assert rows(objects[-1])["id"].to_pylist() == [2]
    assert (kind.reach({"watermark": "changed"}), kind.reach({})) == ("since", "whole")


def test_every_type_arrives_exactly(server, home):
    _, run = server
    run(
        "DROP TABLE IF EXISTS kinds",
        "DROP TYPE IF EXISTS mood",
        "CREATE TYPE mood AS ENUM ('好')",
        "CREATE TABLE kinds (id bigint PRIMARY KEY, n numeric, f8 float8, f4 float4, s int2, b bool, d date, t timestamp, z timestamptz, "
        "tm time, v varchar(5), c char(3), j jsonb, u uuid, e mood, a int[], i interval, x bytea, ip inet)",
        "INSERT INTO kinds VALUES (9007199254740993, 12345678901234567890.10, 0.1, 0.1, 1, true, '2026-11-20', '2026-11-20 01:02:03.4', "
        "'2026-11-20 08:00+08', '10:00', '张', 'a', '{\"k\": 1}', '00000000-0000-0000-0000-000000000001', '好', '{1,2}', '1 day', '\\x00ff', '10.0.0.1')",
        "INSERT INTO kinds (id, n, f8, d, t, z) VALUES (-1, 'NaN', 'NaN', 'infinity', '-infinity', 'infinity')",
        "INSERT INTO kinds (id) VALUES (0)",
    )
    connector = connectors.create({"kind": "database", "table": "kinds", "key": ["id"]}, server[0], lambda _: False)
    (found,), _ = pull(connector)
    table = rows(found)
    assert table["id"].to_pylist() == [-1, 0, 9007199254740993]
    last = {name: table[name][2].as_py() for name in table.schema.names}
    assert last["n"] == "12345678901234567890.10"
    assert (last["f8"], last["s"], last["b"], last["v"], last["c"]) == (0.1, 1, True, "张", "a  ")
    assert (last["d"], last["t"], last["z"]) == (
        "2026-11-20",
        "2026-11-20 01:02:03.400000",
        "2026-11-20 00:00:00.000000Z",
    )
    assert (last["j"], last["e"], last["a"], last["x"], last["ip"]) == (
        '{"k": 1}',
        "好",
        "{1,2}",
        "\\x00ff",
        "10.0.0.1/32",
    )
    assert last["u"] == "00000000-0000-0000-0000-000000000001"
    first = {name: table[name][0].as_py() for name in table.schema.names}
    assert (first["d"], first["t"], first["z"], first["n"]) == ("infinity", "-infinity", "infinity", "NaN")
    assert pc.is_nan(table["f8"])[0].as_py()
    assert set(table.slice(1, 1).drop_columns(["id"]).to_pylist()[0].values()) == {None}, "missing stays missing"


def test_only_the_columns_of_the_contract_leave_the_source(server, sql, home):
    objects, _ = pull(members(server, seen=["id", "changed", "nickname"]))
    assert rows(objects[0]).schema.names == ["id", "changed"], "what is missing is the decoder's to tell"
    objects, _ = pull(members(server, seen=["id"], columns="all"))
    assert rows(objects[0]).schema.names == ["id", "name", "changed"]


def test_keys_of_two_columns_and_hostile_values(server, home):
    _, run = server
    run(
        "DROP TABLE IF EXISTS pair",
        "CREATE TABLE pair (a text, b text, PRIMARY KEY (a, b))",
        "INSERT INTO pair SELECT a, b FROM unnest(ARRAY['', '''); DROP TABLE pair; --', E'\\\\', E'a\\nb', '\"', '$1', '张', 'NULL']) a, "
        "unnest(ARRAY['x', '''', ',', 'x,']) b",
    )
    connector = connectors.create(
        {"kind": "database", "table": "pair", "key": ["b", "a"], "page_rows": 1}, server[0], lambda _: False
    )
    objects, _ = pull(connector)
    found = {tuple(rows(item).to_pylist()[0].values()) for item in objects}
    assert len(objects) == len(found) == 32
    assert run("SELECT count(*) FROM pair")[0][0] == 32


@pytest.mark.parametrize(
    ("ddl", "key", "code"),
    [
        ("CREATE TABLE bad (id int, name text)", ["id"], "TIYU-ING-0133"),
        ("CREATE TABLE bad (id int, name text UNIQUE)", ["name"], "TIYU-ING-0133"),
        ("CREATE TABLE bad (id int, name text)", ["nope"], "TIYU-ING-0132"),
        ("CREATE TABLE other (id int)", ["id"], "TIYU-ING-0132"),
    ],
)
def test_a_key_that_loses_rows_is_refused(server, home, ddl, key, code):
    _, run = server
    run("DROP TABLE IF EXISTS bad", "DROP TABLE IF EXISTS other", ddl)
    if "bad" in ddl:
        run("INSERT INTO bad VALUES (1, 'a'), (1, NULL)")
    with pytest.raises(TiyuError) as caught:
        pull(connectors.create({"kind": "database", "table": "bad", "key": key}, server[0], lambda _: False))
    assert (caught.value.code, caught.value.exit_code) == (code, 3)


def test_a_view_is_read_too(server, sql, home):
    _, run = server
    run('CREATE OR REPLACE VIEW v AS SELECT id, name FROM "会员 ""表"""')
    connector = connectors.create({"kind": "database", "table": "v", "key": ["id"]}, server[0], lambda _: False)
    assert ids(pull(connector)[0]) == list(range(1, 26))
    run("DROP VIEW v")


def test_an_account_may_read_and_nothing_else(server, sql, home):
    uri, run = server
    run("DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN PASSWORD 'g'")
    with pytest.raises(TiyuError) as caught:
        pull(members(server, uri=uri.replace(f"{postgres.USER}:{postgres.PASSWORD}", "guest:g")))
    assert caught.value.code == "TIYU-ING-0132"


def test_refused_accounts_and_dead_servers(server, sql, home, caplog):
    caplog.set_level(logging.DEBUG)
    uri = server[0].replace(postgres.PASSWORD, "wrong-canary-77")
    with pytest.raises(TiyuError) as caught:
        pull(members(server, uri=uri))
    assert (caught.value.code, caught.value.exit_code) == ("TIYU-ING-0131", 3)
    assert "canary" not in f"{caught.value!r} {caught.value.as_dict()} {caught.value.__cause__} {caplog.text}"
    with pytest.raises(TiyuError) as caught:
        pull(members(server, uri=f"postgresql://a:b@127.0.0.1:{postgres.free_port()}/x"))
    assert caught.value.code == "TIYU-ING-0130"


def test_a_server_that_dies_while_pages_are_read_is_asked_again(server, sql, home):
    _, run = server
    reading = members(server).fetch({}, max_bytes=1 << 40)
    next(reading)
    run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    with pytest.raises(TiyuError) as caught:
        list(reading)
    assert caught.value.code == "TIYU-ING-0130"
    assert ids(pull(members(server))[0]) == list(range(1, 26))


@pytest.mark.parametrize(
    ("options", "uri"),
    [
        ({"table": "t"}, "postgresql://h/x"),
        ({"table": "t", "key": ["id"]}, "http://:t@h"),
        ({"table": "t", "key": ["id"]}, None),
        ({"table": "t", "key": "id"}, "postgresql://h/x"),
    ],
)
def test_wrong_options_are_refused(options, uri):
    with pytest.raises(TiyuError) as caught:
        connectors.create({"kind": "database", **options}, uri, lambda _: False)
    assert caught.value.code == "TIYU-ING-0102"


def test_bytes_depend_on_rows_and_generation_alone():
    table = pa.table({"a": [1, 2]})
    assert as_parquet(table) == as_parquet(table.replace_schema_metadata({b"x": b"y"}))
    assert as_parquet(table, 1) not in (as_parquet(table), as_parquet(table, 2))
    assert pq.read_table(BytesIO(as_parquet(table, 1))).equals(table)


def water_contract():
    """The contract of water readings, as if they came from a database."""
    path = contracts.FOLDER / "sources" / "supervision" / "water_reading.odcs.yaml"
    text = path.read_text("utf-8")
    text = re.sub(
        r"connector: \{[^}]*\}",
        "connector: {kind: database, connection: WATER_DB, table: reading, key: [pool_id, item, sampled_at], watermark: changed, pageRows: 100, overlap: 60}",
        text,
    )
    text = re.sub(r"decoder: \{[^}]*\}", "decoder: {kind: parquet}", text)
    text = re.sub(r" +- kind: reference\n(?: {14}.*\n)+", "", text)
    return contracts.read_contract(path, text=text)


def test_a_table_reaches_the_lake_row_by_row(server, home, monkeypatch):
    uri, run = server
    contract = water_contract()
    real = contracts.load_all
    monkeypatch.setattr(contracts, "load_all", lambda kind=None: {**real(kind), contract.id: contract})
    monkeypatch.setenv("TIYU_CONN_WATER_DB", uri)
    run(
        "DROP TABLE IF EXISTS reading",
        "CREATE TABLE reading (pool_id text, device_id text, sampled_at timestamptz, item text, value numeric, unit text, "
        "method text, secret text DEFAULT 'not in the contract', changed timestamptz DEFAULT now(), PRIMARY KEY (pool_id, item, sampled_at))",
        "INSERT INTO reading (pool_id, device_id, sampled_at, item, value, unit, method) SELECT 'V310101-001-U01', 'D-1', "
        "'2026-11-19 00:00+08'::timestamptz + n * interval '1 minute', 'ph', 7.00 + n / 1000.0, '1', 'online' FROM generate_series(1, 250) n",
        "INSERT INTO reading (pool_id, sampled_at, item, value, method) VALUES ('V310101-001-U01', 'infinity', 'ph', 7, 'online'), "
        "('V310101-001-U01', '2026-11-19 23:00+08', 'ph', 'NaN', 'online')",
    )
    report = ingest(contract.id)
    assert (report.decoded, report.accepted, report.quarantined, report.duplicate) == (252, 250, 2, 0)
    assert report.received_objects == 3
    stored = pl.scan_delta(tables.path("ods_supervision__water_reading")).collect().sort("sampled_at")
    assert stored["value"].to_list()[:2] == pytest.approx([7.001, 7.002])
    assert stored["sampled_at"][0].isoformat() == "2026-11-18T16:01:00+00:00"
    run(
        "INSERT INTO reading (pool_id, sampled_at, item, value, unit, method) VALUES ('V310101-001-U01', '2026-11-19 22:00+08', 'ph', 7.5, '1', 'online')"
    )
    again = ingest(contract.id)
    assert (again.accepted, again.decoded) == (1, again.accepted + again.quarantined + again.duplicate)
    assert again.duplicate_objects == 2, "pages of the overlap that did not change"
    assert again.duplicate == 50, "rows of the overlap are the duplicates that the contract declares"
    assert reconcile(contract.id).ok
