"""Recall and precision of edges, and the result file of a full run."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "lineage" / "result.json"


@dataclass(frozen=True)
class Score:
    """found: edges that the method has; right: those of them that are true; true: all true edges."""

    found: int
    right: int
    true: int

    @property
    def recall(self) -> float:
        return self.right / self.true if self.true else 0.0

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 0.0

    def as_dict(self) -> dict:
        return {
            "edges": self.found, "true_edges": self.true, "found_of_true": self.right,
            "recall": round(self.recall, 4), "precision": round(self.precision, 4),
        }  # fmt: skip

    def __str__(self) -> str:
        return (
            f"recall {self.recall:.1%} precision {self.precision:.1%} ({self.right} of {self.true}, {self.found} found)"
        )


def score(found: dict, truth: dict) -> Score:
    """Compare edges by output column."""
    return Score(
        sum(len(found.get(k, set())) for k in truth),
        sum(len(found.get(k, set()) & truth[k]) for k in truth),
        sum(len(v) for v in truth.values()),
    )


_notes: dict[str, dict] = {}


def note(part: str, content: dict) -> None:
    """Keep one part of the result; `write` stores them."""
    _notes[part] = content


def write(*, cpu_seconds: float, wall_seconds: float) -> Path:
    """Store what was noted, with commit, versions and what it cost."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    head = {
        "commit": commit,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in ("sqlglot", "duckdb", "dbt-core")}},
        "cpu_seconds": round(cpu_seconds),
        "wall_seconds": round(wall_seconds),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({**head, **_notes}, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return RESULT
