"""The catalogue site: a page per entry with meaning, grade, lineage, freshness, quality and the way to ask; search in the page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from catalog import entries as catalogue_entries
from lake import ledger
from lake.settings import settings
from sharing.sites import catalogue, lineage_picture, serve, theme
from tests.browser import sites_data


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
    assert examined > 20 * len(entries)


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
