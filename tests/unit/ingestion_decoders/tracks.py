"""One session as several devices, phones and clocks would hand it in."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

import numpy as np

RNG = np.random.default_rng(1)


def track(start: int, count: int = 160, sport: str = "cycling", seed: int = 7) -> Any:
    """``count`` samples five seconds apart from Unix second ``start``, with every measure."""
    # imported late: `simulation` is also the name of a package of tests, which is collected after this one
    from simulation import training

    rng = np.random.default_rng(seed)
    second = np.arange(count) * 5
    speed = rng.uniform(5, 9, count)
    return training.Track(
        "SHA000001", sport, start + 28_800, start + second, rng.integers(110, 170, count), np.cumsum(speed * 5), speed,
        rng.integers(60, 100, count).astype(float), rng.integers(100, 300, count).astype(float), rng.uniform(3, 9, count),
        121.4 + second * 1e-5, 31.2 + second * 1e-5, 190, 50, 70.0, 3_900_000_000 + seed,
    )  # fmt: skip


def variants(start: int, seed: int = 7) -> dict[str, bytes]:
    """File name → content, all of one session; the first is the richest."""
    from simulation import training

    one = track(start, seed=seed)
    whole = training.to_fit(one, RNG)
    late = replace(one, at=one.at + 8 * 3600)  # a phone that took local time for UTC
    return {
        "watch.fit": whole,
        "watch.fit.gz": gzip.compress(whole, mtime=0),
        "watch.tcx": training.to_tcx(one, RNG),
        "watch.gpx": training.to_gpx(one, RNG),
        "cut.fit": whole[: len(whole) * 6 // 10],
        "shifted.fit": training.to_fit(late, RNG),
        "shifted.gpx": training.to_gpx(replace(one, at=one.at - 6 * 3600), RNG),
        "phone.gpx": training.to_gpx(replace(one, at=one.at + 12), RNG),  # the fix came later
    }


def fit(one: Any) -> bytes:
    """A session as its watch's file."""
    from simulation import training

    return training.to_fit(one, RNG)
