"""The business clock. No other module may ask the system clock for a business date.

``TIYU_TODAY`` (ISO date) and ``TIYU_AS_OF`` (ISO timestamp with offset) pin it, as the demo does; unset, it is the
real time in Asia/Shanghai.
"""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from lake.errors import EXIT_USAGE, TiyuError

SHANGHAI = ZoneInfo("Asia/Shanghai")


def utc_now() -> datetime:
    """Technical time stamp (when something ran), timezone-aware UTC."""
    return datetime.now(UTC)


def today() -> date:
    """The business date in Asia/Shanghai.

    Raises TiyuError TIYU-CLK-0001 when ``TIYU_TODAY`` is not an ISO date.
    """
    pinned = os.environ.get("TIYU_TODAY")
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
    return as_of().astimezone(SHANGHAI).date() if os.environ.get("TIYU_AS_OF") else datetime.now(SHANGHAI).date()


def yesterday() -> date:
    """The last complete business day."""
    return today() - timedelta(days=1)


def as_of() -> datetime:
    """The instant up to which business facts are known, timezone-aware UTC.

    ``TIYU_AS_OF`` if set; otherwise noon of a pinned ``TIYU_TODAY``; otherwise now.
    Raises TiyuError TIYU-CLK-0002 when ``TIYU_AS_OF`` is not an ISO timestamp with offset.
    """
    pinned = os.environ.get("TIYU_AS_OF")
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
    if os.environ.get("TIYU_TODAY"):
        return datetime.combine(today(), time(12), tzinfo=SHANGHAI).astimezone(UTC)
    return datetime.now(UTC)
