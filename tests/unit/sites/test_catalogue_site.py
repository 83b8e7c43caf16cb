"""The catalogue site: a page per entry with meaning, grade, lineage, freshness, quality and the way to ask; search in the page."""

from __future__ import annotations

import re
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from catalog import entries as catalogue_entries
from catalog import lineage
from catalog.entries.facts import TableFacts
from catalog.lineage import Model, kept
from lake import ledger
from lake.settings import settings
from sharing.sites import catalogue, lineage_picture, serve, theme
from sharing.sites.column_lineage import ColumnLineage
from tests.browser import sites_data


def small_graph():
    """Two models as a build would have left them, and their SQL."""
    sql = {
        "dwd_venue__visit": """select c.person_token, c.venue_id, v.district_code, c.part_date from ods_fitness__checkin c
            join ods_venue__register v on c.venue_id = v.venue_id where c.purpose = 'enter'""",
        "ads_open__daily_visit": "select part_date, count(distinct person_token) as person_count from dwd_venue__visit group by part_date",
    }
    columns = {
        "dwd_venue__visit": ("person_token", "venue_id", "district_code", "part_date"),
        "ads_open__daily_visit": ("part_date", "person_count"),
    }
    sources = {
        "ods_fitness__checkin": ("person_token", "venue_id", "purpose", "part_date"),
        "ods_venue__register": ("venue_id", "district_code"),
    }
    return lineage.build([Model(name, text, columns[name]) for name, text in sql.items()], sources), sql


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site over a synthetic lake."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TIYU_HOME", str(tmp_path_factory.mktemp("home") / "var"))
        monkeypatch.setenv("TIYU_TODAY", "2026-11-20")
        monkeypatch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")
        for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
            monkeypatch.delenv(name, raising=False)
        sites_data.fill()
        kept.write(*small_graph())
        report = catalogue.build()
        assert report["entries"] == len(list((settings().site_root / catalogue.FOLDER).glob("*/index.html")))
        assert report["changed"] >= report["entries"]
        assert catalogue.build()["changed"] == 0, "nothing changed, not a byte written"
        yield settings().site_root / catalogue.FOLDER


@pytest.fixture(scope="module")
def entries():
    return catalogue_entries.load_all()


def page(site: Path, entry: str) -> str:
    return (site / entry / "index.html").read_text("utf-8")


def test_every_entry_has_a_page_with_every_column_and_its_grade(site, entries):
    columns = 0
    for entry in entries.values():
        text = page(site, entry.id)
        assert entry.title_zh in text
        for table in entry.tables:
            for column in table.columns:
                if column.name.startswith("_"):
                    continue
                row = text.split(f'<tr id="{table.name}.{column.name}">')[1].split("</tr>")[0]
                assert f'<span class="grade {column.grade}">{column.grade}</span>' in row
                assert column.title_zh in row
                columns += 1
    assert columns > 500


def test_what_an_analyst_asks_stands_on_the_page(site, entries):
    text = page(site, "ads_cockpit__sport_day")
    for heading in (
        "每一列是什么意思",
        "怎么查",
        "从哪里来，到哪里去",
        "新不新",
        "质量历史",
        "谁能看，怎么申请",
        "目录元素",
    ):
        assert heading in text, heading
    for part in (
        "到访人次",
        "人次",
        "一个区一个项目一天",
        "select *",
        "数据到 2026-11-19",
        entries["ads_cockpit__sport_day"].code,
        "演示数据，非真实统计",
    ):
        assert part in text, part
    assert re.search(r"<code>tiyu sql --saved swim_by_district</code>", text)


def test_who_sees_how_many_columns_comes_from_the_policy(site):
    text = page(site, "training.activity")
    block = text.split('aria-label="各受众看到的列数"')[1].split("</table>")[0]
    leader = block.split("市局领导")[1].split("</tr>")[0]
    analyst = block.split("数据分析师")[1].split("</tr>")[0]
    assert "整表不提供" in leader
    counts = [int(n) for n in re.findall(r'<td class="n">(\d+)</td>', analyst)]
    assert counts[3] >= 2, "heart rates are L4: absent"
    assert counts[0] > 0
    assert counts[2] == 1, "the athlete is a token"


@pytest.mark.parametrize(
    ("latest", "day"),
    [
        (date(2026, 11, 17), "2026-11-17"),  # the newest day there is
        (date(2026, 11, 19), "2026-11-19"),
        (date(2026, 11, 20), "2026-11-19"),  # the running day is never whole
        (date(2026, 12, 4), "2026-11-19"),  # bookings lie ahead
    ],
)
def test_the_first_query_asks_for_the_newest_whole_day(site, entries, latest, day):
    entry = entries["venue.booking"]
    visible = {"ods_venue__booking": TableFacts("ods_venue__booking", 3, 10, latest)}
    assert catalogue._first_query(entry, visible) == (
        f"select *\nfrom ods.ods_venue__booking\nwhere part_date = date '{day}'\nlimit 20"
    )


def test_the_first_query_of_a_table_without_days_has_no_condition_and_what_cannot_be_asked_has_none(site, entries):
    undated = {"dim_district": TableFacts("dim_district", 1, 16, None)}
    wanted = "select *\nfrom dim.dim_district\nlimit 20"
    assert catalogue._first_query(entries["dim_district"], undated) == wanted
    assert catalogue._first_query(entries["dim_district"], {}) == wanted, "nothing is visible yet"
    for entry in entries.values():
        asked = catalogue._first_query(entry, {})
        assert (asked is not None) == (entry.layer in ("ods", "dim", "dwd", "dws", "ads") and bool(entry.tables)), (
            entry.id
        )


def test_no_link_is_dead(site, entries):
    class Links(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def handle_starttag(self, tag, attrs):
            self.found += [value for name, value in attrs if name in ("href", "src") and value and "://" not in value]

    examined = 0
    for file in site.rglob("index.html"):
        parser = Links()
        parser.feed(file.read_text("utf-8"))
        for link in parser.found:
            target = (file.parent / link.split("#")[0]).resolve()
            if target.parent == site.parent.resolve() or target in (site.parent.resolve(),):
                continue  # the start page and its neighbours are built by others
            assert target.exists(), f"{file.parent.name}: {link}"
            examined += 1
    assert examined > 15 * len(entries)


def test_the_picture_goes_from_sources_to_pages_and_never_backwards(entries):
    picture = lineage_picture.draw(entries["dwd_venue__visit"], entries)
    boxes = {m[1]: int(m[0]) for m in re.findall(r'<rect class="lb [a-z]+" x="(\d+)"[^>]*/><text[^>]*>[^<]*</text><text[^>]*>([^<]*)<', picture)}  # fmt: skip
    assert boxes["venue.entry"] < boxes["dwd_venue__visit"] < max(boxes.values())
    assert any(name.startswith("dashboard.") for name in boxes)
    examined = 0
    for entry in entries.values():
        for direction in ("upstream", "downstream"):
            steps = lineage_picture.levels(entry, entries, direction)
            flat = [name for step in steps for name in step]
            assert len(flat) == len(set(flat))
            examined += len(flat)
    assert examined > 200


def test_a_page_of_an_entry_that_is_gone_goes_too(site, monkeypatch):
    (site / "gone.entry").mkdir()
    (site / "gone.entry" / "index.html").write_text("old")
    monkeypatch.setenv("TIYU_HOME", str(site.parent.parent))
    catalogue.build()
    assert not (site / "gone.entry").exists()


def test_only_the_catalogue_may_run_its_own_script(site):
    client = TestClient(serve.application(site.parent, None))
    policy = client.get("/catalogue/").headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "script" not in client.get("/").headers["content-security-policy"]
    assert client.get("/catalogue/static/catalogue.js").headers["content-type"].startswith("text/javascript")
    for file in site.rglob("*.html"):
        text = file.read_text("utf-8")
        assert not re.search(r"<script(?![^>]*src=)", text), "no inline script"
        assert not re.search(r"\son\w+=", text), "no inline handler"


def test_without_a_lake_the_catalogue_still_says_what_is_declared(tmp_path, monkeypatch):
    monkeypatch.setenv("TIYU_HOME", str(tmp_path / "var"))
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
        monkeypatch.delenv(name, raising=False)
    assert ledger.checked_versions() == {}
    report = catalogue.build()
    assert report["tables_visible"] == 0
    text = page(settings().site_root / catalogue.FOLDER, "venue.booking")
    assert "还没有可见的数据" in text
    assert theme.STATIC


def row_of(site: Path, entry: str, column: str) -> str:
    return page(site, entry).split(f'<tr id="{column}">')[1].split("</tr>")[0]


def test_a_column_shows_its_edges_up_to_the_source_file_and_down(site):
    row = row_of(site, "ads_open__daily_visit", "ads_open__daily_visit.person_count")
    assert "血缘：上游 5 列，下游 0 列" in row
    direct, sources = row.split("追到来源")
    assert '<a href="../dwd_venue__visit/">' in direct
    assert (
        '取值</b> <code>person_token</code> 个人标记<br><b class="edge influence">影响</b> <code>（行）</code>'
        in direct
    )
    assert "<code>part_date</code> 业务日期" in direct
    assert '<a href="../fitness.checkin/">' in sources
    assert "FITNESS_API:/api/v1/checkins" in sources
    assert re.search(r"影响</b>.*<code>purpose</code>", sources)
    assert "关联</b> 1 列" in sources, "keys that only tie rows together are counted, not listed"
    down = row_of(site, "dwd_venue__visit", "dwd_venue__visit.person_token").split("用到它的列")[1]
    assert '<a href="../ads_open__daily_visit/">' in down
    assert "<code>person_count</code>" in down


def test_a_source_column_names_its_place_in_the_source(site):
    row = row_of(site, "fitness.checkin", "ods_fitness__checkin.person_token")
    assert "来源文件" in row
    assert "FITNESS_API:/api/v1/checkins" in row
    assert "中的 <code>" in row
    derived = row_of(site, "fitness.checkin", "ods_fitness__checkin.birth_year")
    assert "由入湖时计算得出" in derived


def test_without_a_build_only_the_source_is_known(home, entries):
    known = ColumnLineage(entries)
    assert known.graph is None
    assert known.of("dwd_venue__visit", "person_token") is None
    assert known.of("ods_fitness__checkin", "person_token")["file"]["place"] == "FITNESS_API:/api/v1/checkins"


def test_the_graph_is_kept_whole_and_a_damaged_file_is_no_graph(home):
    graph, sql = small_graph()
    kept.write(graph, sql)
    found = kept.read()
    assert found is not None
    assert (found.graph.edges, found.graph.models, found.graph.sources) == (graph.edges, graph.models, graph.sources)
    assert found.sql == sql
    kept.path().write_text("{", encoding="utf-8")
    assert kept.read() is None
