"""Reading a source's history again: what is known is recognised, what changed arrives as a restatement.

Files are chosen by the date in their name (``20261118``, ``202611180930``); an interface is asked for everything
updated since the first day, because it has no upper bound. Both go the way every object goes: archived, recognised as
duplicate by content, judged, deduplicated record by record. A record that repeats a key with other content and without
a newer ``updated_at`` in its key is a conflict and is quarantined, as always.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from catalog import contracts
from ingestion.connectors import rest_cursor
from ingestion.pipeline import Progress
from ingestion.run import History, IngestReport, ingest
from lake import clock, tables
from lake.errors import EXIT_USAGE, TiyuError

#: A date in a name, alone or followed by a time of day; digits around it make it something else.
_DATE = re.compile(r"(?<!\d)(20\d{2})-?(\d{2})-?(\d{2})(?:\d{4}|\d{6})?(?!\d)")


@dataclass
class BackfillReport:
    """The account of the ingest, how many files name no date (never chosen), and per table the partitions touched."""

    resource: str
    first: date
    last: date
    ingest: IngestReport
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

    Raises TIYU-ING-0012 when the range is wrong, TIYU-ING-0001 for an unknown resource, and what `ingest` raises.
    """
    if first is None or last is None or last < first or first > clock.today():
        raise TiyuError(
            "TIYU-ING-0012", "回补的日期范围不合法", "起点不晚于终点，也不在将来", EXIT_USAGE, first=first, last=last
        )  # fmt: skip
    contract = contracts.load_all("source").get(resource)
    objects = contract.objects if contract else []
    before = {obj.table: tables.version(obj.table) for obj in objects}
    undated: set[str] = set()

    def wants(signature: str) -> bool:
        name = signature.rsplit("|", 2)[0]
        days = dates_in(name)
        if not days:
            undated.add(name)
        return any(first <= day <= last for day in days)

    # `updated_since` is exclusive, so the history begins one microsecond before the first day does
    start = datetime.combine(first, time(), clock.SHANGHAI) - timedelta(microseconds=1)
    server = contract.server if contract else None
    state = {"updated_since": start.isoformat()} if server and server.connector == rest_cursor.RestCursor.name else {}
    report = ingest(resource, max_bytes=max_bytes, progress=progress, history=History(state, wants))
    result = BackfillReport(resource, first, last, report, len(undated))
    for obj in objects:
        head = tables.version(obj.table)
        if head is not None and head != before[obj.table]:
            old = before[obj.table]
            days = tables.touched_dates(obj.table, -1 if old is None else old, head)
            result.part_dates[obj.table] = sorted(days or ())
    return result


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
