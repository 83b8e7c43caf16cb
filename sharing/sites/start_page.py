"""The start page: four doors with a first step and a real example each, and the state of the platform below them.

``python -m sharing.sites.start_page ENDPOINTS.json`` builds it in a process of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from lake import properties
from lake.settings import settings
from sharing import files
from sharing.sites import live, spec_page, theme


def build_start_page(endpoints: dict[str, Any] | None = None) -> Path:
    """Write ``index.html``, ``start.json`` and the interface specification below the site root; return the page.

    endpoints: ``cockpit``, ``airflow``, ``site``, ``open`` → address, and ``accounts``: list of ``door, user, password``.
    Missing ones are shown as not started. Passwords appear on the page only in a demo lake, and never in ``start.json``.
    """
    endpoints = endpoints or {}
    root = settings().site_root
    banner = properties.demo_banner()
    lake = live.Lake()
    try:
        facts: dict[str, Any] = {
            **live.clock_facts(),
            "data_through": live.data_through(lake),
            "analyst": live.analyst(lake),
            "leader": live.leader(lake),
            "exchange": live.exchange(),
            "open_data": live.open_data(),
            "sources": live.sources(lake),
            "alert": live.alert(lake),
            "calendar": live.calendar(),
            "news": live.news(lake),
        }
    finally:
        lake.con.close()
    urls = {name: endpoints.get(name) or None for name in ("cockpit", "airflow", "site")}
    theme.write_static(root)
    spec_page.build_spec_page(banner)
    page = theme.render(
        "start.html",
        depth=0,
        here="start",
        banner=banner,
        title="起始页",
        description="上海体育数据湖仓的四个入口与平台状态",
        urls=urls,
        accounts=_accounts(endpoints, bool(banner)),
        sql_lab=_sql_lab(urls["cockpit"], facts["analyst"]),
        exchange_root=str(settings().exchange_root),
        **facts,
    )
    path = root / "index.html"
    files.write_if_changed(path, page)
    state = {
        "banner": banner,
        "doors": {
            name: {"has_data": facts[name] is not None} for name in ("analyst", "leader", "exchange", "open_data")
        },
        "urls": urls,
        **{
            name: facts[name]
            for name in ("today", "as_of", "data_through", "news", "sources", "alert", "exchange", "calendar")
        },
    }
    files.write_if_changed(
        root / "start.json", (json.dumps(state, ensure_ascii=False, indent=2, default=str) + "\n").encode()
    )
    return path


def _sql_lab(cockpit: str | None, example: dict[str, Any] | None) -> str | None:
    """Address of SQL Lab; with the page's example in it, so that it does not open empty (the cockpit adds the database)."""
    if cockpit is None:
        return None
    query = {"name": example["question"], "sql": example["sql"]} if example else {}
    return f"{cockpit}/sqllab/" + (f"?{urlencode(query)}" if query else "")


def _accounts(endpoints: dict[str, Any], is_demo: bool) -> list[dict[str, Any]]:
    where = {"Airflow": endpoints.get("airflow")}
    return [
        {
            "door": item.get("door", ""),
            "user": item.get("user", ""),
            "url": item.get("url") or where.get(item.get("door", ""), endpoints.get("cockpit")),
            "password": item.get("password") if is_demo else None,
        }
        for item in endpoints.get("accounts", [])
    ]


def main() -> None:
    """Build from a JSON file with the endpoints."""
    endpoints = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")) if len(sys.argv) > 1 else {}
    sys.stdout.write(f"{build_start_page(endpoints)}\n")


if __name__ == "__main__":
    main()
