"""The business clock. No other module may ask the system clock for a business date.

``TIYU_TODAY`` (ISO date) and ``TIYU_AS_OF`` (ISO timestamp with offset) pin it. Unset, a home whose data ends on a known
day (the demo) is pinned by its ``business_clock.json``, so that a command typed next to it sees the same today; otherwise
it is the real time in Asia/Shanghai.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from lake.errors import EXIT_USAGE, TiyuError
from lake.settings import settings

SHANGHAI = ZoneInfo("Asia/Shanghai")
PIN_FILE = "business_clock.json"


def pin(today: date, as_of: datetime) -> None:
    """Pin the clock of this home (TIYU_HOME) for every command that sets no variable of its own."""
    path = settings().home / PIN_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"TIYU_TODAY": today.isoformat(), "TIYU_AS_OF": as_of.isoformat()})
    if not path.exists() or path.read_text("utf-8") != text:
        partial = path.with_suffix(".part")
        partial.write_text(text, "utf-8")
        os.replace(partial, path)


def _pinned(name: str) -> str | None:
    """The value of a clock variable: the environment as a whole wins over the home's pin."""
    if os.environ.get("TIYU_TODAY") or os.environ.get("TIYU_AS_OF"):
        return os.environ.get(name)
    try:
        return json.loads((settings().home / PIN_FILE).read_text("utf-8")).get(name)
    except FileNotFoundError:
        return None


def utc_now() -> datetime:
    """Technical time stamp (when something ran), timezone-aware UTC."""
    return datetime.now(UTC)


def today() -> date:
    """The business date in Asia/Shanghai.

    Raises TiyuError TIYU-CLK-0001 when ``TIYU_TODAY`` is not an ISO date.
    """
    pinned = _pinned("TIYU_TODAY")
    if pinned:
        try:
            return date.fromisoformat(pinned)
        except ValueError:
            raise TiyuError(
                "TIYU-CLK-0001",
                "业务日期不是合法日期",
                "把环境变量 TIYU_TODAY 写成 YYYY-MM-DD",
                EXIT_USAGE,
                TIYU_TODAY=pinned,
            ) from None
    return as_of().astimezone(SHANGHAI).date() if _pinned("TIYU_AS_OF") else datetime.now(SHANGHAI).date()


def yesterday() -> date:
    """The last complete business day."""
    return today() - timedelta(days=1)


def as_of() -> datetime:
    """The instant up to which business facts are known, timezone-aware UTC.

    ``TIYU_AS_OF`` if set; otherwise noon of a pinned ``TIYU_TODAY``; otherwise now.
    Raises TiyuError TIYU-CLK-0002 when ``TIYU_AS_OF`` is not an ISO timestamp with offset.
    """
    pinned = _pinned("TIYU_AS_OF")
    if pinned:
        try:
            value = datetime.fromisoformat(pinned)
        except ValueError:
            value = None
        if value is None or value.tzinfo is None:
            raise TiyuError(
                "TIYU-CLK-0002",
                "业务时刻不是带时区的时间",
                "把 TIYU_AS_OF 写成 2026-01-31T12:00:00+08:00",
                EXIT_USAGE,
                TIYU_AS_OF=pinned,
            )
        return value.astimezone(UTC)
    if _pinned("TIYU_TODAY"):
        return datetime.combine(today(), time(12), tzinfo=SHANGHAI).astimezone(UTC)
    return datetime.now(UTC)
