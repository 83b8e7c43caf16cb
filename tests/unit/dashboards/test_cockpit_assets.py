"""The asset bundle: deterministic, complete, Chinese, and in step with the tables it reads."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
import yaml

from dashboards import assets, cockpit, model
from tests.unit.dashboards import cockpit_data, squad_data

REPO = Path(__file__).resolve().parents[3]
ZONED = ("timestamptz", "timestamp with time zone")
CJK = re.compile(r"[\u4e00-\u9fff]")
ALL = assets.dashboards()
CHARTS = list({chart.key: chart for dashboard in ALL for chart in dashboard.charts()}.values())
DATASETS = assets.datasets()
by_key = pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.key)
by_card = pytest.mark.parametrize("chart", [c for c in CHARTS if c.viz == "handlebars"], ids=lambda chart: chart.key)
by_dataset = pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.key)


@pytest.fixture(scope="module")
def serving():
    """A serving file in memory, with invented figures."""
    connection = duckdb.connect()
    connection.execute(cockpit_data.SCRIPT)
    connection.execute(squad_data.SCRIPT)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def declared_serving():
    """An empty serving file made from the declarations of the tables' owners (dbt models, reference tables)."""
    from catalog import publish

    connection = duckdb.connect()
    count = 0
    files = [
        (layer, file)
        for layer in ("ads", "dim")
        for file in sorted((REPO / "dbt_project/models" / layer).rglob("*.yml"))
    ]
    for layer, file in files:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {layer}")
        for entry in yaml.safe_load(file.read_text("utf8")).get("models", []):
            # A serving file holds times as Shanghai local time without a zone.
            columns = ", ".join(
                f'"{c["name"]}" {"TIMESTAMP" if c["data_type"] in ZONED else c["data_type"]}' for c in entry["columns"]
            )
            connection.execute(f"CREATE TABLE {layer}.{entry['name']} ({columns})")
            count += 1
    assert count >= 7
    kpis = next(table for table in publish.TABLES if table.name == "ods_reference__kpi")
    fields = {"kpi_definitions": [column.name for column in kpis.columns], "catalog_notice": ["name", "text"]}
    fields |= {"catalog_scope": ["scope_code", "scope_name"]}
    for table, names in fields.items():
        types = [f"{name} {'DOUBLE' if name == 'target' else 'VARCHAR'}" for name in names]
        connection.execute(f"CREATE TABLE {table} ({', '.join(types)})")
    yield connection
    connection.close()


def described(connection, dataset):
    query = dataset.query() or f"SELECT * FROM {dataset.schema}.{dataset.table}"
    return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {query}").fetchall()}


def test_bundle_is_deterministic():
    first, second = assets.build(), assets.build()
    assert list(first) == list(second)
    assert first == second
    assert assets.archive(first) == assets.archive(second)
    with zipfile.ZipFile(io.BytesIO(assets.archive(first))) as container:
        assert len(container.namelist()) == len(first) > 40


def test_uuids_are_stable_and_unique():
    found = [c.uuid for c in CHARTS] + [d.uuid for d in DATASETS] + assets.dashboard_uuids()
    found += [assets.COCKPIT_DATABASE_UUID, assets.ANALYST_DATABASE_UUID]
    assert len(found) == len(set(found)) > 40
    # A changed uuid would make every deployed object stale: these two are fixed for ever.
    assert model.key_uuid("dashboard", "cockpit") == "dc71fa06-eb2d-5c12-b74e-fcff9fa77668"
    assert model.key_uuid("database", "analyst") == "441c04d5-23cb-5056-9a58-93ea99104ab4"


@by_key
def test_chart_names_only_columns_and_metrics_of_its_dataset(chart):
    columns = {column.name for column in chart.dataset.columns}
    metrics = {metric.name for metric in chart.dataset.metrics}
    used = assets.chart_columns(chart)
    assert used
    assert used <= columns
    assert assets.chart_metrics(chart) <= metrics


def test_the_column_check_can_fail():
    """The check above would notice a column that is not there."""
    chart = next(chart for chart in CHARTS if chart.key == "district_rank")
    broken = replace(chart, params={**chart.params, "x_axis": "no_such_column"})
    assert not assets.chart_columns(broken) <= {column.name for column in chart.dataset.columns}
    broken = replace(chart, params={**chart.params, "metrics": ["no_such_metric"]})
    assert not assets.chart_metrics(broken) <= {metric.name for metric in chart.dataset.metrics}


@by_card
def test_handlebars_template_uses_only_selected_columns(chart):
    text = chart.params["handlebarsTemplate"]
    names = set(re.findall(r"\{\{\{?(?:#(?:if|unless) )?([a-z][a-z_]*)\}\}\}?", text)) - {"else"}
    assert names
    assert names <= set(chart.params["all_columns"])
    assert "\n" not in text
    assert "style=" not in text
    assert "<script" not in text


@by_dataset
def test_dataset_has_the_columns_it_declares(serving, dataset):
    found = described(serving, dataset)
    wanted = {column.name for column in dataset.columns}
    assert wanted <= set(found)
    for metric in dataset.metrics:
        source = f"({dataset.query()})" if dataset.sql else f"{dataset.schema}.{dataset.table}"
        value = serving.execute(f"SELECT {metric.expression} FROM {source} AS t").fetchone()
        assert value is not None


@by_dataset
def test_dataset_fits_the_declared_tables(declared_serving, dataset):
    """Drift check: the query binds to the tables as dbt and the catalogue declare them."""
    assert {column.name for column in dataset.columns} <= set(described(declared_serving, dataset))


def test_everything_on_screen_is_chinese():
    texts = [chart.title for chart in CHARTS] + [page.title for dashboard in ALL for page in dashboard.pages]
    texts += [item.title for dataset in DATASETS for item in (*dataset.columns, *dataset.metrics)]
    texts += [dataset.title for dataset in DATASETS]
    texts += [text for dashboard in ALL for text in (dashboard.title, dashboard.description)]
    assert len(texts) > 100
    assert [text for text in texts if not CJK.search(text)] == []


def test_pages_hold_at_most_twelve_cards_and_fill_the_grid():
    for page in [page for dashboard in ALL for page in dashboard.pages]:
        assert 1 <= sum(len(row) for row in page.rows) <= 12
        for row in page.rows:
            assert sum(width for _, width, _ in row) == 12
    assert len(CHARTS) >= 10


def test_no_si_abbreviations_and_no_dashboard_colour_scheme():
    text = json.dumps([chart.params for chart in CHARTS]) + json.dumps([m.format for d in DATASETS for m in d.metrics])
    assert "~s" not in text
    assert "SMART_NUMBER" not in text
    for dashboard in ALL:
        metadata = yaml.safe_load(assets.build()[f"dashboards/{dashboard.slug}.yaml"])["metadata"]
        assert "color_scheme" not in metadata


def test_filters_reach_trends_and_not_the_latest_state():
    loaded = yaml.safe_load(assets.build()["dashboards/cockpit.yaml"])
    numbers = {
        item["meta"]["uuid"]: item["meta"]["chartId"]
        for item in loaded["position"].values()
        if isinstance(item, dict) and item.get("type") == "CHART"
    }
    names = {numbers[chart.uuid]: chart.key for chart in cockpit.COCKPIT.charts()}
    assert len(names) == len(cockpit.COCKPIT.charts())
    time, district = loaded["metadata"]["native_filter_configuration"]
    kept_from_time = {names[number] for number in time["scope"]["excluded"]}
    kept_from_district = {names[number] for number in district["scope"]["excluded"]}
    latest = {
        "headline",
        "tiles",
        "governance",
        "populations",
        "severity",
        "freshness",
        "definitions",
        "official_figure",
        "banner",
        "notes",
    }
    assert latest <= kept_from_time
    assert latest == kept_from_district
    assert {"alert_queue", "alert_table"} == kept_from_time - latest
    for chart in CHARTS:
        columns = {column.name for column in chart.dataset.columns}
        operators = {item["operator"] for item in chart.params.get("adhoc_filters", [])}
        assert chart.time_scoped == ("TEMPORAL_RANGE" in operators), chart.key
        assert not chart.district_scoped or "district_name" in columns, chart.key
    assert district["controlValues"]["creatable"] is False


def test_assets_hold_no_path_no_secret_and_are_managed():
    bundle = assets.build()
    text = "\n".join(bundle.values())
    assert "/tmp" not in text
    assert "password" not in text.lower()
    assert yaml.safe_load(bundle["databases/cockpit.yaml"])["sqlalchemy_uri"] == "duckdb:///cockpit"
    managed = [name for name in bundle if name.split("/")[0] in ("charts", "datasets", "dashboards")]
    assert len(managed) == len(CHARTS) + len(DATASETS) + len(ALL)
    assert all(yaml.safe_load(bundle[name])["is_managed_externally"] for name in managed)


def test_saved_queries_are_chinese_and_answer_a_question():
    found = list(assets.saved_queries())
    assert len(found) >= 5
    assert len({item["uuid"] for item in found}) == len(found)
    for item in found:
        assert CJK.search(item["label"]), item
        assert item["description"], item
        assert "SELECT" in item["sql"]


def test_a_squad_s_queries_show_the_squad_with_numbers_and_no_name(tmp_path):
    squad_data.build(tmp_path)
    scoped = [dataset for dataset in DATASETS if dataset.uuid in assets.scoped_dataset_uuids("squad_code")]
    assert {dataset.key for dataset in scoped} == {"squad_note", "squad_member", "squad_week", "squad_session"}
    with duckdb.connect(str(tmp_path / "coach_SQ02.duckdb"), read_only=True) as connection:
        for dataset in scoped:
            assert connection.execute(f"SELECT DISTINCT squad_code FROM ({dataset.query()})").fetchall() == [("SQ02",)]
        query = next(dataset for dataset in scoped if dataset.key == "squad_member").query()
        members = connection.execute(f"SELECT member_no, athlete_name, load_ratio FROM ({query}) ORDER BY 1").fetchall()
        assert [row[0] for row in members] == list(range(1, squad_data.MEMBERS)), "who left is no member"
        assert all(row[1].endswith("*") for row in members)
        week, before = connection.execute(
            "SELECT any_value(edwards_load) FILTER (week_start_date = DATE '2026-11-16'),"
            " avg(edwards_load) FILTER (week_start_date BETWEEN DATE '2026-10-19' AND DATE '2026-11-09')"
            " FROM ads.ads_training__squad_week WHERE member_no = ?", [members[0][0]]).fetchone()  # fmt: skip
        assert members[0][2] == (None if week is None or before is None else round(week / before, 2))
        assert sum(row[2] is not None for row in members) >= 4


# ---------------------------------------------------------------- what the queries say
def rows(connection, key):
    dataset = next(dataset for dataset in DATASETS if dataset.key == key)
    cursor = connection.execute(f"SELECT * FROM ({dataset.query()}) ORDER BY position")
    names = [item[0] for item in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_tiles_state_as_of_coverage_target_and_expiry(serving):
    tiles = {
        row["kpi_code"] + (row["title"] if row["kpi_code"] == "V-06" else ""): row for row in rows(serving, "kpi_card")
    }
    assert len(tiles) == 11
    for tile in tiles.values():
        assert "11月20日 12:00" in tile["as_of_text"]
        assert tile["coverage_text"].startswith("覆盖 ")
    assert tiles["E-01"]["expired_text"] == "目标期已结束"
    assert tiles["E-01"]["target_text"] == "目标 150 场次（2021–2025）"
    assert tiles["D-02"]["expired_text"] == ""
    assert tiles["D-02"]["value_text"] == "85.7"
    assert tiles["D-02"]["fraction_text"] == "6 ÷ 7"
    assert tiles["R-03"]["quality_text"] == "数据不全"
    assert tiles["V-04"]["change_text"].startswith(("较上周同日 ", "与上周同日持平"))
    assert tiles["V-04"]["bars"].count("<i class=") == 30


def test_a_district_s_queries_show_the_district_and_the_city_only_as_comparison(tmp_path):
    cockpit_data.build(tmp_path, scoped=True)
    with duckdb.connect(str(tmp_path / "district_310104.duckdb"), read_only=True) as connection:
        tiles = rows(connection, "kpi_card")
        assert len(tiles) == 8
        assert {tile["district_code"] for tile in tiles} == {"310104"}
        assert all(tile["city_text"].startswith("全市 ") for tile in tiles)
        assert {row["district_code"] for row in rows(connection, "headline")} == {"310104"}
        assert "徐汇区" in rows(connection, "headline")[0]["sentence"]
        scoped = [dataset for dataset in DATASETS if dataset.uuid in assets.scoped_dataset_uuids()]
        assert len(scoped) == 8
        for dataset in scoped:
            query = f"SELECT count(*), count(*) FILTER (district_code = '310104') FROM ({dataset.query()})"
            everything, own = connection.execute(query).fetchone()
            assert everything == own, dataset.key
    with duckdb.connect(str(tmp_path / "cockpit.duckdb"), read_only=True) as connection:
        assert {tile["city_text"] for tile in rows(connection, "kpi_card")} == {""}


def test_only_a_dashboard_of_named_persons_has_no_cross_filters():
    """A clicked value is kept on the server, and a name must not be."""
    built = assets.build()
    allowed = {
        dashboard.slug: yaml.safe_load(built[f"dashboards/{dashboard.slug}.yaml"])["metadata"]["cross_filters_enabled"]
        for dashboard in assets.dashboards()
    }
    assert allowed == {"cockpit": True, "district": True, "coach": False}


def test_a_district_s_pages_compare_no_districts():
    titles = [chart.title for chart in cockpit.DISTRICT.charts()]
    assert not any("各区" in title for title in titles)
    assert sum("本区" in title for title in titles) >= 8
    loaded = yaml.safe_load(assets.build()["dashboards/district.yaml"])
    assert [item["name"] for item in loaded["metadata"]["native_filter_configuration"]] == ["时间范围"]


@pytest.mark.parametrize(
    ("value", "unit", "value_text", "unit_text"),
    [(99_999, "人次", "99,999", "人次"), (100_000, "人次", "10.0", "万人次"), (1_234_567, "人次", "123.5", "万人次"),
     (250_000_000, "元", "2.50", "亿元"), (None, "人次", "—", "人次")],
)  # fmt: skip
def test_large_numbers_are_written_in_wan_and_yi(value, unit, value_text, unit_text):
    connection = duckdb.connect()
    connection.execute(cockpit_data.SCRIPT)
    connection.execute("DELETE FROM ads.ads_cockpit__kpi WHERE NOT (kpi_code = 'V-06' AND variant_code = 'entries')")
    connection.execute("UPDATE ads.ads_cockpit__kpi SET value = ?, unit = ?", [value, unit])
    (tile,) = rows(connection, "kpi_card")
    assert (tile["value_text"], tile["unit_text"]) == (value_text, unit_text)


def test_demonstration_notice_follows_the_data(serving):
    assert {row["notice"] for row in rows(serving, "headline")} == {"演示数据，非真实统计"}
    connection = duckdb.connect()
    connection.execute(cockpit_data.SCRIPT)
    connection.execute("UPDATE catalog_notice SET text = '正式数据' WHERE name = '数据声明'")
    assert {row["notice"] for row in rows(connection, "headline")} == {""}


@pytest.mark.parametrize("key", ["district_day", "sport_day", "venue_day"])
def test_running_and_future_days_are_not_shown(serving, key):
    dataset = next(dataset for dataset in DATASETS if dataset.key == key)
    ((latest,),) = serving.execute(f"SELECT max(part_date) FROM ({dataset.query()})").fetchall()
    assert str(latest) == cockpit_data.LAST
    ((stored,),) = serving.execute("SELECT max(part_date) FROM ads.ads_cockpit__district_day").fetchall()
    assert str(stored) > cockpit_data.LAST


def test_zero_alerts_is_shown_as_zero():
    connection = duckdb.connect()
    connection.execute(cockpit_data.SCRIPT)
    connection.execute("UPDATE ads.ads_supervision__alert SET status = 'closed'")
    assert [row["open_count"] for row in rows(connection, "alert_summary")] == [0, 0, 0, 0]


def test_unbalanced_source_is_named():
    connection = duckdb.connect()
    connection.execute(cockpit_data.SCRIPT)
    connection.execute(
        "UPDATE ads.ads_cockpit__freshness SET accepted_count = accepted_count - 1 WHERE resource = 'venue.entry'"
    )
    dataset = next(dataset for dataset in DATASETS if dataset.key == "freshness")
    found = dict(connection.execute(f"SELECT resource, balance FROM ({dataset.query()})").fetchall())
    assert found.pop("venue.entry") == "✕ 不平衡"
    assert set(found.values()) == {"✓ 平衡"}
    assert len(found) == 6


def _with_an_axis(charts):
    return [c.key for c in charts if c.dataset.key == "official_figure" and c.viz not in ("table", "handlebars")]


def test_official_figures_are_on_no_axis(serving):
    """They follow other methods: shown beside our own, as text, never drawn."""
    assert any(chart.dataset.key == "official_figure" for chart in CHARTS)
    assert _with_an_axis(CHARTS) == []
    drawn = replace(next(c for c in CHARTS if c.key == "district_rank"), dataset=cockpit.OFFICIAL_FIGURE)
    assert _with_an_axis([drawn]) == ["district_rank"]
    assert not cockpit.OFFICIAL_FIGURE.metrics
    rows = serving.execute(cockpit.OFFICIAL_FIGURE.query()).pl()
    texts = dict(rows.sort("figure_year").select("indicator_name", "value_text").iter_rows())
    assert texts == {"体育部门主办的赛事活动场次": "18,754 场次", "人均体育场地面积": "2.6 平方米"}
    own = dict(rows.select("indicator_name", "own_text").iter_rows())
    assert own == {
        "体育部门主办的赛事活动场次": "2026年1月1日至11月19日：205 场次",
        "人均体育场地面积": "平台没有对应指标",
    }
    cards = dict(
        serving.execute(cockpit.EVENT_POPULATION.query()).pl().select("variant_code", "published_text").iter_rows()
    )
    assert cards["department"] == "已公布：2023 年 18,754 场次，2022 年 15,013 场次（测试公告；部门口径）"
    assert cards["platform"] == ""
