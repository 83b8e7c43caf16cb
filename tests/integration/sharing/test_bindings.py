"""目录挂接 against what is really there: every kind of dead binding is found by `tiyu catalog check --lake`."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from catalog import check, entries
from ingestion import bindings as sources
from lake import ledger, tables
from sharing.bindings import Surfaces
from tests.browser import sites_data

pytestmark = pytest.mark.integration
REGISTER, WATER = "exchange.venue_register→exchange.venue_register", "exchange.water_reading→exchange.water_reading"
DIRECTORY, VISITS = "open.venue_directory→open.venue_directory", "open.daily_visits→open.daily_visits"
PAGE = "dashboard.cockpit→cockpit"
CHECKIN, BOOKING = "fitness.checkin→FITNESS_API:", "venue.booking→VENUE_API:"


def run() -> tuple[dict[str, int], dict[str, str]]:
    """What was examined, and where → what of every dead binding."""
    surfaces = Surfaces()
    probes = {
        "connection": sources.connection, "table": surfaces.table, "delivery": surfaces.delivery,
        "dataset": surfaces.dataset, "page": surfaces.page,
    }  # fmt: skip
    report = check.run(lake=True, probes=probes, only=["bindings"])
    assert not report.checks[0].crashed, report.problems
    return report.examined, {p.where: p.message_zh for p in report.problems if p.code == "dead_binding"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An installation after a working day: a synthetic lake, served, delivered, published."""
    root = tmp_path_factory.mktemp("bound") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LAKE_ROOT", "TIYU_LEDGER_URL", "TIYU_CONN_CITY_DROP", "TIYU_COCKPIT_HOME"):
            patch.delenv(name, raising=False)
        patch.setenv("TIYU_HOME", str(root))
        patch.setenv("TIYU_TODAY", "2026-11-20")
        patch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")
        from protection import keys
        from sharing.exchange.run import run_exchange
        from sharing.open_data.build import build_open_data
        from sharing.serving.publish import publish_serving

        keys.ensure()
        sites_data.fill()
        use = pl.DataFrame({"part_date": [sites_data.DAY], "district_code": ["310101"], "venue_id": ["V310101-001"]})
        ledger.set_checked_version(
            "ads_cockpit__venue_day", tables.replace_table("ads_cockpit__venue_day", use), "test"
        )
        publish_serving()
        run_exchange()
        build_open_data()
        ledger.engine().dispose()
    return root


@pytest.fixture
def bound(made, home, monkeypatch) -> Path:
    """A private copy of it."""
    for name in ("TIYU_CONN_CITY_DROP", "TIYU_CONN_FITNESS_API", "TIYU_CONN_VENUE_API", "TIYU_COCKPIT_HOME"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(made, home, dirs_exist_ok=True)
    return home


def delivered(home: Path, resource: str) -> Path:
    row = next(row for row in ledger.deliveries(resource) if row["status"] == "sent")
    return home / "exchange" / row["path"]


def version_of(home: Path, dataset: str) -> Path:
    return next(path for path in (home / "open" / dataset).glob("v*") if path.is_dir() and not path.is_symlink())


def drop(home: Path, file: str, table: str) -> None:
    con = duckdb.connect(str(home / "serving" / file))
    con.execute(f"drop table {table}")
    con.close()


def superset(home: Path, *pages: str) -> None:
    (home / "cockpit").mkdir()
    con = sqlite3.connect(home / "cockpit" / "superset.db")
    con.execute("create table dashboards (slug text)")
    con.executemany("insert into dashboards values (?)", [(page,) for page in pages])
    con.commit()
    con.close()


def test_what_is_there_is_bound_and_counted(bound):
    examined, dead = run()
    named = {REGISTER, WATER, DIRECTORY, VISITS, PAGE}
    assert not named & set(dead), {where: dead[where] for where in named & set(dead)}
    assert (examined["seen_delivery"], examined["seen_dataset"]) == (2, 2)
    assert examined["seen_page"] >= 1
    assert "服务文件 coach_" in dead["dashboard.coach→coach"], (
        "this lake holds no squads: the coaches' page has nothing to read"
    )
    assert examined["seen_table"] > 18, "every table in every file, districts included"
    assert examined["unseen"] >= 7, "sources whose connection is not set here"
    assert examined.get("seen_connection", 0) == 0
    assert 0 < examined["bound"] < len(entries.load_all()), "tables this lake does not hold are dead"
    assert dead["dwd_venue__visit→dwd_venue__visit"] == "挂接失效：湖仓里没有这张表"


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


DEFECTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "the folder of a delivery is gone": (
        lambda home: shutil.rmtree(delivered(home, "venue.register")), REGISTER, "发件箱里没有最近一次交付的目录",
    ),
    "a delivered file was cut short": (
        lambda home: _cut(next(delivered(home, "venue.register").glob("*.csv.gz"))), REGISTER, "缺文件或大小不符",
    ),
    "a delivery lost its .ok": (
        lambda home: next(delivered(home, "supervision.water_reading").glob("*.ok")).unlink(), WATER, "缺文件或大小不符",
    ),
    "an open dataset has no version": (
        lambda home: shutil.rmtree(version_of(home, "daily_visits")), VISITS, "还没有发布过版本",
    ),
    "a file of an open version was altered": (
        lambda home: _cut(next(version_of(home, "venue_directory").glob("*.csv"))), DIRECTORY, "TIYU-OPEN-0005",
    ),
    "an open dataset has no page": (
        lambda home: (home / "open" / "daily_visits" / "index.html").unlink(), VISITS, "开放数据页面不存在",
    ),
    "a table is missing in the page's file": (
        lambda home: drop(home, "cockpit.duckdb", "ads.ads_cockpit__headline"), PAGE, "ads_cockpit__headline",
    ),
    "the page is not in the cockpit": (lambda home: superset(home, "other"), PAGE, "驾驶舱里没有这个页面"),
    "a table is missing in the analysts' file": (
        lambda home: drop(home, "analyst.duckdb", "ads.ads_cockpit__sport_day"),
        "ads_cockpit__sport_day→ads_cockpit__sport_day", "服务文件 analyst.duckdb 里没有这张表",
    ),
    "a table is missing in one district's file": (
        lambda home: drop(home, "district_310104.duckdb", "ads.ads_cockpit__sport_day"),
        "ads_cockpit__sport_day→ads_cockpit__sport_day", "310104",
    ),
    "a serving file is gone": (
        lambda home: (home / "serving" / "cockpit.duckdb").unlink(), PAGE, "服务文件 cockpit.duckdb 不可用",
    ),
    "a serving file is damaged": (
        lambda home: (home / "serving" / "cockpit.duckdb").write_bytes(b"no database"), PAGE, "服务文件 cockpit.duckdb 打不开",
    ),
    "a stored table is gone": (
        lambda home: shutil.rmtree(home / "lake" / "ads" / "ads_open__daily_visit"),
        "ads_open__daily_visit→ads_open__daily_visit", "湖仓里没有这张表",
    ),
}  # fmt: skip


#: Defects of different things are planted together; each must be told of its own entry. Every defect stands in one round.
ROUNDS = (
    (
        "the folder of a delivery is gone", "an open dataset has no version", "a table is missing in the page's file",
        "a table is missing in the analysts' file", "a stored table is gone",
    ),
    (
        "a delivered file was cut short", "a delivery lost its .ok", "a file of an open version was altered",
        "an open dataset has no page", "the page is not in the cockpit", "a table is missing in one district's file",
    ),
    ("a serving file is gone",),
    ("a serving file is damaged",),
)  # fmt: skip


@pytest.mark.parametrize("names", ROUNDS, ids=lambda names: names[0])
def test_a_planted_defect_is_a_dead_binding(bound, names):
    assert sorted(name for one in ROUNDS for name in one) == sorted(DEFECTS)
    for name in names:
        DEFECTS[name][0](bound)
    _, dead = run()
    for name in names:
        _, where, said = DEFECTS[name]
        assert said in dead.get(where, ""), name


def test_a_source_that_does_not_answer_is_a_dead_binding(bound, tmp_path, monkeypatch):
    folder = tmp_path / "drop"
    folder.mkdir()
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", folder.as_uri())
    monkeypatch.setenv("TIYU_CONN_FITNESS_API", "http://:token@127.0.0.1:9")
    monkeypatch.setattr("ingestion.connectors.http_source.time.sleep", lambda seconds: None)
    examined, dead = run()
    assert examined["seen_connection"] >= 5
    assert examined["unseen"] >= 1, "the connection that is not set"
    silent = {where: said for where, said in dead.items() if where.startswith(CHECKIN)}
    assert list(silent.values()) == ["挂接失效：数据源没有应答：数据源接口无法访问（TIYU-ING-0120）"]
    assert "token" not in str(dead)
    assert not any(where.startswith(("venue.register→CITY_DROP", BOOKING)) for where in dead)

    folder.rmdir()
    dropped = {where for where, said in run()[1].items() if "TIYU-ING-0110" in said}
    assert any(where.startswith("venue.register→CITY_DROP:") for where in dropped)
    assert len(dropped) >= 4
