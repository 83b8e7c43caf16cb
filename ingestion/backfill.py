"""Reading a source's history again: what is known is recognised, what changed arrives as a restatement.

What a source can give again is its connector's to say (``reach``): files are chosen by the date in their name
(``20261118``, ``202611180930``); an interface or a table with a watermark is asked for everything updated since the
first day, because it has no upper bound; one without gives all that it holds now; messages that went by are gone, and
that is an error. All go the way every object goes: archived, recognised as duplicate by content, judged, deduplicated
record by record. A record that repeats a key with other content and without
a newer ``updated_at`` in its key is a conflict and is quarantined, as always.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

from catalog import contracts
from catalog.contracts import Contract
from ingestion import connectors
from ingestion.connectors.base import Reach
from ingestion.pipeline import Progress
from ingestion.run import History, IngestReport, ingest
from lake import clock, tables
from lake.errors import EXIT_USAGE, TiyuError

#: A date in a name, alone or followed by a time of day; digits around it make it something else.
_DATE = re.compile(r"(?<!\d)(20\d{2})-?(\d{2})-?(\d{2})(?:\d{4}|\d{6})?(?!\d)")


@dataclass
class BackfillReport:
    """The account of the ingest, what the source was asked for (``reach``, see `ingestion.connectors.base`), how many files
    name no date (never chosen), and per table the partitions touched."""

    resource: str
    first: date
    last: date
    ingest: IngestReport
    reach: Reach = "dated"
    undated_files: int = 0
    part_dates: dict[str, list[date]] = field(default_factory=dict)


def backfill(
    resource: str,
    first: date | None,
    last: date | None,
    *,
    max_bytes: int | None = None,
    progress: Progress | None = None,
) -> BackfillReport:
    """Fetch the history of a resource from `first` to `last` again and bring in what is new.

    Raises TIYU-ING-0012 when the range is wrong, TIYU-ING-0105 when the source cannot give its past again, TIYU-ING-0001 for an unknown resource, and what `ingest` raises.
    """
    if first is None or last is None or last < first or first > clock.today():
        raise TiyuError(
            "TIYU-ING-0012", "回补的日期范围不合法", "起点不晚于终点，也不在将来", EXIT_USAGE, first=first, last=last
        )  # fmt: skip
    contract = contracts.load_all("source").get(resource)
    objects = contract.objects if contract else []
    before = {obj.table: tables.version(obj.table) for obj in objects}
    undated: set[str] = set()

    reach, state = _asked(contract, first)

    def wants(signature: str) -> bool:
        if reach != "dated":  # the source was asked for the right rows already
            return True
        name = signature.rsplit("|", 2)[0]
        days = dates_in(name)
        if not days:
            undated.add(name)
        return any(first <= day <= last for day in days)

    report = ingest(resource, max_bytes=max_bytes, progress=progress, history=History(state, wants))
    result = BackfillReport(resource, first, last, report, reach, len(undated))
    for obj in objects:
        head = tables.version(obj.table)
        if head is not None and head != before[obj.table]:
            old = before[obj.table]
            days = tables.touched_dates(obj.table, -1 if old is None else old, head)
            result.part_dates[obj.table] = sorted(days or ())
    return result


def _asked(contract: Contract | None, first: date) -> tuple[Reach, dict[str, Any]]:
    """What the source is asked for, and the state its connector starts from. Raises TIYU-ING-0105."""
    if contract is None or contract.server is None:  # `ingest` says which resources there are
        return "dated", {}
    kind: Any = connectors.of_kind(contract.server.connector)
    reach: Reach = kind.reach(contract.server.options)
    if reach == "none":
        raise TiyuError(
            "TIYU-ING-0105",
            "这个数据源不能重读历史：发过的消息已不在对方手中",
            "收到过的数据都在归档里：契约变更后用 tiyu reread 从归档重读；缺失的时段请数据源单位补送文件，用 tiyu ingest 来源 --from 目录 收取",
            EXIT_USAGE,
            resource=contract.id,
            connector=contract.server.connector,
        )
    since = kind.state_since(datetime.combine(first, time(), clock.SHANGHAI)) if reach == "since" else {}
    return reach, {**since, "_again": True}


def dates_in(name: str) -> list[date]:
    """Dates that an object's name carries."""
    found = []
    for year, month, day in _DATE.findall(name):
        try:
            found.append(date(int(year), int(month), int(day)))
        except ValueError:
            continue
    return found


__all__ = ["BackfillReport", "backfill", "dates_in"]
