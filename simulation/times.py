"""Clock arithmetic: instants are integer seconds of Shanghai wall-clock time since 1970-01-01 00:00 (no DST)."""

from __future__ import annotations

import zlib
from datetime import date, timedelta

import numpy as np
import polars as pl

from simulation.sizes import AS_OF_HOUR

DAY = 86_400
UTC_OFFSET = 8 * 3_600
MORNING, AFTERNOON = "morning", "afternoon"
"""Halves of a day: the present always stands at noon, so the last day is known by half."""
EPOCH = date(1970, 1, 1)


def midnight(day: date) -> int:
    """Local seconds at 00:00 of ``day``."""
    return (day - EPOCH).days * DAY


def noon(day: date) -> int:
    """Local seconds at the hour at which the present stands on ``day``."""
    return midnight(day) + AS_OF_HOUR * 3_600


def to_date(seconds: int) -> date:
    return EPOCH + timedelta(days=int(seconds) // DAY)


def iso(column: str) -> pl.Expr:
    """Expression: local seconds to ``2026-08-23T18:05:11+08:00`` (null stays null)."""
    return pl.from_epoch(pl.col(column), time_unit="s").dt.strftime("%Y-%m-%dT%H:%M:%S+08:00").alias(column)


def naive(column: str, pattern: str = "%Y-%m-%d %H:%M:%S") -> pl.Expr:
    """Expression: local seconds to naive local text, as CSV and XLSX sources write it."""
    return pl.from_epoch(pl.col(column), time_unit="s").dt.strftime(pattern).alias(column)


def iso_text(seconds: int) -> str:
    day = to_date(seconds)
    rest = int(seconds) % DAY
    return f"{day.isoformat()}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}+08:00"


def local_seconds(text: str) -> int:
    """``2026-08-23T18:05:11+08:00`` to local seconds."""
    return midnight(date.fromisoformat(text[:10])) + sum(
        int(part) * unit for part, unit in zip(text[11:19].split(":"), (3_600, 60, 1), strict=True)
    )


def stream(seed: int, name: str, *keys: int) -> np.random.Generator:
    """An independent random stream by name and keys, so that one part of the city can change without the others."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode()), *keys]))


def spread(total: int, weights: np.ndarray) -> np.ndarray:
    """Split ``total`` into integers proportional to ``weights`` that sum to it exactly (largest remainder)."""
    share = total * weights / weights.sum()
    base = np.floor(share).astype(np.int64)
    rest = total - int(base.sum())
    base[np.argsort(-(share - base), kind="stable")[:rest]] += 1
    return base
