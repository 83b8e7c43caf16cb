"""What the start page shows, read from checked tables and the ledger at the moment it is built.

Each function returns plain data, or None when there is nothing yet: a door without data says so instead of failing.
"""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from catalog import vocabularies
from lake import clock, ledger, query
from lake.errors import TiyuError
from lake.settings import settings
from sharing.sites import theme

#: How a state or severity is coloured; its Chinese name is in the code list.
STATE_TONES = {"fresh": "good", "late": "warn", "failed": "bad", "never": "off"}
SEVERITY_TONES = {"red": "bad", "orange": "warn", "yellow": "warn", "info": "off"}
VISIT_SOURCES = ("fitness.checkin", "venue.entry")
"""What visits are counted from."""
KPIS = (("V-06", "entries"), ("R-03", ""), ("V-04", ""))


class Lake:
    """A connection on which checked tables are registered when they are first asked for."""

    def __init__(self) -> None:
        self.con = query.connect()

    def has(self, table: str) -> bool:
        """Register a table at its checked version; False when nothing of it is visible."""
        return query.register(self.con, table, "checked") is not None

    def rows(self, sql: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
        """Result rows as dictionaries."""
        return self.con.execute(sql, parameters or []).pl().to_dicts()


QUALITY_ZH = {"ok": "质量正常", "partial": "数据不完整", "missing": "缺数据"}
"""What a screen calls the `quality` of a KPI row."""


def analyst(lake: Lake) -> dict[str, Any] | None:
    """A real question with its SQL and its real answer."""
    table = "ads_cockpit__sport_day"
    if not lake.has(table):
        return None
    day = last_complete_day(lake, table)
    if day is None:
        return None
    sql = (
        f"select sport_name, sum(visit_count) as visit_count\nfrom {table}\n"
        f"where part_date = date '{day.isoformat()}'\ngroup by sport_name\norder by visit_count desc, sport_name\nlimit 5"
    )
    rows = [{"sport_name": r["sport_name"], "visit_count": int(r["visit_count"] or 0)} for r in lake.rows(sql)]
    # SQL Lab finds a table by its schema only
    shown = sql.replace(f"from {table}", f"from ads.{table}")
    return (
        {
            "question": f"{day} 哪些运动项目到访最多？",
            "sql": shown,
            "table": table,
            "missing": [s["title"] for s in sources(lake) if s["resource"] in VISIT_SOURCES and s["state"] != "fresh"],
            "rows": rows,
            "columns": theme.columns(
                {"sport_name": "sport_name 运动项目", "visit_count": "visit_count 到访人次"}, rows
            ),
        }
        if rows
        else None
    )


def leader(lake: Lake) -> dict[str, Any] | None:
    """City-wide values of three KPIs with as-of time, coverage and quality, and the generated sentences."""
    if not lake.has("ads_cockpit__kpi"):
        return None
    found = []
    for code, variant in KPIS:
        found += lake.rows(
            """select kpi_code, kpi_name, variant_name, period_start_date, value, unit, as_of_at, coverage_pct, quality, quality_note
            from ads_cockpit__kpi where kpi_code = ? and coalesce(variant_code, '') = ? and district_code = '310000'
              and value is not null order by period_start_date desc limit 1""",
            [code, variant],
        )
    sentences = []
    if lake.has("ads_cockpit__headline"):
        sentences = lake.rows(
            "select kind, sentence from ads_cockpit__headline where district_code = '310000' order by position"
        )
    return {"kpis": [_kpi(row) for row in found], "sentences": sentences} if found else None


def _kpi(row: dict[str, Any]) -> dict[str, Any]:
    unit, value = row["unit"] or "", row["value"]
    text = f"{value:,.0f}" if float(value).is_integer() and unit != "%" else f"{value:,.1f}"
    name = row["variant_name"] or row["kpi_name"]
    quality = QUALITY_ZH.get(row["quality"], row["quality"])
    return {**row, "name": name, "text": text, "unit": unit, "quality_zh": quality}


def exchange() -> dict[str, Any] | None:
    """The newest delivery and the commands that check it."""
    sent = [row for row in ledger.deliveries() if row["status"] == "sent"]
    if not sent:
        return None
    row = max(sent, key=lambda item: (item["business_date"], item["sent_at"], item["resource"]))
    entry = json.loads(row["detail"])["files"][0]
    return {
        "resource": row["resource"],
        "mode_zh": {"F": "全量", "I": "增量"}[row["mode"]],
        "business_date": row["business_date"],
        "sent_at": row["sent_at"],
        "due_at": row["due_at"],
        "row_count": row["row_count"],
        "counts": (row["insert_count"], row["update_count"], row["delete_count"]),
        "folder": row["path"],
        "delivered": len(sent),
        "commands": [
            (f"openssl dgst -sm3 -r {entry['name']}", f"{entry['sm3']} *{entry['name']}"),
            (f"zcat {entry['name']} | wc -l", str(entry["rows"] + 1)),
        ],
    }


def calendar() -> list[dict[str, Any]]:
    """Due, sent and late deliveries of the last three business dates."""
    from sharing.exchange import receipts
    from sharing.exchange.run import STATES_ZH, status

    tone = {"sent": "good", "initial": "good", "late": "warn", "due": "off", "overdue": "bad", "merged": "off"}
    return [
        {
            "resource": d.resource,
            "business_date": d.business_date,
            "due_at": d.due_at,
            "sent_at": d.sent_at,
            "row_count": d.newest_row_count,
            "batch": f"{d.sequence:04d}" if d.sequence else None,
            "state": STATES_ZH[d.state]
            + (f" {d.late_hours} 小时" if d.late_hours else "")
            + (f" · {receipts.STATES_ZH[d.answer]}" if d.answer else ""),
            "tone": "bad" if d.answer in ("rejected", "partial", "lost") else tone[d.state],
        }
        for d in status(3)
    ]


def open_data() -> dict[str, Any] | None:
    """The first published dataset's newest version and its first rows, read from the published file itself."""
    root = settings().open_root
    for listing in sorted(root.glob("*/versions.json"), key=lambda path: path.parent.name != "venue_directory"):
        newest = json.loads(listing.read_text(encoding="utf-8"))[-1]
        folder = listing.parent / newest["version"]
        frame = pl.read_parquet(folder / newest["formats"]["parquet"])
        titles = dict(zip(*_dictionary(folder), strict=True))
        shown = [
            name
            for name in ("venue_name", "district_name", "open_time", "close_time", "part_date", "visit_count")
            if name in frame.columns
        ]
        rows = frame.select(shown[:5]).head(3).to_dicts()
        return {
            "dataset": newest["dataset"],
            "title": newest["title"],
            "version": newest["version"],
            "row_count": newest["row_count"],
            "data_date": newest["data_date"],
            "rows": rows,
            "columns": theme.columns({name: titles.get(name, name) for name in shown[:5]}, rows),
            "datasets": len(list(root.glob("*/versions.json"))),
        }
    return None


def _dictionary(folder: Path) -> tuple[list[str], list[str]]:
    frame = pl.read_csv(folder / "dictionary.csv", infer_schema=False)
    return frame["字段"].to_list(), frame["中文名"].to_list()


def news(lake: Lake) -> list[dict[str, Any]]:
    """今日要事: what each user should look at first today, each with the door it leads to (``door`` is an id on the page)."""
    found = (
        _news_of_sources(lake)
        + _news_of_alerts(lake)
        + _news_of_figures()
        + _news_of_deliveries()
        + _news_of_open_data()
    )
    return found or [{"door": "leader", "tone": "good", "who": "各位", "text": "今天没有需要特别留意的事。"}]


def _news_of_sources(lake: Lake) -> list[dict[str, Any]]:
    return [
        {
            "door": "sources",
            "tone": s["tone"] if s["state"] != "fresh" else "warn",
            "who": "领导",
            "text": f"缺 {s['title']}：{s['reason']}",
        }
        for s in sources(lake)
        if s["reason"]
    ]


def _news_of_alerts(lake: Lake) -> list[dict[str, Any]]:
    if not lake.has("ads_supervision__alert"):
        return []
    rows = lake.rows(
        """select severity, subject_name, observed_text, owner_name, deadline_at from ads_supervision__alert
        where status = 'open' and cast(timezone('Asia/Shanghai', opened_at) as date) = ? and rule_code like 'AL-%' and rule_code <> 'AL-19'
        order by case severity when 'red' then 1 when 'orange' then 2 else 3 end, opened_at desc, alert_id limit 2""",
        [clock.today()],
    )
    return [
        {
            "door": "alert",
            "tone": SEVERITY_TONES.get(row["severity"], "off"),
            "who": "领导",
            "text": f"新预警：{row['subject_name']}，{row['observed_text']}；{row['owner_name']}{until(row['deadline_at'])}",
        }
        for row in rows
    ]


def until(deadline_at: datetime) -> str:
    """The deadline of an open alert in words, and whether it has passed by the business clock."""
    passed = deadline_at < clock.as_of()
    return f"应于 {theme.cell(deadline_at)} 前处置，已超期" if passed else f"请于 {theme.cell(deadline_at)} 前处置"


def _news_of_figures() -> list[dict[str, Any]]:
    """Figures of earlier days that are other than readers saw them yesterday."""
    from sharing.serving.changes import changes

    table = "dws_venue__daily_use"
    try:
        found = changes(table, "yesterday", limit=0)
    except TiyuError:  # nothing had been checked by yesterday: a new installation
        return []
    days = [
        p
        for p in found.partitions
        if p.part_date and p.part_date < clock.yesterday() and p.changed + p.added + p.removed
    ]
    if not days:
        return []
    what = "、".join(f"{p.part_date} {p.changed + p.added + p.removed} 行" for p in days[-3:])
    return [
        {
            "door": "analyst", "tone": "off", "who": "分析师",
            "text": f"已公布的日用量有订正：{what}", "command": f"tiyu diff {table} --since yesterday --date {days[-1].part_date}",
        }
    ]  # fmt: skip


def _news_of_deliveries() -> list[dict[str, Any]]:
    from sharing.exchange import receipts

    found = []
    for resource in sorted({row["resource"] for row in ledger.deliveries()}):
        answers = [a for a in receipts.answers(resource) if a.row["business_date"] == clock.yesterday()]
        turned = [(a.row, a.receipt["status"]) for a in answers if a.receipt and a.receipt["status"] != "ACCEPTED"]
        if not turned:
            continue
        last, (row, status) = answers[-1], turned[0]
        word = {"REJECTED": "整批拒收", "PARTIAL": "部分接收"}[status]
        text = f"{resource} {clock.yesterday()} 第 {row['sequence']} 批{word}"
        again = last.row["sequence"] > row["sequence"]
        text += f"，已重交第 {last.row['sequence']} 批：{receipts.STATES_ZH[last.state]}" if again else "，待更正重交"
        found.append(
            {
                "door": "deliveries",
                "tone": "good" if last.state == "accepted" else "bad",
                "who": "市大数据中心",
                "text": text,
                "command": "tiyu exchange status",
            }
        )
    return found


def _news_of_open_data() -> list[dict[str, Any]]:
    from sharing.open_data.versions import describe_changes

    found = []
    for listing in sorted(settings().open_root.glob("*/versions.json")):
        newest = json.loads(listing.read_text(encoding="utf-8"))[-1]
        if newest["published_at"][:10] == clock.today().isoformat() and newest["changes"]["previous"]:
            found.append(
                {
                    "door": "open",
                    "tone": "off",
                    "who": "公众",
                    "text": f"{newest['title']}发布新版本：{describe_changes(newest)}",
                }
            )
    return found


def sources(lake: Lake) -> list[dict[str, Any]]:
    """Freshness and the received = accepted + quarantined + duplicate balance of every source."""
    table = next((name for name in ("ads_cockpit__freshness", "ops_ingest__freshness") if lake.has(name)), None)
    if table is None:
        return []
    rows = lake.rows(
        f"""select resource, title, update_cycle, state, reason, latest_data_date, last_success_at, received_count, accepted_count,
        quarantined_count, duplicate_count from {table} order by resource"""
    )
    for row in rows:
        row["state_zh"] = vocabularies.name_of("freshness_state", row["state"])
        row["tone"] = STATE_TONES.get(row["state"], "off")
        parts = [row[name] or 0 for name in ("accepted_count", "quarantined_count", "duplicate_count")]
        row["balances"] = (row["received_count"] or 0) == sum(parts)
        row["equation"] = f"{row['received_count'] or 0:,} = {parts[0]:,} + {parts[1]:,} + {parts[2]:,}"
    return rows


def alert(lake: Lake) -> dict[str, Any] | None:
    """The newest alert, open ones first, and how many are open."""
    if not lake.has("ads_supervision__alert"):
        return None
    rows = lake.rows(
        """select alert_id, rule_code, severity, subject_name, district_name, observed_text, threshold_text, basis_text, is_law, opened_at,
        owner_name, deadline_at, status, count(*) filter (where status = 'open') over () as open_count
        from ads_supervision__alert order by status = 'open' desc, opened_at desc, alert_id limit 1"""
    )
    if not rows:
        return {"open_count": 0, "newest": None}
    row = rows[0]
    row["severity_zh"] = vocabularies.name_of("alert_severity", row["severity"])
    row["tone"] = SEVERITY_TONES.get(row["severity"], "off")
    row["until"] = until(row["deadline_at"]) if row["status"] == "open" else f"时限 {theme.cell(row['deadline_at'])}"
    return {"open_count": int(row["open_count"]), "newest": row}


def last_complete_day(lake: Lake, table: str) -> date | None:
    """Last finished business date in a table (bookings reach into the future, and the running day is not finished)."""
    found = lake.con.execute(f"select max(part_date) from {table} where part_date < ?", [clock.today()]).fetchone()
    return found[0] if found else None


def data_through(lake: Lake) -> date | None:
    """Last complete day for which figures exist."""
    return last_complete_day(lake, "ads_cockpit__district_day") if lake.has("ads_cockpit__district_day") else None


def clock_facts() -> dict[str, Any]:
    """Business date and as-of instant."""
    return {"today": clock.today(), "as_of": clock.as_of()}
