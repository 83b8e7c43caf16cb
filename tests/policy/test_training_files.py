"""Files with training data of persons: science staff see pseudonyms of their own, and no key leads to another audience's file."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import duckdb
import pytest

from catalog import policy
from catalog.policy import replaced
from protection import keys, tokens
from sharing import serving
from sharing.serving.publish import publish_serving
from tests.policies import changed
from tests.policy.conftest import append

pytestmark = pytest.mark.policy

ATHLETES = ("SHA900901", "SHA900902", "SHA900903")
DAY = date(2026, 11, 17)
STARTED = datetime(2026, 11, 17, 1, 23, 45, tzinfo=UTC)
BEATS = (151, 83, 167)
LNG = 121.4737
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
        publish_serving(["analyst", "science"])
        yield patch


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
    tables = {row[0] for row in rows("SELECT table_name FROM main.catalog_tables")}
    assert tables == {"ods_training__activity", "ods_training__activity_sample"}
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
    assert {"analyst", "science"} <= set(served)
    made = {tokens.token("token", "x", purpose=name) for name in served}
    assert len(made) == len(served) == len({provider.current(name)[1] for name in served})
