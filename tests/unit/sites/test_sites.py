"""Start page, specification page and static server."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
from starlette.testclient import TestClient

from lake import clock, properties
from lake.settings import settings
from sharing.exchange import run
from sharing.exchange.codes import CHECKS, RECEIVER_CHECKS
from sharing.exchange.config import load
from sharing.open_data import build, versions
from sharing.sites import catalogue, live, serve, spec_page, start_page
from tests.browser import sites_data

ENDPOINTS = {
    "cockpit": "http://127.0.0.1:8602", "airflow": "http://127.0.0.1:8601", "site": "http://127.0.0.1:8600",
    "accounts": [{"door": "驾驶舱（领导）", "user": "leader", "password": "s3cret-leader"}],
}  # fmt: skip


def _clock(monkeypatch, home: Path) -> None:
    monkeypatch.setenv("TIYU_HOME", str(home))
    monkeypatch.setenv("TIYU_TODAY", "2026-11-20")
    monkeypatch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL", "TIYU_EXCHANGE_USCC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """One installation with everything built, under the real contracts; shared, because building it takes seconds."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _clock(monkeypatch, tmp_path_factory.mktemp("home") / "var")
        sites_data.fill()
        run.run_exchange()
        build.build_open_data()
        start_page.build_start_page(ENDPOINTS)
        catalogue.build()
        yield settings().home


@pytest.fixture
def empty(tmp_path, monkeypatch):
    _clock(monkeypatch, tmp_path / "var")
    return tmp_path / "var"


@pytest.fixture(scope="module")
def client(filled):
    return TestClient(serve.application(filled / "site", filled / "open"))


def test_every_door_has_a_first_step_and_live_data(filled):
    page = (filled / "site" / "index.html").read_text(encoding="utf-8")
    for door in ("数据分析师", "领导驾驶舱", "市大数据中心", "开放数据用户"):
        section = page.split(f"<h2>{door}</h2>")[1].split("</section>")[0]
        assert "第一步" in section
        assert "还没有数据" not in section
    for text in (
        "羽毛球",
        "18,432",
        "select sport_name",
        "openssl dgst -sm3",
        "GB 37488-2019",
        "演示数据，非真实统计",
        "s3cret-leader",
        "100,037 = 100,000 + 25 + 12",
        "http://127.0.0.1:8601",
        "首次交付",
    ):
        assert text in page, text
    assert page.count('<span class="tag good">相等</span>') == 7
    state = json.loads((filled / "site" / "start.json").read_text(encoding="utf-8"))
    assert all(door["has_data"] for door in state["doors"].values())
    assert len(state["doors"]) == 4
    assert "s3cret-leader" not in json.dumps(state)


def test_the_shown_check_command_is_true(filled):
    import subprocess

    state = json.loads((filled / "site" / "start.json").read_text(encoding="utf-8"))["exchange"]
    folder = filled / "exchange" / state["folder"]
    for command, output in state["commands"]:
        assert (
            subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
            == output
        )


def test_building_again_changes_nothing(filled):
    before = {p: p.stat().st_mtime_ns for p in (filled / "site").rglob("*") if p.is_file()}
    start_page.build_start_page(ENDPOINTS)
    assert {p: p.stat().st_mtime_ns for p in (filled / "site").rglob("*") if p.is_file()} == before


def test_a_deadline_that_has_passed_is_called_so(filled):
    now = clock.as_of()
    assert live.until(now + timedelta(minutes=1)).endswith(" 前处置")
    assert live.until(now).startswith("请于 ")
    late = live.until(now - timedelta(minutes=1))
    assert late.startswith("应于 ")
    assert late.endswith("，已超期")


def test_an_unbalanced_source_is_shown_as_such(filled, monkeypatch):
    from sharing.sites import live

    rows = live.sources(live.Lake())
    assert len(rows) == 7
    assert all(row["balances"] for row in rows)
    original = live.Lake.rows
    monkeypatch.setattr(
        live.Lake, "rows", lambda self, sql, p=None: [r | {"duplicate_count": 11} for r in original(self, sql, p)]
    )
    assert not any(row["balances"] for row in live.sources(live.Lake()))


def test_an_empty_platform_says_what_to_do(empty):
    page = start_page.build_start_page({}).read_text(encoding="utf-8")
    assert page.count("还没有数据") >= 5
    assert "逾期未交" in page
    assert "演示数据" not in page
    state = json.loads((empty / "site" / "start.json").read_text(encoding="utf-8"))
    assert not any(door["has_data"] for door in state["doors"].values())


def test_passwords_are_shown_only_in_a_demo(empty):
    assert "s3cret-leader" not in start_page.build_start_page(ENDPOINTS).read_text(encoding="utf-8")
    properties.set("is_demo", "true")
    assert "s3cret-leader" in start_page.build_start_page(ENDPOINTS).read_text(encoding="utf-8")


def test_pages_ask_nothing_from_outside_and_have_no_script_or_inline_style(filled):
    pages = [*(filled / "site").rglob("*.html"), *(filled / "open").glob("**/*.html")]
    assert len(pages) >= 6
    for path in pages:
        html = path.read_text(encoding="utf-8")
        own = '<script src="static/catalogue.js" defer></script>' if path.parent.name == "catalogue" else ""
        assert "<script" not in html.replace(own, "", 1), path
        assert " style=" not in html, path
        assert not re.search(r'(?:src|<link[^>]*href)="(?:https?:)?//', html), path
        assert 'lang="zh-CN"' in html
        assert "演示数据，非真实统计" in html
    assert "http" not in (filled / "site" / "static" / "tiyu.css").read_text(encoding="utf-8").replace(
        "a[href^=", ""
    ).replace('"http"', "")


def test_every_link_answers_and_types_and_headers_are_right(client):
    queue, seen = ["/"], {}
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        seen[path] = answer.headers["content-type"]
        if answer.headers["content-type"].startswith("text/html"):
            from urllib.parse import urljoin, urlsplit

            for link in re.findall(r'(?:href|src)="([^"#]+)', answer.text):
                target = urlsplit(urljoin(str(answer.url), link))
                if target.netloc == "testserver":
                    queue.append(target.path)
    assert len(seen) > 35
    types = {Path(path).suffix: kind for path, kind in seen.items()}
    assert types[".csv"] == "text/csv; charset=utf-8"
    assert types[".geojson"] == "application/geo+json"
    assert types[".parquet"] == "application/vnd.apache.parquet"
    assert types[".css"].startswith("text/css")
    assert types[".svg"] == "image/svg+xml"


def test_server_gives_nothing_outside_its_folders(client, filled):
    outside = [
        "/../ledger.db",
        "/..%2fledger.db",
        "/%2e%2e/ledger.db",
        "/open/..%2f..%2fledger.db",
        "/static/..%2f..%2fledger.db",
        "//etc/passwd",
        "/open/.lock",
        "/open/%2elock",
        "/site/",
        "/exchange/../../ledger.db",
    ]
    (filled / "open" / "evil").symlink_to(filled / "ledger.db")
    try:
        for path in [*outside, "/open/evil"]:
            assert client.get(path).status_code == 404, path
    finally:
        (filled / "open" / "evil").unlink()
    assert client.post("/").status_code == 405
    assert client.get("/open/venue_directory").url.path == "/open/venue_directory/"


def test_published_versions_may_be_cached_forever_and_nothing_else(client, filled):
    version = versions.published("venue_directory")[-1]["version"]
    first = client.get(f"/open/venue_directory/{version}/venue_directory.csv")
    assert "immutable" in first.headers["cache-control"]
    assert client.get("/open/venue_directory/latest/venue_directory.csv").headers["cache-control"] == "no-cache"
    page = client.get("/")
    assert page.headers["cache-control"] == "no-cache"
    assert client.get("/", headers={"if-none-match": page.headers["etag"]}).status_code == 304
    assert client.get("/open/venue_directory/v20000101-00000000/x").headers["cache-control"] == "no-cache"


def test_specification_says_what_the_code_does():
    text = (spec_page.source_folder() / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(EX-\d\d)` \| (.+?) \| (.+?) \|$", text, flags=re.MULTILINE)
    assert rows == [(c.code, c.title_zh, c.action_zh) for c in (*CHECKS, *RECEIVER_CHECKS)]
    for spec in load():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{spec.resource}`"))
        assert f"`{spec.resource_code}`" in row
        assert {"F": "全量 F", "I": "增量 I"}[spec.mode] in row
        assert "、".join(f"`{name}`" for name in spec.key) in row
        assert f"{spec.due_time:%H:%M}" in row
    schema = json.loads((spec_page.source_folder() / "manifest.schema.json").read_text(encoding="utf-8"))
    named = set(re.findall(r"`([a-z_]+)`", text.split("## 5.")[1].split("## 6.")[0]))
    unknown = named - set(schema["properties"]) - {"null", "false", "true"}
    assert unknown <= {"_src_update_time"}, unknown
    receipt = json.loads((spec_page.source_folder() / "receipt.schema.json").read_text(encoding="utf-8"))
    example = json.loads(text.split("```json\n")[1].split("```")[0])
    jsonschema.validate(example, receipt)
    for change in ({"status": "ACCEPTED"}, {"errors": []}, {"status": "OK"}, {"x": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**example, **change}, receipt)
