"""What a run found: a line a target, as text, as JSON, as a table in docs/ and as a small picture."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class Line:
    """One figure and its target (0: no target). at_least: the figure must not be below; else it must not be above."""

    part: str
    what: str
    value: float
    target: float
    at_least: bool
    unit: str = "×"

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.at_least else self.value <= self.target

    def shown(self, value: float) -> str:
        text = f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}" if value < 100 else f"{value:.0f}"
        return f"{text}{self.unit}"

    def verdict(self) -> str:
        return "for information" if not self.target else "met" if self.met else "MISSED"

    def goal(self) -> str:
        return "" if not self.target else f"{'≥' if self.at_least else '≤'} {self.shown(self.target)}"

    def text(self) -> str:
        return f"{self.what}: {self.shown(self.value)} ({self.goal() or 'no target'}) {self.verdict()}"


def table(lines: list[Line]) -> str:
    """The lines as a Markdown table."""
    rows = [f"| {line.what} | {line.shown(line.value)} | {line.goal()} | {line.verdict()} |" for line in lines]
    return "\n".join(["| what | measured | target | |", "|---|---|---|---|", *rows])


def picture(lines: list[Line]) -> str:
    """Bars of measured over target (logarithmic, from a tenth to ten times), the target as a line in the middle."""
    shown = [line for line in lines if line.target]
    height, left, width = 22, 470, 300
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" height="{height * len(shown) + 40}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    middle = left + width / 2
    for number, line in enumerate(shown):
        ratio = line.value / line.target if line.at_least else line.target / line.value
        end = middle + max(-1.0, min(1.0, math.log10(max(ratio, 1e-6)))) * width / 2
        y = 10 + number * height
        colour = "#2a7f4f" if line.met else "#b3402a"
        parts.append(
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(line.what)}</text>'
            f'<rect x="{min(middle, end):.0f}" y="{y + 2}" width="{max(1.0, abs(end - middle)):.0f}" height="14" fill="{colour}"/>'
            f'<text x="{left + width + 6}" y="{y + 13}">{escape(line.shown(line.value))}</text>'
        )
    bottom = 10 + len(shown) * height
    parts.append(
        f'<line x1="{middle}" x2="{middle}" y1="6" y2="{bottom}" stroke="#333"/>'
        f'<text x="{middle}" y="{bottom + 16}" text-anchor="middle">target</text>'
        f'<text x="{left + width}" y="{bottom + 16}" text-anchor="end">ten times better</text></svg>'
    )
    return "\n".join(parts) + "\n"


def write(folder: Path, docs: Path, about: dict[str, Any], lines: list[Line], raw: dict[str, Any]) -> None:
    """``result.json`` and ``result.svg`` beside the benchmark, the table in ``docs/ingest_speed.md``.

    Parts that were not run keep what the last run of them found, with its commit.
    """
    file = folder / "result.json"
    old: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {"lines": [], "raw": {}}
    parts = {line.part for line in lines}
    kept = [item for item in old["lines"] if item["part"] not in parts]
    new = [{**line.__dict__, "met": line.met if line.target else None, "commit": about["commit"]} for line in lines]
    content = {"about": about, "lines": [*new, *kept], "raw": {**old["raw"], **raw}}
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    every = [*lines, *(Line(**{name: item[name] for name in Line.__dataclass_fields__}) for item in kept)]
    (folder / "result.svg").write_text(picture(every), encoding="utf-8")
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    commits = sorted({item["commit"] for item in content["lines"]})
    head = (
        "# Speed and memory of the ingest\n\n"
        "Written by `make bench-ingest` from `benchmarks/ingest/result.json`; do not edit. "
        f"Commit {', '.join(commits)}; {about['at']}; {about['machine']} (load before the run {about['load_before']}); "
        f"Python {about['python']}, {versions}.\n\n"
        "Ours and the peers alternate in one run and the best of the rounds counts; what is compared stands in "
        "[benchmarks/ingest](../benchmarks/ingest/README.md).\n\n"
    )
    text = head + table(every) + "\n\n![measured over target](../benchmarks/ingest/result.svg)\n"
    (docs / "ingest_speed.md").write_text(text, encoding="utf-8")
