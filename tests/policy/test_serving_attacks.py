"""What an analyst must not be able to do with a serving file, tried one by one."""

from __future__ import annotations

import duckdb
import pytest

from sharing import serving
from sharing.serving import policy

pytestmark = pytest.mark.policy


@pytest.fixture
def analyst(served):
    con = serving.connect("analyst")
    yield con
    con.close()


def test_the_window_works_at_all(analyst, served):
    assert analyst.execute("SELECT count(*) FROM ods_fitness__checkin").fetchall() == [(2,)]
    assert analyst.execute("SELECT count(*) FROM ods.ods_fitness__checkin").fetchall() == [(2,)]
    files = {file.audience: file for file in served.report.files}
    assert files["analyst"].tables >= 6
    assert files["analyst"].rows >= 7


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_csv_auto('/etc/passwd', header=false)",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM '/etc/hosts.csv'",
        "SELECT * FROM read_parquet('{home}/lake/ods/*/*/*.parquet')",
        "SELECT * FROM read_json('{home}/keys/keys.json')",
        "SELECT * FROM glob('{home}/**')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM delta_scan('{home}/lake/ods/ods_fitness__checkin')",
        "SELECT * FROM parquet_metadata('{home}/lake/ods/x.parquet')",
        "COPY (SELECT 1) TO '{home}/out.csv'",
        "COPY ods_fitness__checkin TO '/tmp/out.parquet'",
        "CREATE TABLE stolen AS SELECT 1",
        "CREATE TEMP TABLE t (line VARCHAR); COPY t FROM '/etc/passwd'",
        "EXPORT DATABASE '{home}/out'",
        "IMPORT DATABASE '{home}/out'",
        "ATTACH '{home}/serving/cockpit.duckdb'",
        "ATTACH '{home}/serving/analyst.duckdb' AS again (READ_WRITE)",
        "DETACH analyst",
        "COPY (SELECT 1) TO '{home}/serving/analyst.duckdb' (FORMAT csv)",
        "COPY (SELECT 1) TO '{home}/serving/analyst.duckdb.wal' (FORMAT csv)",
        "SELECT * FROM read_blob('{home}/serving/analyst.duckdb')",
        "ATTACH '{home}/ledger.db' (TYPE sqlite)",
        "ATTACH '{home}/other.duckdb' AS other",
        "INSTALL httpfs",
        "INSTALL delta",
        "LOAD delta",
        "LOAD '{home}/evil.duckdb_extension'",
        "SELECT getenv('HOME')",
        "SET enable_external_access = true",
        "SET GLOBAL enable_external_access = true",
        "SET lock_configuration = false",
        "RESET enable_external_access",
        "PRAGMA enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SET temp_directory = '/tmp'",
        "SET memory_limit = '100GB'",
        "SET python_enable_replacements = true",
        "PRAGMA enable_profiling; SET profiling_output = '{home}/out.json'",
        "SET log_query_path = '{home}/out.log'",
        "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
        "INSERT INTO ods.ods_fitness__checkin SELECT * FROM ods.ods_fitness__checkin",
        "DELETE FROM ods.ods_fitness__checkin",
        "UPDATE main.catalog_notice SET text = ''",
        "DROP TABLE ods.ods_fitness__checkin",
        "COMMENT ON TABLE ods.ods_fitness__checkin IS 'x'",
        "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
        "SELECT * FROM query_table('/etc/passwd')",
    ],
)
def test_attack_is_refused(analyst, served, query):
    before = sorted(path for path in served.home.rglob("*") if not path.name.startswith("ledger.db"))
    with pytest.raises(duckdb.Error):
        analyst.execute(query.format(home=served.home)).fetchall()
    assert sorted(path for path in served.home.rglob("*") if not path.name.startswith("ledger.db")) == before


def test_python_variables_of_the_process_are_out_of_reach(analyst):
    import polars as pl

    secret = pl.DataFrame({"a": ["secret"]})
    assert secret.height == 1
    with pytest.raises(duckdb.Error):
        analyst.execute("SELECT * FROM secret").fetchall()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("ods_training__activity", "max_hr_bpm"),
        ("ods_training__activity", "resting_hr_bpm"),
        ("ods_training__activity_sample", "heart_rate_bpm"),
        ("ods_training__activity_sample", "lng"),
        ("ods_training__activity_sample", "lat"),
        ("ods_venue__register", "contact_name"),
        ("ods_venue__register", "contact_phone_token"),
        ("ods_fitness__checkin", "birth_year"),
    ],
)
def test_column_is_absent(analyst, table, column):
    with pytest.raises(duckdb.BinderException):
        analyst.execute(f"SELECT {column} FROM {table}")
    assert analyst.execute(
        "SELECT is_available FROM catalog_columns WHERE table_name = ? AND column_name = ?", [table, column]
    ).fetchall() in ([(False,)], []), "the catalogue may say that it exists, never that it can be read"


def test_every_l4_column_is_absent_and_there_are_some(analyst):
    rows = analyst.execute("SELECT is_available FROM catalog_columns WHERE grade = 'L4'").fetchall()
    assert len(rows) >= 4
    assert not any(available for (available,) in rows)


def test_persons_have_an_analyst_token_that_joins(analyst, served):
    (checkin_tokens,) = analyst.execute("SELECT list(DISTINCT phone_token) FROM ods_fitness__checkin").fetchall()[0]
    (booking_tokens,) = analyst.execute("SELECT list(DISTINCT person_phone_token) FROM ods_venue__booking").fetchall()[
        0
    ]
    assert len(checkin_tokens) == 1
    assert checkin_tokens == booking_tokens, "the same person can be joined across tables"
    assert not set(checkin_tokens) & set(served.stored_tokens), "and matches no token outside this file"


def test_person_times_are_cut_to_the_hour_and_ages_to_bands(analyst):
    rows = analyst.execute("SELECT scanned_at, age_band FROM ods_fitness__checkin ORDER BY 1").fetchall()
    assert [(at.hour, at.minute, at.second) for at, _ in rows] == [(9, 0, 0)] * 2, "01:23 UTC is 09 o'clock in Shanghai"
    assert {band for _, band in rows} == {"30-39岁"}
    (at,) = analyst.execute("SELECT sampled_at FROM ods_training__activity_sample").fetchall()[0]
    assert (at.minute, at.second) == (0, 0)


def test_no_canary_in_any_byte_of_the_serving_files(served):
    files = [path for path in (served.home / "serving").rglob("*") if path.is_file() and path.suffix == ".duckdb"]
    audiences = [policy.audience(name) for name in policy.served()]
    assert len(files) == sum(len(who.scope.codes()) if who.scope else 1 for who in audiences) > 16
    needles = [
        served.canaries.id_no,
        served.canaries.phone,
        served.canaries.name,
        served.canaries.athlete,
        *served.stored_tokens,
    ]
    for file in files:
        data = file.read_bytes()
        assert len(data) > 10_000
        for needle in needles:
            assert needle.encode() not in data, f"{needle} in {file.name}"


def test_the_needle_search_can_find_something(served):
    """Guard of the guard: what a file does hold is found by the same search."""
    data = (served.home / "serving" / "analyst.duckdb").read_bytes()
    assert "演示数据，非真实统计".encode() in data


def test_the_cockpit_file_holds_no_person_level_table(served):
    con = serving.connect("cockpit")
    try:
        names = {row[0] for row in con.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()}
    finally:
        con.close()
    assert not {name for name in names if name.startswith(("ods_", "dwd_"))}
