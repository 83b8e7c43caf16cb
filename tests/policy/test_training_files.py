"""Files with training data of persons: science staff see pseudonyms of their own, a coach the own squad with names and numbers,
and no key leads from one audience's file to another's."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import duckdb
import polars as pl
import pytest

from catalog import policy
from catalog.policy import replaced
from dags.verbs import publish_serving
from lake import ledger, tables
from lake.errors import TiyuError
from protection import keys, tokens
from sharing import serving
from tests.policies import changed
from tests.policy.conftest import append
from tests.unit.dashboards import squad_data

pytestmark = pytest.mark.policy

ATHLETES = ("SHA900901", "SHA900902", "SHA900903")
DAY = date(2026, 11, 17)
STARTED = datetime(2026, 11, 17, 1, 23, 45, tzinfo=UTC)
BEATS = (151, 83, 167)
LNG = 121.4737
SQUAD_TABLES = ("ads_training__squad_session", "ads_training__squad_week", "dim_squad_member")
SQUADS = policy.current().row_scopes["own_squad"].codes()
ID_LENGTH = 20
"""Tokens, digests and numbers of records are longer than this; codes and units are shorter."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Three athletes with an activity each, as the lake holds them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("TIYU_HOME", str(tmp_path_factory.mktemp("training") / "home"))
        patch.setenv("TIYU_TODAY", "2026-11-20")
        patch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")
        keys.ensure()
        fill()
        for table in SQUAD_TABLES:
            store(table, invented(table))
        publish_serving(["analyst", "science", "coach"])
        yield patch


def store(table: str, frame: pl.DataFrame) -> None:
    """Make rows the checked state of a lake table."""
    tables.replace_table(table, frame)
    ledger.set_checked_version(table, tables.version(table), "test")


def invented(table: str) -> pl.DataFrame:
    """The rows of a table of the invented squads, with the lake's instants."""
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(squad_data.SCRIPT)
        schema = tables.layer_of(table)
        instants = "REPLACE (started_at AT TIME ZONE 'Asia/Shanghai' AS started_at)" if table == SQUAD_TABLES[0] else ""
        return con.execute(f"SELECT * {instants} FROM {schema}.{table}").pl()


def activity(number: int) -> str:
    return f"{number:032x}"


def fill() -> None:
    append(
        "ods_training__activity",
        [
            {
                "activity_id": activity(n), "athlete_token": tokens.token("athlete_no", athlete), "file_format": "fit",
                "sport_code": "running", "started_at": STARTED + timedelta(hours=n), "max_hr_bpm": 187 + n, "part_date": DAY,
            }
            for n, athlete in enumerate(ATHLETES)
        ],
    )  # fmt: skip
    append(
        "ods_training__activity_sample",
        [
            {
                "activity_id": activity(n), "sample_no": k, "sampled_at": STARTED + timedelta(hours=n, seconds=5 * k),
                "heart_rate_bpm": beats + n, "lng": LNG, "lat": 31.2, "part_date": DAY,
            }
            for n in range(len(ATHLETES))
            for k, beats in enumerate(BEATS)
        ],
    )  # fmt: skip
    append("ods_venue__booking", [{"booking_id": "k1", "venue_id": "V310101-001", "part_date": DAY}])


def identifiers(audience: str, scope: str | None = None) -> set[str]:
    """Every long text of every table of a file, the catalogue's own tables aside."""
    found: set[str] = set()
    with duckdb.connect(str(serving.file_of(audience, scope)), read_only=True) as con:
        columns = con.execute(
            "SELECT schema_name, table_name, column_name FROM duckdb_columns()"
            " WHERE NOT internal AND schema_name <> 'main' AND data_type = 'VARCHAR'"
        ).fetchall()
        for schema, table, column in columns:
            rows = con.execute(
                f'SELECT DISTINCT "{column}" FROM {schema}."{table}" WHERE length("{column}") >= {ID_LENGTH}'
            )
            found |= {row[0] for row in rows.fetchall()}
    return found


def rows(statement: str) -> list[tuple]:
    con = serving.connect("science", surface="sql_lab")
    try:
        return con.execute(statement).fetchall()
    finally:
        con.close()


def test_science_staff_see_training_of_persons_without_names_and_places(lake):
    listed = {row[0] for row in rows("SELECT table_name FROM main.catalog_tables")}
    assert listed == {"ods_training__activity", "ods_training__activity_sample"}
    assert rows("SELECT count(DISTINCT athlete_token), max(max_hr_bpm) FROM ods_training__activity") == [(3, 189)]
    joined = "FROM ods_training__activity a JOIN ods_training__activity_sample s USING (activity_id)"
    assert rows(f"SELECT count(*), sum(heart_rate_bpm) {joined}") == [(9, 3 * sum(BEATS) + 3 * (0 + 1 + 2))]
    assert rows("SELECT DISTINCT minute(sampled_at), second(sampled_at) FROM ods_training__activity_sample") == [(0, 0)]
    held = {row[0] for row in rows("SELECT column_name FROM duckdb_columns() WHERE schema_name = 'ods'")}
    assert not held & {"lng", "lat", "_source_object", "_batch_id", "_record_no", "_ingested_at"}
    assert {"heart_rate_bpm", "sample_no", "athlete_token", "activity_id", "part_date"} <= held


def test_no_key_leads_from_one_file_to_the_other(lake):
    science, analyst = identifiers("science"), identifiers("analyst")
    assert len(science) == 2 * len(ATHLETES), "a token for each athlete and for each activity"
    assert len(analyst) > 2 * len(ATHLETES)
    assert not science & analyst
    stored = {tokens.token("athlete_no", athlete) for athlete in ATHLETES}
    assert not (science | analyst) & stored


#: What keeps the two files apart → the policy without it, or a key that is not its own.
JOINS = {
    "activity_id": ("audiences.science.columns", [{"column": "_source_object", "treatment": "absent", "reason": "x"}]),
    "_source_object": ("audiences.science.columns", [{"column": "activity_id", "treatment": "token", "reason": "x"}]),
}


@pytest.mark.parametrize("left_out", sorted(JOINS))
def test_a_record_number_left_in_is_found_as_a_key(lake, left_out):
    with replaced(changed(JOINS[left_out])):
        publish_serving(["science"])
        assert identifiers("science") & identifiers("analyst")
    publish_serving(["science"])
    assert not identifiers("science") & identifiers("analyst")


def test_one_key_for_both_files_is_found_as_a_join_on_the_person(lake, monkeypatch):
    class Shared:
        def __init__(self) -> None:
            self.own = keys.provider()

        def current(self, purpose):
            return self.own.current("analyst" if purpose == "science" else purpose)

        def get(self, purpose, kid):
            return self.own.get(purpose, kid)

    shared = Shared()
    with monkeypatch.context() as patch:
        patch.setattr(keys, "provider", lambda: shared)
        publish_serving(["science"], full=True)
    persons = {tokens.token("token", tokens.token("athlete_no", a) or "", purpose="analyst") for a in ATHLETES}
    assert identifiers("science") & identifiers("analyst") == persons
    publish_serving(["science"], full=True)
    assert not identifiers("science") & identifiers("analyst")


PROTECTED = {
    "coordinate": ("audiences.science.kinds.coordinate", "plain", "lng"),
    "other domains": ("audiences.science.tables", ["ods_training__", "ods_venue__"], "venue_id"),
}


@pytest.mark.parametrize("name", sorted(PROTECTED))
def test_it_is_the_policy_that_keeps_them_out(lake, name):
    path, value, column = PROTECTED[name]

    def held() -> set[str]:
        publish_serving(["science"])
        return {row[0] for row in rows("SELECT column_name FROM duckdb_columns() WHERE schema_name = 'ods'")}

    assert column not in held()
    with replaced(changed((path, value))):
        assert column in held()
    assert column not in held()


def test_every_audience_with_tokens_has_a_key_of_its_own(lake):
    provider = keys.provider()
    served = [name for name, who in policy.current().audiences.items() if who.file and "token" in who.kinds.values()]
    assert {"analyst", "science", "coach"} <= set(served)
    made = {tokens.token("token", "x", purpose=name) for name in served}
    assert len(made) == len(served) == len({provider.current(name)[1] for name in served})


# ------------------------------------------------------------------ coaches
def squad_rows(code: str, statement: str) -> list[tuple]:
    con = serving.connect("coach", code, surface="cockpit")
    try:
        return con.execute(statement).fetchall()
    finally:
        con.close()


def foreign(code: str) -> tuple[list[str], int]:
    """(places of a squad's file that name another squad by code or name, values examined)."""
    words = "|".join(word for other, name in SQUADS.items() if other != code for word in (other, name))
    found, examined = [], 0
    with duckdb.connect(str(serving.file_of("coach", code)), read_only=True) as con:
        columns = con.execute(
            "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE NOT internal AND data_type = 'VARCHAR'"
        ).fetchall()
        for schema, table, column in columns:
            hits, seen = con.execute(
                f'SELECT count(*) FILTER (regexp_matches("{column}", ?)), count("{column}") FROM {schema}."{table}"', [words]
            ).fetchall()[0]  # fmt: skip
            examined += seen
            found += [f"{table}.{column}"] if hits else []
    return found, examined


def test_every_coach_has_the_own_squad_whole_and_nothing_else(lake):
    assert len(SQUADS) == 6
    compared = 0
    for code in SQUADS:
        found, examined = foreign(code)
        assert found == [], code
        assert examined > 500
        for table in SQUAD_TABLES:
            wanted = invented(table).filter(pl.col("squad_code") == code).height
            assert squad_rows(code, f"SELECT count(*) FROM {table}") == [(wanted,)], (code, table)
            assert squad_rows(code, f"SELECT DISTINCT squad_code FROM {table}") == [(code,)]
            compared += wanted
        listed = {row[0] for row in squad_rows(code, "SELECT table_name FROM main.catalog_tables")}
        assert listed == set(SQUAD_TABLES), "no ODS, no DWD, no other domain"
    assert compared > 500


def test_a_coach_knows_the_members_and_the_exact_time(lake):
    members = squad_rows("SQ01", "SELECT member_no, athlete_name FROM dim_squad_member ORDER BY 1")
    assert [row[0] for row in members] == list(range(1, squad_data.MEMBERS + 1))
    assert all(name.endswith("*") for _, name in members), "nobody delivered these, so there is no name to read again"
    started = squad_rows(
        "SQ01", "SELECT count(DISTINCT minute(started_at)), min(avg_hr_bpm) FROM ads_training__squad_session"
    )
    assert started[0][0] > 5
    assert started[0][1] >= 130


def test_no_key_of_a_coach_s_file_is_in_another_file(lake):
    own = {code: identifiers("coach", code) for code in SQUADS}
    assert all(len(found) > squad_data.MEMBERS for found in own.values())
    others = identifiers("analyst") | identifiers("science")
    stored = {value for table in SQUAD_TABLES for value in invented(table)["athlete_token"]}
    for code, found in own.items():
        assert not found & others, code
        assert not found & stored, code
    with replaced(changed(("audiences.coach.columns", []))):
        publish_serving(["coach"])
        assert identifiers("coach", "SQ01") & others, "the session's number, which the analyst has too"
    publish_serving(["coach"])
    assert not identifiers("coach", "SQ01") & others


def test_nobody_else_sees_numbers_and_names_of_members(lake):
    from sharing.serving import describe
    from sharing.serving import policy as serving_policy

    asked = 0
    for table in (*SQUAD_TABLES, "ods_training__athlete"):
        for column in ("member_no", "athlete_name"):
            known = describe.columns()[table][column]
            for name in serving_policy.served():
                shown = policy.decide_file(name, known, person_level=True).treatment
                allowed = name == "coach" and table in SQUAD_TABLES
                assert shown == ("plain" if allowed else "absent"), (name, table, column)
                asked += 1
    assert asked == 4 * 2 * 5
    with duckdb.connect(str(serving.file_of("analyst")), read_only=True) as con:
        held = {row[0] for row in con.execute(
            "SELECT column_name FROM duckdb_columns() WHERE table_name = 'dim_squad_member'").fetchall()}  # fmt: skip
    assert "squad_code" in held
    assert not held & {"member_no", "athlete_name"}


def test_a_member_of_no_declared_squad_is_in_nobody_s_file_and_counted(lake):
    whole = invented("dim_squad_member")
    stray = whole.head(2).with_columns(
        pl.Series("squad_code", [None, "SQ99"], dtype=pl.String), pl.lit(777).cast(pl.Int32).alias("member_no")
    )
    store("dim_squad_member", pl.concat([whole, stray]))
    try:
        report = publish_serving(["coach"])
        assert {file.unscoped["dim_squad_member"] for file in report.files} == {2}
        for code in SQUADS:
            assert squad_rows(code, "SELECT count(*) FROM dim_squad_member WHERE member_no = 777") == [(0,)]
    finally:
        store("dim_squad_member", whole)
        publish_serving(["coach"])


def test_the_scan_sees_a_table_that_the_policy_gives_whole(lake):
    opened = ("row_scopes.own_squad.tables.dim_squad_member", {"all": True, "reason": "test"})
    with replaced(changed(opened)):
        publish_serving(["coach"])
        assert "dim_squad_member.squad_code" in foreign("SQ03")[0]
    publish_serving(["coach"])
    assert foreign("SQ03")[0] == []


@pytest.mark.parametrize("scope", [None, "SQ99", "310104", "sq01", "../analyst"])
def test_an_unknown_squad_is_refused(lake, scope):
    with pytest.raises(TiyuError) as caught:
        serving.connect("coach", scope, surface="cockpit")
    assert caught.value.code == "TIYU-SRV-0004"


def test_a_coach_may_not_ask_in_sql(lake):
    with pytest.raises(TiyuError) as caught:
        serving.connect("coach", "SQ01", surface="sql_lab")
    assert caught.value.code == "TIYU-SRV-0006"
