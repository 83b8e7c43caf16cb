"""What was sent and what of it was dirt, counted while it is written."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from simulation.records.all import FEEDS

RESOURCES = (
    "venue.register", "venue.booking", "venue.entry", "event.filing", "training.athlete", "training.activity",
    "fitness.checkin", "supervision.water_reading", *(feed.resource for feed in FEEDS),
)  # fmt: skip


class SentLedger:
    """Counts per resource: true records, extra copies, extra bad rows by kind, and disorder that adds no row."""

    def __init__(self) -> None:
        self.true: Counter[str] = Counter()
        self.objects: Counter[str] = Counter()
        self.duplicates: dict[str, Counter[str]] = defaultdict(Counter)
        self.bad: dict[str, Counter[str]] = defaultdict(Counter)
        self.disorder: dict[str, Counter[str]] = defaultdict(Counter)
        self.notes: dict[str, dict[str, Any]] = defaultdict(dict)

    def dirt(self) -> dict[str, Any]:
        return {
            r: {
                "duplicate_rows": {
                    "total": sum(self.duplicates[r].values()),
                    **dict(sorted(self.duplicates[r].items())),
                },
                "bad_rows": {"total": sum(self.bad[r].values()), **dict(sorted(self.bad[r].items()))},
                "disorder": dict(sorted(self.disorder[r].items())),
                "notes": self.notes[r],
            }
            for r in RESOURCES
        }

    def counts(self) -> dict[str, Any]:
        return {
            r: {
                "objects": self.objects[r],
                "records_sent": self.true[r] + sum(self.duplicates[r].values()) + sum(self.bad[r].values()),
                "distinct_true_records": self.true[r],
                "duplicate_records": sum(self.duplicates[r].values()),
                "bad_records": sum(self.bad[r].values()),
                # Whole objects with bytes seen before: recognised before decoding, so not among decoded records.
                "duplicate_objects": self.duplicates[r]["same_bytes_other_name"],
            }
            for r in RESOURCES
        }

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in (("dirt", self.dirt()), ("counts", self.counts())):
            (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", "utf-8")
