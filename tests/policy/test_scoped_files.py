"""One file per district: what each holds, table by table, and that nothing is written that did not change."""

from __future__ import annotations

import hashlib
import re
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest

from catalog.policy import replaced
from catalog.policy.declaration import Rows
from dashboards import access
from lake import ledger, properties, tables
from lake.errors import TiyuError
from sharing import serving
from sharing.serving import policy, scoped
from sharing.serving.publish import publish_serving
from tests.policies import changed
from tests.unit.dashboards import cockpit_data

pytestmark = pytest.mark.policy

ADS = (
    "ads_cockpit__kpi", "ads_cockpit__headline", "ads_cockpit__district_day", "ads_cockpit__sport_day",
    "ads_cockpit__venue_day", "ads_cockpit__freshness", "ads_cockpit__official_figure", "ads_supervision__alert",
)  # fmt: skip
DISTRICTS = cockpit_data.districts()


def store(table: str, frame: pl.DataFrame) -> None:
    """Make rows the checked state of a lake table."""
    tables.replace_table(table, frame)
    ledger.set_checked_version(table, tables.version(table), "test")


def read(table: str) -> pl.DataFrame:
    """The rows of a table of the invented city, with the lake's instants."""
    with duckdb.connect() as con:
        con.execute(cockpit_data.SCRIPT)
        zoned = con.execute(
            "SELECT column_name FROM duckdb_columns() WHERE table_name = ? AND data_type = 'TIMESTAMP'", [table]
        ).fetchall()
        instants = ", ".join(f"{name} AT TIME ZONE 'Asia/Shanghai' AS {name}" for (name,) in zoned)
        return con.execute(f"SELECT * {f'REPLACE ({instants})' if instants else ''} FROM ads.{table}").pl()


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A lake with the ADS tables of an invented city, published once."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("TIYU_HOME", str(tmp_path_factory.mktemp("scoped") / "home"))
        patch.setenv("TIYU_TODAY", "2026-11-20")
        patch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")
        from protection import keys

        keys.ensure()
        properties.set("is_demo", "true")
        for table in ADS:
            store(table, read(table))
        store(
            "dim_district", pl.DataFrame({"district_code": list(DISTRICTS), "district_name": list(DISTRICTS.values())})
        )
        store("dim_sport", pl.DataFrame({"sport_code": ["swimming"], "sport_name": ["游泳"]}))
        publish_serving(["district"])
        yield patch


@pytest.fixture
def kept(lake):
    """The lake and the files as they were, put back after a test that changes them."""
    before = {table: ledger.checked_version(table) for table in (*ADS, "dim_district")}
    yield
    for table, version in before.items():
        if ledger.checked_version(table) != version:
            store(table, read(table) if table in ADS else pl.DataFrame(
                {"district_code": list(DISTRICTS), "district_name": list(DISTRICTS.values())}))  # fmt: skip
    publish_serving(["district"])


def prints() -> dict[str, tuple[str, int]]:
    """District → (content hash, time of writing) of its file."""
    found = {}
    for code in DISTRICTS:
        file = serving.file_of("district", code)
        found[code] = (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
    return found


def allowed_everywhere() -> set[str]:
    """Tables that the policy gives to every district whole, and the catalogue's own words about tables."""
    scope = policy.audience("district").scope
    return {name for name, rule in scope.tables.items() if rule.all} | {
        "catalog_tables", "catalog_columns", "catalog_versions", "kpi_definitions", "catalog_freshness",
    }  # fmt: skip


def foreign(file: Path, code: str) -> tuple[list[str], int, int]:
    """(places that name another district, tables examined, values examined) of one file.

    Every text of every table is searched for the code and the name of the fifteen other districts; every table with a
    column of district codes may hold the own code and what the policy adds.
    """
    scope = policy.audience("district").scope
    others = [*(c for c in DISTRICTS if c != code), *(n for c, n in DISTRICTS.items() if c != code)]
    short = [name.removesuffix("新区").removesuffix("区") for c, name in DISTRICTS.items() if c != code]
    pattern = "|".join(re.escape(word) for word in [*others, *short])
    found, examined, values = [], 0, 0
    with duckdb.connect(str(file), read_only=True) as con:
        listed = con.execute("SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
        for schema, table in listed:
            examined += 1
            columns = con.execute(f"DESCRIBE {schema}.{table}").fetchall()
            if "district_code" in {column[0] for column in columns} and table not in allowed_everywhere():
                known = {code, *scope.tables[table].also}
                held = {
                    row[0] for row in con.execute(f"SELECT DISTINCT district_code FROM {schema}.{table}").fetchall()
                }
                found += [f"{table}.district_code={value}" for value in held - known]
            if table in allowed_everywhere():
                continue
            for name, kind, *_ in columns:
                if kind != "VARCHAR":
                    continue
                hits, seen = con.execute(
                    f'SELECT count(*) FILTER (regexp_matches("{name}", ?)), count("{name}") FROM {schema}.{table}', [pattern]
                ).fetchall()[0]  # fmt: skip
                values += seen
                if hits:
                    found.append(f"{table}.{name}：{hits}")
    return found, examined, values


def test_every_table_of_every_file_speaks_of_its_own_district_only(lake):
    assert len(DISTRICTS) == 16
    tables_seen = values_seen = 0
    for code in DISTRICTS:
        found, examined, values = foreign(serving.file_of("district", code), code)
        assert found == [], code
        assert examined == 10 + 7, "ten tables of the policy and seven of the catalogue"
        tables_seen += examined
        values_seen += values
    assert tables_seen == 16 * 17
    assert values_seen > 50_000


def test_the_scan_finds_a_planted_row(lake, tmp_path):
    planted = tmp_path / "planted.duckdb"
    planted.write_bytes(serving.file_of("district", "310104").read_bytes())
    with duckdb.connect(str(planted)) as con:
        con.execute("UPDATE ads.ads_supervision__alert SET subject_name = '黄浦游泳馆'")
        con.execute(
            "INSERT INTO ads.ads_cockpit__sport_day (part_date, district_code) VALUES (DATE '2026-11-01', '310101')"
        )
    found, _, _ = foreign(planted, "310104")
    assert {place.split("：")[0].split("=")[0] for place in found} >= {
        "ads_supervision__alert.subject_name", "ads_cockpit__sport_day.district_code"
    }  # fmt: skip


def test_no_row_of_a_district_is_lost_and_the_city_is_as_declared(lake):
    compared = 0
    for table in ADS:
        whole = read(table)
        if "district_code" not in whole.columns:
            continue
        for code in DISTRICTS:
            with serving.connect("district", code) as con:
                own = con.execute(f"SELECT count(*) FROM {table} WHERE district_code = ?", [code]).fetchone()[0]
                city = con.execute(f"SELECT count(*) FROM {table} WHERE district_code = '310000'").fetchone()[0]
            assert own == whole.filter(pl.col("district_code") == code).height, (table, code)
            wanted = whole.filter(pl.col("district_code") == "310000").height if table == "ads_cockpit__kpi" else 0
            assert city == wanted, (table, code)
            compared += own
    assert compared > 20_000


def test_the_file_says_whose_it_is_and_describes_itself(lake):
    with serving.connect("district", "310104") as con:
        assert con.execute("SELECT * FROM main.catalog_scope").fetchall() == [("310104", "徐汇区")]
        notice = dict(con.execute("SELECT name, text FROM main.catalog_notice").fetchall())
        assert "徐汇区" in notice["受众"]
        assert notice["构建指纹"].partition(".")[2] == access.policy_digest("district"), "what Superset compares"
        assert notice["数据声明"] == "演示数据，非真实统计"
        bare = con.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL"
        ).fetchall()
        assert bare == []
        stated = dict(con.execute("SELECT table_name, row_count FROM main.catalog_tables").fetchall())
        assert (
            stated["ads_cockpit__sport_day"] == con.execute("SELECT count(*) FROM ads_cockpit__sport_day").fetchone()[0]
        )


def test_an_unknown_or_missing_scope_is_refused(lake):
    for scope in (None, "310000", "320100", "../cockpit"):
        with pytest.raises(TiyuError) as caught:
            serving.connect("district", scope)
        assert caught.value.code == "TIYU-SRV-0004"


def test_a_second_run_writes_nothing_even_without_its_memory(lake):
    before = prints()
    assert not publish_serving(["district"]).changed
    state = serving.file_of("district", "310104").parent / ".district.state.json"
    state.unlink()
    report = publish_serving(["district"])
    assert not report.changed
    assert len(report.files) == 16
    assert prints() == before


def test_one_district_s_new_figure_rewrites_one_file(lake, kept):
    before = prints()
    changed = read("ads_cockpit__venue_day").with_columns(
        pl.when((pl.col("district_code") == "310104") & (pl.col("part_date") == date(2026, 11, 19)))
        .then(pl.col("visit_count") + 1).otherwise(pl.col("visit_count")).alias("visit_count")
    )  # fmt: skip
    store("ads_cockpit__venue_day", changed)
    report = publish_serving(["district"])
    assert [file.scope for file in report.files if file.changed] == ["310104"]
    after = prints()
    assert [code for code in DISTRICTS if after[code] != before[code]] == ["310104"]
    with serving.connect("district", "310104") as con:
        shown = con.execute("SELECT sum(visit_count) FROM ads_cockpit__venue_day").fetchone()[0]
    assert shown == changed.filter(pl.col("district_code") == "310104")["visit_count"].sum()


def test_a_row_without_a_district_is_in_nobody_s_file_and_counted(lake, kept):
    rows = read("ads_supervision__alert")
    lost = rows.head(2).with_columns(
        pl.Series("alert_id", ["lost-1", "lost-2"]), pl.Series("district_code", [None, "320500"], dtype=pl.String)
    )
    store("ads_supervision__alert", pl.concat([rows, lost]))
    report = publish_serving(["district"])
    assert {file.unscoped["ads_supervision__alert"] for file in report.files} == {2}
    for code in DISTRICTS:
        with serving.connect("district", code) as con:
            assert con.execute(
                "SELECT count(*) FROM ads_supervision__alert WHERE alert_id LIKE 'lost-%'"
            ).fetchone() == (0,)


def test_a_damaged_or_lost_file_is_cut_again(lake, kept):
    before = prints()
    serving.file_of("district", "310101").write_bytes(b"not a database")
    serving.file_of("district", "310151").unlink()
    report = publish_serving(["district"])
    assert {file.scope for file in report.files if file.changed} == {"310101", "310151"}
    for code in ("310101", "310151"):
        assert foreign(serving.file_of("district", code), code)[0] == []
    after = prints()
    assert {code for code in DISTRICTS if after[code] != before[code]} == {"310101", "310151"}


def test_a_policy_that_gives_a_table_whole_is_seen_by_the_scan(lake, kept):
    opened = ("row_scopes.own_district.tables.ads_cockpit__venue_day", {"all": True, "reason": "test"})
    with replaced(changed(opened)):
        assert publish_serving(["district"]).changed
        file = serving.file_of("district", "310104")
    found, _, _ = foreign(file, "310104")
    assert any(place.startswith("ads_cockpit__venue_day") for place in found)


def test_a_policy_that_names_a_missing_column_stops(lake):
    wrong = ("row_scopes.own_district.tables.dim_sport", {"own": "district_code"})
    with replaced(changed(wrong)), pytest.raises(TiyuError) as caught:
        scoped.publish_scopes("district")
    assert caught.value.code == "TIYU-SRV-0005"


def test_a_table_outside_the_scope_is_absent(lake):
    assert not policy.table_allowed(policy.audience("district"), "ads_cockpit__new_table")
    with serving.connect("district", "310104") as con:
        assert con.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE schema_name NOT IN ('ads', 'dim', 'main')"
        ).fetchone() == (0,)


@pytest.mark.parametrize(
    "rule",
    [{}, {"all": True}, {"own": "district_code", "all": True, "reason": "x"}, {"own": "district_code", "also": ["310000"]},
     {"all": True, "also": ["310000"], "reason": "x"}, {"own": "district_code", "other": 1}],
)  # fmt: skip
def test_a_faulty_rule_is_refused(rule):
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's own error
        Rows.model_validate(rule)
