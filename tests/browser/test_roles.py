"""The three administrators and the catalogue editor on a real Superset: each does its work, and no data reaches any of them,
nor an account with Superset's own Admin role.

What they are refused is asked for after those who may see it have asked, so that every cache is full.
"""

from __future__ import annotations

import io
import json
import re
import sqlite3
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pytest

from dashboards import assets, bootstrap, cockpit, roles
from deploy import doors
from tests.browser import rest
from tests.browser.cockpit_server import PYTHON, SUPERUSER, Cockpit, hold

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not PYTHON.exists(), reason="cockpit environment not installed"),
]

DATALESS = ("security_admin", "auditor", "system_admin", "catalogue_editor")
CLOSED = (401, 403, 404)
CHANGES_OF_ACCOUNTS = "/api/v1/log/?q=(filters:!((col:action,opr:eq,value:users.post)),order_column:dttm,order_direction:desc,page_size:100)"


def session(server: Cockpit, user: str) -> doors.Superset:
    return doors.Superset(server.url, user, server.password(user))


@dataclass(frozen=True)
class Probe:
    """One way to ask for data, or for a file with it."""

    name: str
    method: str
    path: str
    body: dict | None = None
    form: dict | None = None
    definition: bool = False  # answers with a definition (names, SQL), not with rows

    def send(self, by: doors.Superset):
        if self.form is not None:
            return by.http.request(self.method, self.path, data=self.form)
        body = self.body
        if body is not None and "client_id" in body:  # Superset keeps a statement under it, once
            body = {**body, "client_id": uuid.uuid4().hex[:11]}
        return by.http.request(self.method, self.path, json=body)


@dataclass(frozen=True)
class Known:
    """Every way to the data of the running cockpit, and words that stand only in its rows."""

    probes: tuple[Probe, ...]
    words: tuple[str, ...]


def _chart_probes(dashboard: int, charts: list[dict], answers: dict[int, dict]) -> Iterator[Probe]:
    for chart in charts:
        number, title = chart["id"], chart["slice_name"]
        form = {**chart["form_data"], "slice_id": number, "dashboardId": dashboard}
        if form["viz_type"] in ("country_map", "cal_heatmap"):
            text = json.dumps(form)
            yield Probe(f"旧接口 {title}", "POST", "/superset/explore_json/", form={"form_data": text})
            yield Probe(f"旧接口 CSV {title}", "POST", "/superset/explore_json/?csv=true", form={"form_data": text})
            continue
        body = doors.query_context(form)
        yield Probe(f"图表 {title}", "POST", "/api/v1/chart/data", body)
        yield Probe(f"图表重算 {title}", "POST", "/api/v1/chart/data", {**body, "force": True})
        yield Probe(f"图表 CSV {title}", "POST", "/api/v1/chart/data", {**body, "result_format": "csv"})
        yield Probe(f"存储的图表 {title}", "GET", f"/api/v1/chart/{number}/data/")
        key = answers[number]["cache_key"]
        yield Probe(f"缓存 {title}", "GET", f"/api/v1/chart/data/{key}")


@pytest.fixture(scope="module")
def known(server) -> Known:
    """Asks as those who may, so that everything is computed and cached, and notes how."""
    probes: list[Probe] = []
    cached = 0
    for user, slug in (("leader", "cockpit"), ("leader_xuhui", "district"), ("coach_sq01", "coach")):
        reader = session(server, user)
        dashboard = reader.get(f"/api/v1/dashboard/{slug}")["result"]["id"]
        charts = reader.get(f"/api/v1/dashboard/{slug}/charts")["result"]
        answers = {}
        for chart in charts:
            form = {**chart["form_data"], "slice_id": chart["id"], "dashboardId": dashboard}
            if form["viz_type"] in ("country_map", "cal_heatmap"):
                assert doors._chart_rows(reader, chart["id"], form)
                continue
            answers[chart["id"]] = reader.post("/api/v1/chart/data", doors.query_context(form))["result"][0]
            cached += answers[chart["id"]]["rowcount"]
        probes += _chart_probes(dashboard, charts, answers)
        probes.append(Probe(f"看板 {slug}", "GET", f"/api/v1/dashboard/export/?q=!({dashboard})", definition=True))
        probes.append(Probe(f"看板图表 {slug}", "GET", f"/api/v1/dashboard/{slug}/charts", definition=True))
    assert cached > 100
    superuser = session(server, SUPERUSER)
    analyst = session(server, "analyst")
    databases = {row["database_name"]: row["id"] for row in superuser.get("/api/v1/database/")["result"]}
    assert len(databases) >= 2
    statement = "SELECT venue_name FROM ads.ads_cockpit__venue_day LIMIT 50"
    client_id = uuid.uuid4().hex[:11]
    done = analyst.post("/api/v1/sqllab/execute/", {
        "database_id": databases["分析数据"], "sql": statement, "client_id": client_id, "schema": "main",
        "queryLimit": 50})  # fmt: skip
    assert len(done["data"]) == 50
    for title, number in databases.items():
        body = {
            "database_id": number,
            "sql": statement,
            "client_id": uuid.uuid4().hex[:11],
            "schema": "main",
            "queryLimit": 50,
        }
        probes.append(Probe(f"SQL 查询 {title}", "POST", "/api/v1/sqllab/execute/", body))
        probes.append(Probe(f"导出数据库 {title}", "GET", f"/api/v1/database/export/?q=!({number})", definition=True))
        probes.append(Probe(f"模式 {title}", "GET", f"/api/v1/database/{number}/schemas/"))
        probes.append(Probe(f"表 {title}", "GET", f"/api/v1/database/{number}/tables/?q=(schema_name:ads)"))
        probes.append(
            Probe(
                f"示例语句 {title}",
                "GET",
                f"/api/v1/database/{number}/select_star/ads_cockpit__venue_day/ads/",
                definition=True,
            )
        )
    probes.append(Probe("他人的查询结果 CSV", "GET", f"/api/v1/sqllab/export/{client_id}/"))
    probes.append(Probe("他人的查询结果流", "POST", "/api/v1/sqllab/export_streaming/", form={"client_id": client_id}))
    probes.append(Probe("他人的查询结果", "GET", f"/api/v1/sqllab/results/?q=(key:'{client_id}')"))
    listed = superuser.get("/api/v1/dataset/?q=(page_size:100)")["result"]
    declared = {dataset.uuid: dataset for dataset in assets.datasets()}
    assert {row["uuid"] for row in listed} == set(declared)
    for row in listed:
        number, name = row["id"], row["table_name"]
        at = f"datasource_id={number}&datasource_type=table"
        probes.append(Probe(f"样例 {name}", "POST", f"/datasource/samples?{at}", {}))
        columns = [column.name for column in declared[row["uuid"]].columns]
        first = next((column for column in columns if column.endswith("_name")), columns[0])
        probes.append(Probe(f"列值 {name}", "GET", f"/api/v1/datasource/table/{number}/column/{first}/values/"))
        probes.append(Probe(f"探索 {name}", "GET", f"/api/v1/explore/?{at}", definition=True))
        probes.append(Probe(f"导出数据集 {name}", "GET", f"/api/v1/dataset/export/?q=!({number})", definition=True))
    chart = superuser.get("/api/v1/chart/")["result"][0]["id"]
    probes.append(Probe("导出图表", "GET", f"/api/v1/chart/export/?q=!({chart})", definition=True))
    saved = analyst.get("/api/v1/saved_query/")["result"][0]["id"]
    probes.append(Probe("导出已存查询", "GET", f"/api/v1/saved_query/export/?q=!({saved})", definition=True))
    probes.append(Probe("导出全部定义", "GET", "/api/v1/assets/export/", definition=True))
    probes.append(Probe("查询历史", "GET", "/api/v1/query/", definition=True))
    words = [row[0] for row in server.sql("SELECT DISTINCT venue_name FROM ads.ads_cockpit__venue_day ORDER BY 1")]
    words += [row[0] for row in server.sql("SELECT alert_id FROM ads.ads_supervision__alert ORDER BY 1")]
    with duckdb.connect(str(server.serving / "coach_SQ01.duckdb"), read_only=True) as squad:
        words += [
            row[0]
            for row in squad.execute("SELECT DISTINCT athlete_token FROM ads.ads_training__squad_week").fetchall()
        ]
    assert len(words) > 50
    return Known(tuple(probes), tuple(word for word in words if len(word) > 3))


def text_of(answer) -> str:
    """The text of an answer, of every file where it is an archive."""
    if answer.content[:2] != b"PK":
        # some answers spell Chinese as \\uXXXX
        return re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), answer.text)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return "\n".join(archive.read(name).decode("utf8", "replace") for name in archive.namelist())


def test_the_words_are_found_where_data_is_shown(server, known):
    """Otherwise not finding them would prove nothing."""
    probes = {probe.name: probe for probe in known.probes}
    leader, analyst = session(server, "leader"), session(server, "analyst")
    asked = [probe.send(leader) for probe in known.probes if probe.name.startswith("图表 ")]
    answered = [text_of(answer) for answer in asked if answer.status_code == 200]
    assert len(answered) >= 20
    assert sum(any(word in text for text in answered) for word in known.words) > 10
    rows = text_of(probes["SQL 查询 分析数据"].send(analyst))
    assert sum(word in rows for word in known.words) >= 1, rows[:200]


@pytest.mark.parametrize("user", DATALESS)
def test_no_data_reaches_an_administrator_or_the_catalogue_editor(server, known, user):
    account = session(server, user)
    open_ = {}
    for probe in known.probes:
        answer = probe.send(account)
        assert not [word for word in known.words if word in text_of(answer)], (user, probe.name)
        if answer.status_code not in CLOSED:
            open_[probe.name] = (answer.status_code, answer.text[:120])
    assert open_ == {}
    assert len(known.probes) > 100


def test_even_superset_s_own_admin_role_reads_no_data(server, known):
    """Whatever Superset would let it do, no connection opens for it and no cached figure is found."""
    account = session(server, SUPERUSER)
    open_, examined, refused = {}, 0, 0
    for probe in known.probes:
        answer = probe.send(account)
        examined += 1
        assert not [word for word in known.words if word in text_of(answer)], probe.name
        refused += "TIYU-COCKPIT-0014" in answer.text
        # a stream has answered before it finds that it may not
        if answer.status_code == 200 and not probe.definition and not answer.text.startswith("__STREAM_ERROR__"):
            open_[probe.name] = answer.text[:200]
    assert open_ == {}
    assert examined == len(known.probes)
    assert refused > 60


def test_a_role_that_reads_beside_an_administrator_s_reads_nothing(server, known):
    """Past the guard, straight in the metadata: the connection itself refuses what one person may not hold together."""
    hold(server, "system_admin", "system_admin", "analyst")
    try:
        account = session(server, "system_admin")
        for name in ("SQL 查询 分析数据", "图表 预警清单", "图表重算 预警清单"):
            answer = {probe.name: probe for probe in known.probes}[name].send(account)
            assert answer.status_code != 200 or "error" in answer.json()["result"][0], name
            assert "TIYU-COCKPIT-0017" in answer.text, (name, answer.text[:300])
            assert not [word for word in known.words if word in text_of(answer)]
    finally:
        hold(server, "system_admin", "system_admin")


# ---------------------------------------------------------------- what each may do
def role_numbers(account: doors.Superset) -> dict[str, int]:
    return {row["name"]: row["id"] for row in account.get("/api/v1/security/roles/?q=(page_size:100)")["result"]}


def test_the_security_administrator_gives_roles_as_the_policy_allows(server):
    account = session(server, "security_admin")
    assert account.http.get("/").url.path == "/users/"
    numbers = role_numbers(account)
    password = uuid.uuid4().hex
    name = f"newcomer_{uuid.uuid4().hex[:6]}"
    new = {"username": name, "first_name": "新", "last_name": "来", "email": f"{name}@cockpit.invalid", "active": True,
           "password": password, "roles": [numbers["district_leader_310105"]], "groups": []}  # fmt: skip
    for given, word in (
        (["Admin"], "不是展示策略中的角色"),
        (["Alpha"], "不是展示策略中的角色"),
        (["sql_lab", "analyst"], "不是展示策略中的角色"),
        (["auditor", "system_admin"], "不得兼任"),
        (["analyst", "security_admin"], "不得兼任"),
    ):
        answer = account.http.post("/api/v1/security/users/", json={**new, "roles": [numbers[name] for name in given]})
        assert answer.status_code == 422, given
        assert "TIYU-COCKPIT-0018" in answer.json()["message"]
        assert word in answer.json()["message"]
    made = account.http.post("/api/v1/security/users/", json=new)
    assert made.status_code == 201, made.text
    server.environment[bootstrap.password_variable(name)] = password
    newcomer = session(server, name)
    assert [row["slug"] for row in newcomer.get("/api/v1/dashboard/")["result"]] == ["district"]
    # taken back: the same session reads no more
    number = made.json()["id"]
    account.http.put(f"/api/v1/security/users/{number}", json={"active": False}).raise_for_status()
    assert newcomer.http.get("/api/v1/dashboard/").status_code in CLOSED
    own = next(row["id"] for row in account.get("/api/v1/security/users/?q=(page_size:100)")["result"]
               if row["username"] == "security_admin")  # fmt: skip
    answer = account.http.put(f"/api/v1/security/users/{own}", json={"roles": [numbers["analyst"]]})
    assert answer.status_code == 422
    assert "不能改动自己的角色" in answer.json()["message"]
    closed = {
        "a role's name": account.http.put(f"/api/v1/security/roles/{numbers['leader']}", json={"name": "boss"}),
        "a role's permissions": account.http.post(
            f"/api/v1/security/roles/{numbers['security_admin']}/permissions",
            json={"permission_view_menu_ids": [1, 2, 3]},
        ),
        "a role's accounts": account.http.put(
            f"/api/v1/security/roles/{numbers['analyst']}/users", json={"user_ids": [own]}
        ),
        "a new role": account.http.post("/api/v1/security/roles/", json={"name": "mine"}),
        "a row filter": account.http.delete("/api/v1/rowlevelsecurity/1"),
        "an account's end": account.http.delete(f"/api/v1/security/users/{number}"),
        "the log": account.http.get("/api/v1/log/"),
        "the old forms": account.http.get("/users/add", follow_redirects=False),
    }
    assert {name: one.status_code for name, one in closed.items() if one.status_code not in (*CLOSED, 302, 405)} == {}


def test_the_guard_knows_who_asks_with_a_token(server):
    """The same account without a page: the token says whose it is, before Superset looks at it."""
    by_token = server.client("security_admin")
    own = next(row["id"] for row in by_token.listing("security/users") if row["username"] == "security_admin")
    numbers = {row["name"]: row["id"] for row in by_token.listing("security/roles")}
    with pytest.raises(rest.Refused, match=r"PUT .* 422 .*TIYU-COCKPIT-0018"):  # a role that others may be given
        by_token.call("PUT", f"/api/v1/security/users/{own}", {"roles": [numbers["analyst"]]})
    name = f"bytoken_{uuid.uuid4().hex[:6]}"
    new = {"username": name, "first_name": "新", "last_name": "来", "email": f"{name}@cockpit.invalid", "active": False,
           "password": uuid.uuid4().hex, "groups": []}  # fmt: skip
    with pytest.raises(rest.Refused, match=r"422 .*TIYU-COCKPIT-0018"):
        by_token.call("POST", "/api/v1/security/users/", {**new, "roles": [numbers["auditor"], numbers["analyst"]]})
    by_token.call("POST", "/api/v1/security/users/", {**new, "roles": [numbers["analyst"]]})
    with sqlite3.connect(server.home / "superset.db", timeout=60) as metadata:
        lines = metadata.execute("SELECT user_id, json FROM logs WHERE action = 'users.post'").fetchall()
    noted = [(who, json.loads(text)["status"]) for who, text in lines if json.loads(text)["account"] == name]
    assert sorted(noted) == [(own, 201), (own, 422)]


def test_the_auditor_reads_what_was_changed_and_changes_nothing(server):
    account = session(server, "auditor")
    found = account.get(CHANGES_OF_ACCOUNTS)["result"]
    changes = [row for row in found if row["action"] == "users.post"]
    if not changes:  # this test alone
        test_the_security_administrator_gives_roles_as_the_policy_allows(server)
        found = account.get(CHANGES_OF_ACCOUNTS)["result"]
        changes = [row for row in found if row["action"] == "users.post"]
    noted = [json.loads(row["json"]) for row in changes]
    accepted = [row for row in noted if row["status"] == 201 and row["account"].startswith("newcomer_")]
    assert accepted
    assert accepted[0]["roles"] == ["district_leader_310105"]
    assert [row for row in noted if row["status"] == 422 and "Admin" in row["roles"]]
    with sqlite3.connect(server.home / "superset.db", timeout=60) as metadata:
        lines = [line for (line,) in metadata.execute("SELECT json FROM logs WHERE json IS NOT NULL")]
    passwords = [value for name, value in server.environment.items() if name.endswith("_PASSWORD")]
    assert len(lines) > 50
    assert len(passwords) >= 8
    assert not [name for name in passwords if any(name in line for line in lines)]
    numbers = role_numbers(account)
    assert set(roles.generated()) <= set(numbers)
    tries = {
        "account": account.http.post("/api/v1/security/users/", json={"roles": [numbers["leader"]]}),
        "own roles": account.http.put("/api/v1/security/users/1", json={"roles": [numbers["leader"]]}),
        "log": account.http.post("/api/v1/log/", json={"action": "x"}),
        "cache": account.http.post("/api/v1/cachekey/invalidate", json={"datasource_uids": []}),
    }
    assert tries["log"].status_code in (201, 400, 422, *CLOSED)  # every account may note its own clicks
    del tries["log"]
    assert {name: one.status_code for name, one in tries.items() if one.status_code not in CLOSED} == {}


def test_the_system_administrator_makes_superset_forget_figures_and_no_more(server):
    leader = session(server, "leader")
    dashboard = leader.get("/api/v1/dashboard/cockpit")["result"]["id"]
    title = cockpit.COCKPIT.charts()[0].title
    chart = next(one for one in leader.get("/api/v1/dashboard/cockpit/charts")["result"] if one["slice_name"] == title)
    body = doors.query_context({**chart["form_data"], "slice_id": chart["id"], "dashboardId": dashboard})
    leader.post("/api/v1/chart/data", body)
    assert leader.post("/api/v1/chart/data", body)["result"][0]["is_cached"]
    account = session(server, "system_admin")
    assert account.http.get("/").url.path == "/user_info/"
    answer = account.http.post(
        "/api/v1/cachekey/invalidate", json={"datasource_uids": [chart["form_data"]["datasource"]]}
    )
    assert answer.status_code == 201, answer.text
    assert not leader.post("/api/v1/chart/data", body)["result"][0]["is_cached"]
    tries = [account.http.get(path) for path in (
        "/api/v1/security/users/", "/api/v1/security/roles/", "/api/v1/log/", "/api/v1/database/", "/api/v1/dataset/",
        "/api/v1/chart/", "/api/v1/dashboard/", "/api/v1/saved_query/", "/api/v1/rowlevelsecurity/")]  # fmt: skip
    assert [(one.url.path, one.status_code) for one in tries if one.status_code not in CLOSED] == []


def test_the_catalogue_editor_reads_what_datasets_mean(server):
    account = session(server, "catalogue_editor")
    assert account.http.get("/").url.path == "/tablemodelview/list/"
    listed = account.get("/api/v1/dataset/?q=(page_size:100)")["result"]
    declared = {chart.dataset.uuid for chart in (*cockpit.COCKPIT.charts(), *cockpit.DISTRICT.charts())}
    assert {row["uuid"] for row in listed} >= declared
    wanted = "?q=(columns:!(table_name,description,columns.column_name,columns.verbose_name))"
    columns = [
        column for row in listed for column in account.get(f"/api/v1/dataset/{row['id']}{wanted}")["result"]["columns"]
    ]
    assert len(columns) > 50
    assert all(column["verbose_name"] for column in columns)
    number = listed[0]["id"]
    tries = {
        "change": account.http.put(f"/api/v1/dataset/{number}", json={"description": "x"}),
        "delete": account.http.delete(f"/api/v1/dataset/{number}"),
        "duplicate": account.http.post("/api/v1/dataset/duplicate", json={"base_model_id": number, "table_name": "x"}),
        "refresh": account.http.put(f"/api/v1/dataset/{number}/refresh"),
        "databases": account.http.get("/api/v1/database/"),
        "users": account.http.get("/api/v1/security/users/"),
    }
    assert {name: one.status_code for name, one in tries.items() if one.status_code not in CLOSED} == {}
