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

from oracle import Observed

from catalog.lineage import ROWS, Origin

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "lineage" / "result.json"
PAGE = ROOT / "docs" / "lineage.md"


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


_spent = [0.0]


def spent() -> float:
    """Processor seconds of this process since the last time of asking: starting, compiling and filling included."""
    before, _spent[0] = _spent[0], time.process_time()
    return _spent[0] - before


def note(folder: Path, part: str, content: dict) -> None:
    """Keep one part of the result in a folder that the processes of a run share."""
    (folder / f"lineage_{part}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def whole(folder: Path, name: str, part: tuple[int, int], seen: Observed) -> Observed | None:
    """Keep a part of what was seen; the whole, once all parts are there."""
    seen.cpu_seconds = spent()
    note(folder, f"{name}_{part[0]}", seen.as_data())
    files = [folder / f"lineage_{name}_{number}.json" for number in range(part[1])]
    if not all(file.is_file() for file in files):
        return None
    return Observed.merged(json.loads(file.read_text(encoding="utf-8")) for file in files)


def write(folder: Path) -> Path | None:
    """Store the result, with commit and versions, when every part is noted; else nothing."""
    files = {part: folder / f"lineage_{part}.json" for part in PARTS}
    if not all(file.is_file() for file in files.values()):
        return None
    parts = {part: json.loads(file.read_text(encoding="utf-8")) for part, file in files.items()}
    for content in parts.values():
        content["cpu_seconds"] = round(content["cpu_seconds"], 1)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    head = {
        "commit": commit,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in ("sqlglot", "duckdb", "dbt-core")}},
        "cpu_seconds": round(sum(part["cpu_seconds"] for part in parts.values())),
        "wall_seconds": round(time.time() - (folder / "lineage_started").stat().st_mtime),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    result = {**head, **parts}
    RESULT.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(result), encoding="utf-8")
    return RESULT


def page(result: dict) -> str:
    """docs/lineage.md: the result for readers."""
    constructs, models, paths = (result[part] for part in PARTS)

    def line(name: str, engine: str, score: dict, seen: dict) -> str:
        cells = [name, engine, f"{score['true_edges']:,}", f"{score['found_of_true']:,}",
                 f"{score['true_edges'] - score['found_of_true']:,}", f"{score['recall']:.1%}", seen["precision"]]  # fmt: skip
        return f"| {' | '.join(cells)} |"

    def labelled(score: dict) -> dict:
        return {"precision": f"{score['precision']:.1%}"}

    unlabelled = {"precision": "–"}
    versions = "、".join(f"{name} {number}" for name, number in result["versions"].items()).replace("、", ", ")
    measured = "\n".join([
        line(f"{constructs['count']} hand-labelled constructs", "ours", constructs["engine"], labelled(constructs["engine"])),
        line("", "sqlglot.lineage", constructs["sqlglot_lineage"], labelled(constructs["sqlglot_lineage"])),
        line(f"{models['models']} models, {models['columns']} columns, neighbour to neighbour", "ours", models["engine"], unlabelled),
        line("", "sqlglot.lineage", models["sqlglot_lineage"], unlabelled),
    ])  # fmt: skip
    return f"""# Column lineage: how much of the truth it knows

Written by `make test-lineage` from `benchmarks/lineage/result.json`; do not edit. Commit {result["commit"][:12]}, {versions};
{result["cpu_seconds"]} CPU seconds in all, {result["wall_seconds"]} seconds of wall time beside whatever else ran.

| what | engine | true edges | found | missed | recall | precision |
|---|---|---|---|---|---|---|
{measured}

*True edges* of the constructs are labelled by hand, and the oracle may not see one that has no label ({constructs["observed_edges"]} of
{constructs["labelled_edges"]} seen). Those of the models are what the oracle saw move: {models["changes"]:,} changes of
{models["columns_changed"]:,} columns, one at a time; {models["columns_changed_together"]:,} columns that no plan of DuckDB reads were changed
together and moved nothing. It sees {models["share_of_edges_observed"]:.0%} of the edges that our engine states; what it does not see may be
true (a change need not show), so there is no precision for models.

From source to surface: {paths["changes"]:,} changes of {paths["columns_changed"]:,} source columns (null, permuted, extreme), everything
downstream rebuilt: {paths["observed_paths"]:,} dependencies seen, {paths["missed"]} without a path of edges (recall {paths["recall"]:.1%}).

How it works: [decision 0014](adr/0014-lineage-edges-and-breakers.md), `catalog/lineage/`, `tests/lineage/`.
"""
