"""What lies behind and before the surfaces of the policy: the databases and logs of the programs that show them, what an
analyst makes from them, and the pages as a browser draws them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.policy.canary import plant
from tests.policy.canary.lake import PERSON_TABLES, Ran, copy, tiyu
from tests.policy.canary.persons import STRAY

ROOT = Path(__file__).resolve().parents[3]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGES = {
    "start": "/",
    "portal": "/open/",
    "dataset": "/open/venue_directory/",
    "dataset_version": "/open/daily_visits/latest/",
    "exchange": "/exchange/",
    "catalogue": "/catalogue/",
    "catalogue_checkin": "/catalogue/fitness.checkin/",
    "catalogue_register": "/catalogue/venue.register/",
    "catalogue_activity": "/catalogue/training.activity/",
}


# ------------------------------------------------------------------ scratch
def scratch(ran: Ran) -> None:
    """An analyst's scratch tables: results over persons kept, a CSV uploaded, one that may not come in; file and screen."""
    own = ("--account", "canary_analyst")
    for table in ("ods_fitness__checkin", "ods_venue__register", "ods_training__activity"):
        name = table.rpartition("_")[2]
        assert tiyu(ran, "scratch", f"create-{name}", "scratch", "create", name, f"SELECT * FROM {table}", *own) == 0
        shown = ("sql", f"SELECT * FROM scratch.{name}", "--json", "--limit", "5000", *own)
        assert tiyu(ran, "scratch", f"show-{name}", *shown) == 0
    folder = ran.out.parent / "uploads"
    folder.mkdir(exist_ok=True)
    (folder / "venues.csv").write_text("venue_id,note\nV310104-001,好\n", "utf-8")
    (folder / "persons.csv").write_text(f"venue_id,note\nV310104-001,{STRAY.phone} {STRAY.id_no}\n", "utf-8")
    assert tiyu(ran, "scratch", "upload", "scratch", "upload", str(folder / "venues.csv"), *own) == 0
    assert tiyu(ran, "scratch", "upload-persons", "scratch", "upload", str(folder / "persons.csv"), *own) != 0
    tiyu(ran, "scratch", "list", "scratch", "list", *own)
    copy(ran, "scratch", ran.home / "scratch")


# ------------------------------------------------------------------ Airflow
def airflow(ran: Ran) -> None:
    """What `fetched` leaves behind."""
    fetched(ran, "airflow")


def fetched(ran: Ran, place: str, *switched_off: str) -> None:
    """A source whose newest delivery is bad, fetched by its DAG in a real Airflow: metadata database, logs, output.

    The file's name holds a number, and so does a field that is declared free of numbers: the first run stops the batch and
    fails, the second refuses the object, takes in the rest and goes on to the quality gate. `switched_off` names
    protections that the runs go without.
    """
    from deploy import airflow as deployed

    base = ran.out.parent / place
    drop = base / "drop" / "venue" / "entry" / f"{plant.DAY:%Y%m%d}"
    plant.second(ran.city, "venue.entry", drop)
    (bad,) = drop.glob("*.ndjson")
    row = {**json.loads(bad.read_text("utf-8")), "seq_no": 978002, "checkin_id": f"找 {STRAY.phone}"}
    bad.rename(drop / f"entry_{plant.DAY:%Y%m%d}_{STRAY.phone}.ndjson")
    (drop / f"entry_{plant.DAY:%Y%m%d}_98.ndjson").write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
    secrets = dict.fromkeys(
        ("airflow_fernet", "airflow_api", "airflow_jwt"), "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LTEyMzQ="
    )
    settings = deployed.environment(base, deployed.Ports(1, 2, 3, 4), secrets)
    state = Path(settings["AIRFLOW_HOME"])
    state.mkdir(parents=True)
    shutil.copyfile(deployed.TEMPLATE, state / "airflow.db")
    shutil.copytree(ran.home, base / "home", symlinks=True)  # the lake that the others look at stays as it is
    values = {
        "TIYU_HOME": str(base / "home"),
        "TIYU_CONN_CITY_DROP": f"file://{base / 'drop'}",
        "TIYU_SCHEDULE": "manual",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.policy.canary.airflow_run", "ingest_venue_entry", "ingest_venue_entry", *switched_off],
        cwd=ROOT, env={**os.environ, **settings, **values, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False, timeout=1500,
    )  # fmt: skip
    ran.write(place, "stdout.txt", done.stdout)
    ran.write(place, "stderr.txt", done.stderr)
    assert done.returncode == 0, done.stderr[-3000:].decode("utf-8", "replace")
    assert b"run ingest_venue_entry failed" in done.stdout, done.stdout[-2000:]
    assert b"run ingest_venue_entry success" in done.stdout, done.stdout[-2000:]
    copy(ran, place, state)


# ------------------------------------------------------------------ pages
@contextmanager
def served(root: Path) -> Iterator[str]:
    """The sites of a state folder on loopback; gives their address."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "sharing.sites.serve", "--port", str(port)], cwd=ROOT)
    try:
        _wait(f"http://127.0.0.1:{port}/health", 300)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def pages(ran: Ran) -> None:
    """Start page, portal, interface specification and catalogue in headless Chromium: the document as drawn, and its text.

    On the catalogue's entry page the names of the canaries are searched for, as a reader would.
    """
    from playwright.sync_api import sync_playwright

    from sharing.sites.start_page import build_start_page

    build_start_page({"accounts": []})
    with served(ran.home) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        for name, path in PAGES.items():
            answer = page.goto(address + path)
            assert answer is not None
            assert answer.status == 200, path
            drawn(ran, name, page)
        browser.close()


def drawn(ran: Ran, name: str, page: object, place: str = "page") -> None:
    """Keep a page as the browser holds it after its scripts ran: markup and visible text."""
    ran.write(place, f"{name}.html", page.content())  # type: ignore[attr-defined]
    ran.write(place, f"{name}.txt", page.inner_text("body"))  # type: ignore[attr-defined]


# ------------------------------------------------------------------ Superset
@contextmanager
def started(base: Path, serving: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A real Superset from the demo's template on a folder of serving files; gives its address and the accounts' passwords."""
    from dashboards import bootstrap, district_map
    from deploy import demo

    assert demo.COCKPIT_TEMPLATE.is_file(), "make setup builds the template"
    base.mkdir(parents=True)
    district_map.write(base / "districts.geojson")
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    passwords = {user: uuid.uuid4().hex for user in bootstrap.ACCOUNTS}
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SUPERSET_", "TIYU_", "FLASK_"))}
    values = {bootstrap.password_variable(user): password for user, password in passwords.items()} | {
        "SUPERSET_SECRET_KEY": uuid.uuid4().hex * 2,
        "TIYU_COCKPIT_HOME": str(base / "home"),
        "TIYU_SERVING_ROOT": str(serving),
        "TIYU_MAP_GEOJSON": str(base / "districts.geojson"),
    }
    command = [str(demo.COCKPIT_PYTHON), "-m", "dashboards.bootstrap", "start-from-template"]
    command += ["--template", str(demo.COCKPIT_TEMPLATE), "--port", str(port)]
    with (base / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=clean | values, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait(f"http://127.0.0.1:{port}/login/", 900)
            yield f"http://127.0.0.1:{port}", passwords
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def superset(ran: Ran) -> None:
    """Superset on the serving files: all charts of leader, district and coach, an analyst's queries over persons in SQL Lab,
    every tab of the three dashboards in Chromium; then its metadata, its caches and its log, and what it answered.

    At the end one file is exchanged for one cut without the policy's tokens and asked again: what is then left behind goes to a
    folder of its own (`superset without tokens`), which the search must find canaries in.
    """
    from deploy import doors

    base = ran.out.parent / "superset"
    serving = base / "serving"
    shutil.copytree(ran.home / "serving", serving, ignore=shutil.ignore_patterns(".*"))
    with started(base / "server", serving) as (address, passwords):
        for user, slug in DASHBOARDS:
            answers = doors._dashboard(doors.Superset(address, user, passwords[user]), slug)
            assert answers.charts >= (5 if slug == "coach" else 10)
            assert not answers.broken, answers.broken
            ran.write(SHOWN_TO[slug], f"answers-{slug}.txt", answers.text)
        asked = _sql_lab(ran, "superset", address, passwords["analyst"])
        assert asked == len(PERSON_TABLES)
        for user, slug in DASHBOARDS:
            _tabs(ran, address, user, passwords[user], slug)
        _keep(ran, "superset", base / "server")
        leaking = _cut_without_tokens(base / "leaking")
        os.replace(leaking, serving / "analyst.duckdb")
        _sql_lab(ran, LEAKING, address, passwords["analyst"])
    _keep(ran, LEAKING, base / "server")


LEAKING = "superset without tokens"
DASHBOARDS = (("leader", "cockpit"), ("leader_xuhui", "district"), ("coach_sq01", "coach"))
#: Where it is kept what a dashboard shows: a coach may see more than the others, so his is searched by his own measure.
SHOWN_TO = {"cockpit": "page", "district": "page", "coach": "cockpit.coach"}


def _keep(ran: Ran, place: str, server: Path) -> None:
    copy(ran, place, server / "home", server / "server.log")


def _sql_lab(ran: Ran, place: str, address: str, password: str) -> int:
    """Every row and column of the tables about persons, as an analyst asks for them; returns how many gave rows."""
    from deploy import doors

    session = doors.Superset(address, "analyst", password)
    databases = session.get("/api/v1/database/?q=(page_size:50)")["result"]
    number = next(item["id"] for item in databases if item.get("expose_in_sqllab"))
    asked = 0
    for table in PERSON_TABLES:
        answer = session.post("/api/v1/sqllab/execute/", {
            "database_id": number, "sql": f"SELECT * FROM ods.{table}", "client_id": uuid.uuid4().hex[:10], "runAsync": False,
            "queryLimit": 10_000, "schema": "ods", "select_as_cta": False, "expand_data": True,
        })  # fmt: skip
        asked += bool(answer["data"])
        ran.write(place, f"sql-{table}.json", json.dumps(answer["data"], ensure_ascii=False))
    return asked


def _cut_without_tokens(home: Path) -> Path:
    """The analyst's file of this lake, cut by a policy that leaves the identity numbers' tokens as they are stored."""
    import duckdb

    from catalog import policy
    from dags.verbs import publish_serving
    from dashboards import access
    from lake.settings import settings
    from tests import policies

    shutil.copytree(settings().home, home, symlinks=True)
    loose = policies.changed(("audiences.analyst.tables", ["ods_"]), ("audiences.analyst.kinds.id_no", "plain"))
    with pytest.MonkeyPatch.context() as patch, policy.replaced(loose):
        patch.setenv("TIYU_HOME", str(home))
        publish_serving(["analyst"], full=True)
    file = home / "serving" / "analyst.duckdb"
    # Superset opens no file that says it was cut under another policy; this one lies, so that the search has something to find.
    with duckdb.connect(str(file)) as con:
        con.execute(
            "UPDATE main.catalog_notice SET text = split_part(text, '.', 1) || '.' || ? WHERE name = '构建指纹'",
            [access.policy_digest("analyst")],
        )
    return file


def _tabs(ran: Ran, address: str, user: str, password: str, slug: str) -> None:
    """A dashboard in Chromium as one account sees it: every tab, once it has drawn its charts."""
    from playwright.sync_api import sync_playwright

    from dashboards import assets

    dashboard = next(one for one in assets.dashboards() if one.slug == slug)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 2400})
        page.set_default_timeout(300_000)
        page.goto(f"{address}/login/")
        page.fill("[data-test='username-input']", user)
        page.fill("[data-test='password-input']", password)
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "/login/" not in url)
        page.goto(f"{address}/superset/dashboard/{slug}/")
        for tab in dashboard.pages:
            page.locator("[role=tab]", has_text=tab.title).first.click()
            page.wait_for_function(DRAWN, arg=sum(len(row) for row in tab.rows))
            drawn(ran, f"{slug}-{tab.key}", page, SHOWN_TO[slug])
        browser.close()


#: Every chart of the open tab has its content and none is loading.
DRAWN = """charts => {
  const seen = [...document.querySelectorAll("[data-test='chart-grid-component']")].filter(e => e.offsetParent !== null);
  return seen.length >= charts && seen.every(e => !e.querySelector("[data-test='loading-indicator'], .loading")
         && e.querySelector("[data-test='slice-container']"));
}"""


def _wait(address: str, seconds: float) -> None:
    """Until an address answers; no proxy of the environment is used."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + seconds
    while True:
        try:
            opener.open(address, timeout=30).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


STORES: dict[str, Callable[[Ran], None]] = {
    "scratch": scratch,
    "airflow": airflow,
    "page": pages,
    "superset": superset,
}
"""Place → what writes down all that is in it. The cockpit's page is drawn while Superset is up, and kept with the others."""
