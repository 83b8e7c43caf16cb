"""Does every door answer with data? One check per user, over the door that user goes through.

A check reports how many things it looked at; one that looked at nothing fails.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

ROOT = Path(__file__).resolve().parent.parent
MAP_ADDRESS = r'singapore:\w+\.p\+"([0-9a-f]+\.geojson)"'
"""Where the front end says from which file it draws the country whose map is ours (see ``dashboards.runtime``)."""


@dataclass(frozen=True)
class Door:
    """Result of one check."""

    title: str
    ok: bool
    examined: int
    note: str


class Superset:
    """A browser-like session: form login, CSRF token, cookies."""

    def __init__(self, base_url: str, user: str, password: str) -> None:
        self.http = httpx.Client(base_url=base_url, timeout=60.0, follow_redirects=True, trust_env=False)
        page = self.http.get("/login/")
        page.raise_for_status()
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text) or re.search(
            r'csrf_token[^"]*"[^"]*"([\w.\-]{40,})"', page.text
        )
        form = {"username": user, "password": password} | ({"csrf_token": found.group(1)} if found else {})
        self.http.post("/login/", data=form).raise_for_status()
        answer = self.http.get("/api/v1/security/csrf_token/")
        if answer.status_code != 200:
            raise RuntimeError(f"login of {user} refused ({answer.status_code})")
        self.http.headers.update({"X-CSRFToken": answer.json()["result"], "Referer": base_url})

    def get(self, path: str) -> Any:
        """GET as JSON."""
        answer = self.http.get(path)
        if answer.is_error:
            raise RuntimeError(f"GET {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json()

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST JSON."""
        answer = self.http.post(path, json=body)
        if answer.is_error:
            raise RuntimeError(f"POST {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json()


def cockpit(base_url: str, password: str) -> Door:
    """As leader: every chart of the dashboard answers over REST, most of them with rows."""
    session = Superset(base_url, "leader", password)
    answers = _dashboard(session, "cockpit")
    return Door("驾驶舱（领导）", answers.ok, answers.charts, answers.note)


def district_outlines(base_url: str, assets: Path | None = None) -> Door:
    """The file that the cockpit's map draws from holds the 16 districts. Charts answering with rows do not show that: the
    browser fetches the outlines apart, at the address of a country map of Superset's own."""
    folder = assets or next((ROOT / ".venv-cockpit").glob("lib/python3*/site-packages/superset/static/assets"))
    bundles = sorted(folder.glob("*.entry.js"))
    found = [m for path in bundles for m in re.findall(MAP_ADDRESS, path.read_text("utf8", "ignore"))]
    if not found:
        return Door("驾驶舱地图", False, len(bundles), "前端资源中没有地图地址")
    answer = httpx.get(f"{base_url}/static/assets/{found[0]}", timeout=30.0, trust_env=False)
    if answer.is_error:
        return Door("驾驶舱地图", False, 1, answer.text[:120])
    codes = {str(item["properties"].get("ISO", "")) for item in answer.json()["features"]}
    ours = [code for code in codes if code.startswith("3101")]
    return Door("驾驶舱地图", len(ours) == len(codes) == 16, len(codes), f"{len(ours)} 个区的示意图")


def district(base_url: str, user: str, password: str, code: str) -> Door:
    """As a district's leader: the district's dashboard answers, no answer names another district, and the city's
    dashboard stays closed."""
    session = Superset(base_url, user, password)
    answers = _dashboard(session, "district")
    others = sorted(set(re.findall(r"\b3101\d\d\b", answers.text)) - {code})
    closed = session.http.get("/api/v1/dashboard/cockpit").status_code in (403, 404)
    note = (
        answers.note + ("" if closed else "；全市驾驶舱没有关闭") + (f"；出现他区代码 {others[:3]}" if others else "")
    )
    return Door("驾驶舱（徐汇区领导）", answers.ok and closed and not others, answers.charts, note)


def coach(base_url: str, user: str, password: str, code: str) -> Door:
    """As coach: the squad's dashboard answers, every row is of the own squad, its members stand there by name, and the city's
    dashboard stays closed."""
    session = Superset(base_url, user, password)
    answers = _dashboard(session, "coach")
    squads = set(re.findall(r'"squad_code": "(\w+)"', answers.text))
    closed = session.http.get("/api/v1/dashboard/cockpit").status_code in (403, 404)
    note = answers.note + ("" if closed else "；全市驾驶舱没有关闭")
    note += f"；出现他队代码 {sorted(squads - {code})}" if squads - {code} else ""
    names = re.findall(r'"athlete_name": "([^"]*)"', answers.text)
    masked = sum("*" in name for name in names)
    note += f"；{masked} 个姓名仍遮蔽" if masked else f"；{len(set(names))} 名队员具名"
    ok = names and not masked and answers.charts >= 5 and answers.rows > 0 and not answers.broken and not answers.empty
    return Door("本队训练（中长跑队教练）", bool(ok) and closed and squads == {code}, answers.charts, note)


DATALESS = {
    "catalogue_editor": "目录编辑（编目员，只见数据集说明）",
    "security_admin": "账号与角色（安全管理员，不见数据）",
    "auditor": "操作日志（审计员，不见数据）",
    "system_admin": "服务运行（系统管理员，不见数据）",
}
"""Account that reads no data → its door on the start page. Superset's own Admin role is held by nobody."""


def dataless(base_url: str, passwords: Mapping[str, str]) -> Door:
    """The three administrators and the catalogue editor: each can sign in, none gets a figure of the leader's dashboard, whose
    answers lie in the cache, or a statement through; the security administrator sees no account with Superset's Admin."""
    leader = Superset(base_url, "leader", passwords["leader"])
    dashboard = leader.get("/api/v1/dashboard/cockpit")["result"]["id"]
    charts = leader.get("/api/v1/dashboard/cockpit/charts")["result"]
    asked = [query_context({**one["form_data"], "slice_id": one["id"], "dashboardId": dashboard}) for one in charts
             if one["form_data"].get("viz_type") not in {"country_map", "cal_heatmap"}][:5]  # fmt: skip
    statement = {"sql": "SELECT 1 AS one", "client_id": uuid.uuid4().hex[:11], "schema": "main"}
    asked_in_sql = [{**statement, "database_id": number} for number in (1, 2)]
    examined, open_ = 0, []
    for user in DATALESS:
        session = Superset(base_url, user, passwords[user])
        answers = [session.http.post("/api/v1/chart/data", json=body) for body in asked]
        answers += [session.http.post("/api/v1/sqllab/execute/", json=body) for body in asked_in_sql]
        examined += len(answers)
        open_ += [
            f"{user} {one.url.path} {one.status_code}" for one in answers if one.status_code not in (401, 403, 404)
        ]
    accounts = Superset(base_url, "security_admin", passwords["security_admin"]).get(
        "/api/v1/security/users/?q=(page_size:100)"
    )["result"]
    powerful = [one["username"] for one in accounts if "Admin" in {role["name"] for role in one["roles"]}]
    note = f"{len(DATALESS)} 个账号 {examined} 次请求全被拒绝，{len(accounts)} 个账号无一持有 Superset 的 Admin"
    if open_ or powerful:
        note = "；".join([*open_[:3], *(f"{name} 持有 Admin" for name in powerful)])
    enough = examined >= 4 * len(DATALESS) and len(accounts) >= len(DATALESS)
    return Door("三员与编目员（不见数据）", enough and not open_ and not powerful, examined, note)


@dataclass
class _Answers:
    """What the charts of a dashboard answered."""

    charts: int
    rows: int
    empty: list[str]
    broken: list[str]
    text: str

    @property
    def ok(self) -> bool:
        return self.charts >= 10 and self.rows > 0 and not self.broken and len(self.empty) <= 3

    @property
    def note(self) -> str:
        return (
            f"{self.charts} 个图表、{self.rows} 行"
            + (f"；无数据：{'、'.join(self.empty)}" if self.empty else "")
            + ("；出错：" + "；".join(self.broken) if self.broken else "")
        )


def _dashboard(session: Superset, slug: str) -> _Answers:
    """Ask every chart of a dashboard for its data."""
    dashboard = session.get(f"/api/v1/dashboard/{slug}")["result"]
    charts = session.get(f"/api/v1/dashboard/{slug}/charts")["result"]
    found = _Answers(len(charts), 0, [], [], "")
    for chart in charts:
        form = {**chart["form_data"], "slice_id": chart["id"], "dashboardId": dashboard["id"]}
        try:
            rows = _chart_rows(session, chart["id"], form)
        except (RuntimeError, KeyError, httpx.HTTPError) as error:
            found.broken.append(f"{chart['slice_name']}: {error}")
            continue
        found.rows += len(rows)
        found.text += json.dumps(rows, ensure_ascii=False)
        if not rows:
            found.empty.append(chart["slice_name"])
    return found


_ORACLE = """
import json
from lake import query
con = query.connect()
query.register(con, "ads_cockpit__kpi", "checked")
rows = con.execute('''
    select kpi_code, unit,
           case when unit = '%' then 100.0 * numerator / nullif(denominator, 0) else value end
    from ads_cockpit__kpi where district_code = '310000'
    qualify period_start_date = max(period_start_date) over (partition by kpi_code, coalesce(variant_code, ''))
''').fetchall()
print(json.dumps(rows))
"""


def figures(base_url: str, password: str, env: Mapping[str, str]) -> Door:
    """As leader: the figures on the KPI tiles, asked for over REST, equal an SQL query on the checked lake."""
    session = Superset(base_url, "leader", password)
    dashboard = session.get("/api/v1/dashboard/cockpit")["result"]
    charts = session.get("/api/v1/dashboard/cockpit/charts")["result"]
    tiles = [
        chart for chart in charts if {"kpi_code", "value_text"} <= set(chart["form_data"].get("all_columns") or [])
    ]
    result = subprocess.run(
        [sys.executable, "-c", _ORACLE], cwd=ROOT, env=dict(env), capture_output=True, text=True, check=True
    )
    expected: dict[str, set[str]] = {}
    for code, unit, value in json.loads(result.stdout):
        expected.setdefault(code, set()).add(shown(value, unit))
    compared, wrong = 0, []
    for chart in tiles:
        form = {**chart["form_data"], "slice_id": chart["id"], "dashboardId": dashboard["id"]}
        for row in session.post("/api/v1/chart/data", query_context(form))["result"][0]["data"]:
            compared += 1
            if row["value_text"] not in expected.get(row["kpi_code"], set()):
                wrong.append(f"{row['kpi_code']} 显示 {row['value_text']}")
    note = f"{compared} 个指标与已检湖仓的查询结果" + ("相同" if not wrong else "不同：" + "、".join(wrong))
    return Door("驾驶舱数字核对", compared >= 10 and not wrong, compared, note)


def shown(value: float | None, unit: str) -> str:
    """A figure as the tiles write it: per cent with one decimal, counts in whole numbers, large ones in 万 or 亿."""
    if value is None:
        return "—"
    if unit == "%":
        return f"{value:.1f}"
    if abs(value) >= 1e8:
        return f"{value / 1e8:,.2f}"
    return f"{value / 1e4:,.1f}" if abs(value) >= 1e5 else f"{round(value):,}"


def _chart_rows(session: Superset, chart_id: int, form: dict[str, Any]) -> list[Any]:
    """Rows of one chart: over its stored query, or over the older interface for legacy charts."""
    if form.get("viz_type") in {"country_map", "cal_heatmap"}:
        answer = session.http.post("/superset/explore_json/", data={"form_data": json.dumps(form)})
        answer.raise_for_status()
        return list(answer.json().get("data") or [])
    answer = session.post("/api/v1/chart/data", query_context(form))
    first = answer["result"][0]
    if first.get("error"):
        raise RuntimeError(str(first["error"])[:200])
    return list(first["data"])


def query_context(form: dict[str, Any]) -> dict[str, Any]:
    """The data request a browser would send for a chart."""
    number, kind = str(form["datasource"]).split("__")
    raw = form.get("query_mode") == "raw"
    metrics = form.get("metrics") or ([form["metric"]] if form.get("metric") else [])
    columns = list(form.get("all_columns") or []) if raw else list(form.get("groupby") or [])
    if not raw and form.get("x_axis"):
        columns = [form["x_axis"], *columns]
    filters = [
        {"col": item["subject"], "op": item["operator"], "val": item.get("comparator")}
        for item in form.get("adhoc_filters") or []
        if item.get("expressionType") == "SIMPLE" and item.get("operator") != "TEMPORAL_RANGE"
    ]
    where = [
        f"({item['sqlExpression']})" for item in form.get("adhoc_filters") or [] if item.get("expressionType") == "SQL"
    ]
    query: dict[str, Any] = {
        "columns": columns, "filters": filters, "extras": {"where": " AND ".join(where), "having": ""},
        "row_limit": int(form.get("row_limit") or 1000), "orderby": [], "time_range": "No filter",
    }  # fmt: skip
    if not raw:
        query["metrics"] = metrics
    return {
        "datasource": {"id": int(number), "type": kind},
        "form_data": form,
        "queries": [query],
        "result_format": "json",
        "result_type": "full",
        "force": False,
    }


def analyst(base_url: str, password: str) -> Door:
    """As analyst: SQL Lab answers a question about the catalogue and one about the data."""
    title = "SQL 查询（分析师）"
    session = Superset(base_url, "analyst", password)
    database = _window(session)
    if database is None:
        return Door(title, False, 0, "没有可用的数据库")
    questions = ("select count(*) as n from catalog_columns", "select count(*) as n from dws.dws_venue__daily_use")
    counts = [int(_ask(session, database, question)[0]["n"]) for question in questions]
    return Door(title, all(counts), len(counts), f"目录 {counts[0]} 列，日用量 {counts[1]} 行")


def science(base_url: str, password: str) -> Door:
    """As science staff: heart rates of persons who are known by a token only, no place, and nothing but training."""
    title = "SQL 查询（科研人员）"
    session = Superset(base_url, "science", password)
    database = _window(session)
    if database is None:
        return Door(title, False, 0, "没有可用的数据库")
    found = _ask(
        session,
        database,
        "select count(s.heart_rate_bpm) as beats, count(distinct a.athlete_token) as persons,"
        " count(*) filter (a.athlete_token is not null and not starts_with(a.athlete_token, 'token_')) as others"
        " from ods.ods_training__activity as a left join ods.ods_training__activity_sample as s using (activity_id)",
    )[0]
    forbidden = _ask(
        session,
        database,
        "select count(*) as n from duckdb_columns() where not internal and schema_name <> 'main' and (column_name in"
        " ('lng', 'lat', 'athlete_name') or not regexp_matches(table_name, '^(ods|dwd|dws|ads)_training__|^dim_sport$'))",
    )[0]["n"]
    ok = found["beats"] > 0 and found["persons"] > 0 and not found["others"] and not forbidden
    note = f"{found['persons']} 个标记、{found['beats']} 次心率"
    note += (f"；不该有的标记 {found['others']}" if found["others"] else "") + (
        f"；不该有的列 {forbidden}" if forbidden else ""
    )
    return Door(title, ok, int(found["beats"]), note)


def _window(session: Superset) -> int | None:
    """The one database that SQL Lab offers to an account."""
    listed = session.get("/api/v1/database/?q=(page_size:50)")["result"]
    usable = [int(item["id"]) for item in listed if item.get("expose_in_sqllab")]
    return usable[0] if len(usable) == 1 else None


def _ask(session: Superset, database: int, question: str) -> list[dict[str, Any]]:
    """Rows that SQL Lab answers with."""
    body = {
        "database_id": database, "sql": question, "client_id": uuid.uuid4().hex[:10], "runAsync": False,
        "queryLimit": 10, "schema": "main", "select_as_cta": False, "expand_data": True,
    }  # fmt: skip
    return list(session.post("/api/v1/sqllab/execute/", body)["data"])


def exchange(env: Mapping[str, str]) -> Door:
    """As receiver: every delivery in the outbox verifies from its files alone."""
    outbox = Path(env["TIYU_HOME"]) / "exchange" / "outbox"
    command = [sys.executable, "-m", "cli.main", "exchange", "verify", str(outbox), "--json"]
    result = subprocess.run(command, cwd=ROOT, env=dict(env), capture_output=True, text=True)
    folders = [path for path in outbox.glob("*/*") if path.is_dir()]
    ok = result.returncode == 0 and len(folders) >= 2
    note = f"{len(folders)} 个交付，校验{'通过' if ok else '不通过：' + (result.stderr or result.stdout)[-300:]}"
    return Door("数据交换（市大数据中心）", ok, len(folders), note)


def open_data(base_url: str, start: str = "/") -> Door:
    """As citizen: follow the links from the portal page to the dataset pages and their files; every one must answer."""
    seen: dict[str, int] = {}
    broken: list[str] = []
    with httpx.Client(base_url=base_url, timeout=30.0, follow_redirects=True, trust_env=False) as http:
        queue = [start]
        while queue and len(seen) < 400:
            path = queue.pop(0)
            if path in seen:
                continue
            answer = http.get(path)
            seen[path] = len(answer.content)
            if answer.status_code != 200 or not answer.content:
                broken.append(f"{path} → {answer.status_code}")
                continue
            if "text/html" not in answer.headers.get("content-type", ""):
                continue
            here = str(answer.url)
            for link in re.findall(r'(?:href|src)="([^"#]+)', answer.text):
                target = urlsplit(urljoin(here, link))
                if f"{target.scheme}://{target.netloc}" == base_url.rstrip("/"):
                    queue.append(target.path)
    files = [
        path for path in seen if Path(path).suffix in {".csv", ".xlsx", ".json", ".geojson", ".parquet", ".jsonld"}
    ]
    note = f"{len(seen)} 个地址，其中数据文件 {len(files)} 个" + (
        f"；打不开：{'、'.join(broken[:5])}" if broken else ""
    )
    return Door("开放数据（公众）", not broken and len(files) >= 8, len(seen), note)


def safely(title: str, check: Callable[[], Door]) -> Door:
    """A check that crashes is a closed door with the reason, not a crash of the demo."""
    try:
        return check()
    except Exception as error:  # whatever the door did, the report must name it
        return Door(title, False, 0, f"{type(error).__name__}: {error}")
