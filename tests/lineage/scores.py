"""Recall and precision of edges, and the result file of a full run."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from catalog.lineage import ROWS, Origin

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


def edges_of(deps: Iterable[Origin]) -> set[tuple[str, str]]:
    """Edges as (table, column), without those to rows."""
    return {(o.table, o.column) for o in deps if o.column != ROWS}


def score(found: dict, truth: dict) -> Score:
    """Compare edges by output column."""
    return Score(
        sum(len(found.get(k, set())) for k in truth),
        sum(len(found.get(k, set()) & truth[k]) for k in truth),
        sum(len(v) for v in truth.values()),
    )


PARTS = ("constructs", "models", "end_to_end")
"""What a full result consists of; each test notes its part once all that it asserts holds."""


_noted = {"cpu": 0.0, "wall": time.monotonic()}


def note(folder: Path, part: str, content: dict) -> None:
    """Keep one part of the result in a folder that the processes of a run share, with the processor and wall time that this
    process spent since its last note: starting, compiling and filling included."""
    now = {"cpu": time.process_time(), "wall": time.monotonic()}
    spent = {f"{name}_seconds": round(now[name] - _noted[name]) for name in now}
    _noted.update(now)
    text = json.dumps({**content, **spent}, ensure_ascii=False)
    (folder / f"lineage_{part}.json").write_text(text, encoding="utf-8")


def write(folder: Path) -> Path | None:
    """Store the result, with commit and versions, when every part is noted; else nothing."""
    files = {part: folder / f"lineage_{part}.json" for part in PARTS}
    if not all(file.is_file() for file in files.values()):
        return None
    parts = {part: json.loads(file.read_text(encoding="utf-8")) for part, file in files.items()}
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    head = {
        "commit": commit,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in ("sqlglot", "duckdb", "dbt-core")}},
        "cpu_seconds": sum(part["cpu_seconds"] for part in parts.values()),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({**head, **parts}, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return RESULT
