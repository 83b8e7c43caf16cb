"""The ten KPIs equal the ground truth of the simulated city, after the real way: ingest, gate, layers, gate."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

import city as city_module

from lake import ledger, query, tables

pytestmark = [pytest.mark.data, pytest.mark.integration]

KEYS = ["kpi_code", "variant_code", "period_type", "period_start_date", "district_code"]
#: D-06 is a property of the platform, not of the city.
IN_TRUTH = {"V-04", "V-05", "V-06", "V-07", "E-01", "E-03", "F-01", "R-03", "D-02"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The tiny city brought all the way to checked ADS tables, once."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("truth")
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
        patch.delenv(name, raising=False)
    patch.setenv("TIYU_HOME", str(folder / "home"))
    patch.setenv("TIYU_TODAY", "2026-11-20")
    patch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")
    from protection import keys

    keys.ensure()
    city = city_module.generate(folder / "city")
    with city_module.connected(city, patch):
        run_everything()
    yield city
    patch.undo()


def run_everything() -> None:
    """What the DAGs do, in their order."""
    from catalog import contracts
    from catalog.publish import publish_reference
    from ingestion.catch_up import catch_up
    from ingestion.run import ingest
    from modeling.run import LAYERS, build
    from quality.gate import run_gate
    from quality.ops import publish_ops

    for resource in city_module.RESOURCES:
        ingest(resource)
        assert run_gate([obj.table for obj in contracts.load(resource).objects]).examined > 0, resource
    others = sorted(set(contracts.fetched()) - set(city_module.RESOURCES))
    assert len(catch_up(others).sources) == len(others) > 0
    publish_reference()
    publish_ops()
    for layer in LAYERS:
        build(layer)
    run_gate([name for name in tables.all_tables() if tables.layer_of(name) == "ads"])


def checked(name: str) -> pl.DataFrame:
    con = query.connect()
    assert query.register(con, name, "checked") is not None, f"{name} has no checked version"
    return con.execute(f"select * from {name}").pl()


def truth_of(city) -> pl.DataFrame:
    """Truth of whole periods and of the month that began before the data does."""
    parts = [
        pl.read_csv(
            city.folder / "truth" / name,
            try_parse_dates=True,
            schema_overrides={"district_code": pl.String, "variant_code": pl.String},
        )
        for name in ("kpi.csv", "kpi_partial.csv")
    ]
    return pl.concat(parts, how="diagonal_relaxed").with_columns(pl.col("variant_code").fill_null(""))


K_INTERNAL = 5


def shown(truth: pl.DataFrame) -> pl.DataFrame:
    """The truth as the platform may show it: fewer than five persons have no number."""
    few = (pl.col("kpi_code") == "F-01") & (pl.col("value") < K_INTERNAL)
    figures = ("numerator", "value")
    return truth.with_columns(pl.when(few).then(None).otherwise(pl.col(c)).alias(c) for c in figures)


def test_kpis_equal_the_truth(built):
    truth = shown(truth_of(built))
    ours = checked("ads_cockpit__kpi").with_columns(pl.col("variant_code").fill_null(""))
    assert set(truth["kpi_code"]) == IN_TRUTH
    both = truth.join(ours, on=KEYS, how="left", suffix="_ours", coalesce=True)
    assert both.height == truth.height > 500
    columns = ["numerator", "denominator", "value"]
    wrong = both.filter(
        pl.any_horizontal(
            pl.col(f"{c}_ours").is_null() & pl.col(c).is_not_null()
            | pl.col(f"{c}_ours").is_not_null()
            & pl.col(c).is_null()
            & (pl.col("kpi_code") == "F-01")
            & (c != "denominator")
            | ((pl.col(c) - pl.col(f"{c}_ours")).abs() > 1e-9).fill_null(False)
            for c in columns
        )
    )
    assert wrong.is_empty(), wrong.select([*KEYS, *columns, *(f"{c}_ours" for c in columns)]).head(5)


def test_no_kpi_row_claims_a_day_the_truth_does_not_know(built):
    truth = truth_of(built)
    ours = checked("ads_cockpit__kpi").filter(
        pl.col("kpi_code").is_in(["V-05", "V-06", "R-03"]) & (pl.col("denominator") > 0)
    )
    extra = ours.join(truth, on=["kpi_code", "period_start_date", "district_code"], how="anti")
    assert ours.height > 100
    assert extra.is_empty(), extra.head(5)


def test_daily_visits_equal_the_truth(built):
    truth = pl.read_csv(
        built.folder / "truth" / "daily_visits.csv", try_parse_dates=True, schema_overrides={"district_code": pl.String}
    )
    ours = checked("ads_cockpit__district_day").filter(pl.col("visit_count") > 0)
    days = (pl.col("part_date") < pl.date(2026, 11, 20)) & (pl.col("district_code") != "310000")
    both = truth.filter(days).join(ours, on=["part_date", "district_code"], how="left")
    assert both.height > 50
    assert both.filter(pl.col("visits") != pl.col("visit_count").fill_null(0)).is_empty()


def test_the_planned_incidents_are_the_alerts(built):
    alerts = checked("ads_supervision__alert").filter(pl.col("rule_code").is_in(["AL-03", "AL-10"]))
    assert set(alerts["rule_code"]) == {"AL-03", "AL-10"}
    assert alerts.filter((pl.col("rule_code") == "AL-03") & (pl.col("status") == "open")).height >= 1
    assert alerts["owner_name"].null_count() == alerts["deadline_at"].null_count() == 0


def test_the_sentence_about_alerts_says_whether_the_deadline_has_passed(built):
    """Of every scope: the first open alert's deadline, against the business clock."""
    sentences = checked("ads_cockpit__headline").filter(pl.col("position") == 3)
    told = sentences.filter(pl.col("sentence").str.contains("前处置"))
    assert told.height > 3
    day_and_time = pl.col("sentence").str.extract(r"[请应]于 (\d\d-\d\d \d\d:\d\d) 前处置")
    deadline = (pl.lit("2026-") + day_and_time).str.to_datetime("%Y-%m-%d %H:%M")
    as_of = pl.col("as_of_at").dt.convert_time_zone("Asia/Shanghai").dt.replace_time_zone(None)
    judged = told.with_columns(
        (deadline < as_of).alias("late"), pl.col("sentence").str.contains("，已超期").alias("said")
    )
    assert judged["late"].null_count() == 0
    assert judged.filter(pl.col("late") != pl.col("said")).is_empty(), judged["sentence"].to_list()
    assert judged["late"].any(), "nothing is late in this city: the test sees one side only"


def test_squads_have_their_members_and_the_sessions_of_their_time_in_the_squad(built):
    from protection import tokens
    from simulation.city import build_city
    from simulation.sizes import SIZES
    from simulation.squads import memberships

    truth = pl.read_csv(built.folder / "truth" / "squads.csv")
    members = checked("dim_squad_member").filter(pl.col("is_current"))
    counted = members.group_by("squad_code").len()
    assert dict(counted.iter_rows()) == dict(truth.iter_rows())
    assert truth["members"].sum() >= 18
    spans = pl.DataFrame(
        [
            {"athlete_token": tokens.token("athlete_no", m.athlete_no), "squad_code": m.squad, "joined": m.joined, "left": m.left}
            for m in memberships(build_city(SIZES["tiny"], city_module.SEED))
        ]
    )  # fmt: skip
    sessions = checked("dwd_training__session").select("session_id", "athlete_token", "part_date")
    there = (pl.col("joined") <= pl.col("part_date")) & (
        pl.col("left").is_null() | (pl.col("part_date") <= pl.col("left"))
    )
    expected = sessions.join(spans, on="athlete_token").filter(there).select("squad_code", "session_id")
    ours = checked("ads_training__squad_session")
    assert sorted(ours.select("squad_code", "session_id").iter_rows()) == sorted(expected.iter_rows())
    assert ours.height > 30
    weeks = checked("ads_training__squad_week")
    assert weeks["session_count"].sum() == ours.height
    assert ours["athlete_name"].str.ends_with("*").all()


def test_every_source_has_its_true_rows_its_copies_and_its_bad_rows(built):
    """Accepted, duplicate and quarantined of every source are what the city says it sent."""
    rows = {row["resource"]: row for row in checked("ops_ingest__freshness").iter_rows(named=True)}
    truth = built.truth("counts")
    assert set(rows) == set(truth)
    wrong = {}
    for name, sent in truth.items():
        ours = tuple(rows[name][f"{kind}_count"] for kind in ("accepted", "duplicate", "quarantined"))
        copies = sent["duplicate_records"] - sent["duplicate_objects"]  # a whole file seen before is not decoded again
        if ours != (sent["distinct_true_records"], copies, sent["bad_records"]):
            wrong[name] = (ours, sent)
    assert not wrong


def test_record_sources_hold_exactly_the_true_records(built):
    """Not only as many: the same keys, by the truth that was written before any dirt."""
    from catalog import contracts
    from simulation.records.all import FEEDS

    examined = 0
    for feed in FEEDS:
        obj = contracts.load(feed.resource).root
        kept = [
            p for p in obj.properties if p.name in obj.dedup and p.source_name and not p.protection and not p.code_list
        ]
        plain = [p for p in kept if p.type == "VARCHAR"]
        if not plain:
            continue
        lines = [
            json.loads(line)
            for path in sorted((built.folder / "truth" / "records" / feed.resource).glob("*.ndjson"))
            for line in path.read_text("utf-8").splitlines()
        ]
        true = sorted({tuple(str(row[p.source_name]) for p in plain) for row in lines})
        ours = checked(obj.table).select([p.name for p in plain]).unique().sort([p.name for p in plain])
        assert sorted(ours.iter_rows()) == true, feed.resource
        examined += len(true)
    assert examined > 500


def test_books_balance(built):
    from quality.reconcile import reconcile

    report = reconcile()
    assert report.ok, report.rows
    assert report.examined >= 8


def test_running_everything_again_commits_nothing(built, monkeypatch):
    before = {name: tables.version(name) for name in tables.all_tables()}
    checked_before = ledger.checked_versions()
    from modeling.run import LAYERS, build

    for layer in LAYERS:
        build(layer)
    after = {name: tables.version(name) for name in tables.all_tables()}
    assert after == before
    assert ledger.checked_versions() == checked_before


def test_official_figures_are_all_there_beside_the_kpis_that_name_them(built):
    from catalog import kpis
    from simulation.records.reference import FIGURES

    published = {
        (code, year): (float(value), unit, note)
        for code, _, unit, note, _, values, _ in FIGURES
        for year, value in values.items()
    }
    rows = checked("ads_cockpit__official_figure")
    found = {
        (code, year): (value, unit, note)
        for code, year, value, unit, note in rows.select("indicator_code", "figure_year", "value", "unit", "method_note").iter_rows()
    }  # fmt: skip
    assert found == published
    declared = {(v.published, k.code, v.code) for k in kpis.load_all().values() for v in k.rows() if v.published}
    beside = rows.filter(pl.col("kpi_code").is_not_null()).select("indicator_code", "kpi_code", "variant_code")
    assert set(beside.iter_rows()) == declared
    assert len(declared) >= 2, "a KPI names a figure that nobody publishes, or none does"
