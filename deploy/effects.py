"""Did every user see the day? One check per user after ``make demo-tomorrow``, over the door that user goes through.

What a day must have changed follows from the city's own plan of incidents (``simulation.incidents``), not from what the platform
says. A check reports how many things it looked at; one that looked at nothing fails. On a calm day the checks ask the opposite:
nothing is missing any more, nothing was turned down.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx

from deploy.doors import Door, Superset, query_context

ROOT = Path(__file__).resolve().parent.parent
KPI_OF = {
    "fitness.checkin": "F-01", "supervision.water_reading": "R-03", "venue.booking": "V-04", "venue.entry": "V-06",
    "training.activity": "D-02",
}  # fmt: skip
"""The tile on which a missing source must be named; no tile rests on device files but the one about all sources."""


@dataclass(frozen=True)
class Before:
    """What was there before the day: published versions of each open dataset."""

    versions: Mapping[str, int]


def before(home: Path) -> Before:
    """Count what must have grown afterwards."""
    found = {path.parent.name: path for path in (home / "open").glob("*/versions.json")}
    return Before({name: len(json.loads(path.read_text(encoding="utf-8"))) for name, path in found.items()})


def _rows(base_url: str, password: str, wanted: set[str]) -> list[dict[str, Any]]:
    """As leader: the rows of every table-like chart of the cockpit that shows all ``wanted`` columns."""
    session = Superset(base_url, "leader", password)
    dashboard = session.get("/api/v1/dashboard/cockpit")["result"]
    rows: list[dict[str, Any]] = []
    for chart in session.get("/api/v1/dashboard/cockpit/charts")["result"]:
        if wanted <= set(chart["form_data"].get("all_columns") or []):
            form = {**chart["form_data"], "slice_id": chart["id"], "dashboardId": dashboard["id"]}
            rows += session.post("/api/v1/chart/data", query_context(form))["result"][0]["data"]
    return rows


def missing_source(base_url: str, password: str, present: Mapping[str, Any]) -> Door:
    """The tile and the table of sources name the source that is down, with the reason; no other source but a refused file's."""
    title = "缺哪个来源、为什么（领导）"
    down = present["down"]
    tiles = {row["kpi_code"]: row["missing_text"] for row in _rows(base_url, password, {"kpi_code", "missing_text"})}
    sources = {row["title"]: row for row in _rows(base_url, password, {"title", "state_name", "reason"})}
    unwell = {name: row["reason"] for name, row in sources.items() if "及时" not in row["state_name"]}
    examined = len(tiles) + len(sources)
    if down is None:
        return Door(
            title,
            bool(tiles) and bool(sources) and not unwell,
            examined,
            f"来源全部及时：{len(sources)} 个" if not unwell else f"未恢复：{unwell}",
        )
    named = _title_of(down)
    tile = tiles.get(KPI_OF[down], "")
    ok = set(unwell) == {named} and bool(unwell[named]) and named in tile and unwell[named] in tile
    return Door(
        title,
        ok,
        examined,
        f"{KPI_OF[down]} {tile or '没有说明'}" + ("" if set(unwell) == {named} else f"；来源状态：{unwell}"),
    )


def alerts(base_url: str, password: str, present: Mapping[str, Any]) -> Door:
    """The queue holds, open and with owner and deadline: the pool of the day, the source that is down, the refused workbook."""
    plan = present["incidents"]
    rows = _rows(base_url, password, {"rule_code", "owner_name", "deadline_text", "status_name", "subject_name"})
    mine = [row for row in rows if row["status_name"] == "待处置" and row["owner_name"] and row["deadline_text"]]
    day = date.fromisoformat(present["today"]).strftime("%m-%d")
    wanted = []
    if plan["pool_id"] and present["down"] != "supervision.water_reading":
        wanted.append(("AL-03", lambda row: row["opened_text"].startswith(day)))
    if present["down"]:
        wanted.append(("AL-19", lambda row: row["subject_name"] == _title_of(present["down"])))
    if plan["lost_column"]:
        wanted.append(("IN-01", lambda row: row["subject_name"] == _title_of("event.filing")))
    absent = [code for code, fits in wanted if not any(row["rule_code"] == code and fits(row) for row in mine)]
    late = [row for row in mine if row["rule_code"] == "AL-19" and row["subject_name"] != _title_of(present["down"])]
    pending = {(row["rule_code"], row["subject_name"], row["opened_text"]) for row in mine}  # two charts list the same
    note = f"{len(pending)} 条待处置；应见 {'、'.join(code for code, _ in wanted) or '无新增'}"
    note += f"；缺 {'、'.join(absent)}" if absent else ""
    note += f"；已恢复的来源仍有预警 {len(late)} 条" if late else ""
    return Door("预警、责任单位与时限（领导）", bool(rows) and not absent and not late, len(rows), note)


def _tiyu(env: Mapping[str, str], *arguments: str) -> Any:
    """A command as a user types it; its JSON. A non-zero exit is not an error here: it may say that something needs doing."""
    command = [sys.executable, "-m", "cli.main", *arguments, "--json"]
    result = subprocess.run(command, cwd=ROOT, env=dict(env), capture_output=True, text=True)
    if not result.stdout.strip():
        raise RuntimeError(result.stderr[-300:])
    return json.loads(result.stdout)


def restated(env: Mapping[str, str], present: Mapping[str, Any]) -> Door:
    """``tiyu diff … --since yesterday`` names a day before yesterday whose figures changed, because bookings were told late.

    While the booking interface is down its changes cannot come: then check-ins or passages of the last evening must.
    """
    table = "dws_venue__daily_use"
    found = _tiyu(env, "diff", table, "--since", "yesterday")
    late_day = (date.fromisoformat(present["today"]) - timedelta(days=2)).isoformat()
    changed = {row["part_date"]: row["changed"] + row["added"] for row in found["partitions"]}
    columns = found["changed_columns"]
    ok = sum(changed.values()) > 0 and (present["down"] == "venue.booking" or changed.get(late_day, 0) > 0)
    days = "、".join(f"{day} {count} 行" for day, count in sorted(changed.items())[:4])
    note = f"{table} v{found['from_version']}→v{found['to_version']}：{days}；改变的列 {len(columns)} 个"
    return Door("昨日数据的订正（分析师）", ok, len(changed), note)


def resent(env: Mapping[str, str], present: Mapping[str, Any]) -> Door:
    """What was turned down has been sent again as the next batch of the same business date, and taken; nothing is overdue."""
    found = _tiyu(env, "exchange", "status", "--days", "1")
    day = (date.fromisoformat(present["today"]) - timedelta(days=1)).isoformat()
    rows = [row for row in found["calendar"] if row["business_date"] == day]
    again = [row for row in rows if (row["sequence"] or 1) > 1]
    wanted = 1 if (present["incidents"] or {}).get("refusal") else 0
    accepted = [row for row in rows if row["answer"] == "accepted"]
    ok = len(rows) >= 2 and len(accepted) == len(rows) and len(again) == wanted and not found["overdue"]
    note = f"业务日期 {day}：{len(rows)} 个资源，已接收 {len(accepted)}，重交 {len(again)}（应 {wanted}）"
    return Door("退回与重交（市大数据中心）", ok, len(rows), note)


def open_data_grew(base_url: str, known: Before, present: Mapping[str, Any]) -> Door:
    """Over HTTP: the daily dataset has one version more, of yesterday, and its change log names it."""
    with httpx.Client(base_url=base_url, timeout=30.0, trust_env=False) as http:
        versions = http.get("/open/daily_visits/versions.json").raise_for_status().json()
        newest = versions[-1]
        log = http.get(f"/open/daily_visits/{newest['version']}/CHANGELOG.md").raise_for_status().text
        page = http.get("/open/daily_visits/").raise_for_status().text
    grown = len(versions) - known.versions.get("daily_visits", 0)
    day = (date.fromisoformat(present["today"]) - timedelta(days=1)).isoformat()
    told = all(version["version"] in log for version in versions)
    ok = grown >= 1 and newest["data_date"] == day and told and newest["version"] in page
    return Door(
        "更新记录（公众）",
        ok,
        len(versions),
        f"每日客流 {len(versions)} 个版本（新增 {grown}），数据截至 {newest['data_date']}",
    )


def start_page(base_url: str, present: Mapping[str, Any]) -> Door:
    """The start page leads with what happened today."""
    answer = httpx.get(f"{base_url}/start.json", timeout=30.0, trust_env=False).raise_for_status().json()
    items = answer["news"]
    page = httpx.get(f"{base_url}/", timeout=30.0, trust_env=False).raise_for_status().text
    ok = (
        answer["today"] == present["today"]
        and bool(items)
        and "今日要事" in page
        and all(i["text"] in page for i in items)
    )
    return Door("今日要事（起始页）", ok, len(items), f"{answer['today']}：{len(items)} 件")


def _title_of(resource: str | None) -> str:
    """The Chinese name of a source, as its contract has it."""
    if resource is None:
        return ""
    domain, _, name = resource.partition(".")
    text = (ROOT / "catalog" / "contracts" / "sources" / domain / f"{name}.odcs.yaml").read_text(encoding="utf-8")
    return next(line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("name:"))
