"""What the histories of one `make test-replay` held, as a page: counts, differences, versions, time.

Every history leaves a note under `build/replay/notes`; the page is made of them when all are there.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "replay"
NOTES = FOLDER / "notes"
EXPECTED = ("records brought back", "records that gave way", "records refused for another reason", "replays on the way")


def page(notes: dict[int, dict], commit: str) -> str:
    """The page for the notes by seed."""
    held: Counter[str] = Counter()
    for one in notes.values():
        held.update(one["held"])
    differing = sorted(seed for seed, one in notes.items() if one["differing"])
    took = max(one["ended"] for one in notes.values()) - min(one["began"] for one in notes.values())
    each = sorted(one["ended"] - one["began"] for one in notes.values())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("duckdb", "deltalake", "polars"))
    lines = [
        "# Mend and replay: last result",
        "",
        f"{len(notes)} histories (seeds {min(notes)} to {max(notes)}), each lived twice; {len(differing)} with a difference"
        f"{': seeds ' + ', '.join(map(str, differing)) if differing else ''}. Commit {commit}, Python {platform.python_version()}, {versions},"
        f" {os.cpu_count()} cores {platform.machine()}, {took:,.0f} s, the middle history {each[len(each) // 2]:.1f} s.",
        "",
        "| what | how many |",
        "|---|---|",
        *(f"| {name} | {count:,} |" for name, count in sorted(held.items())),
        "",
        "Written by `make test-replay`.",
    ]
    return "\n".join(lines) + "\n"


def main(expected: int) -> int:
    """Write the page; 1 when a history left no note, or differed."""
    notes = {int(file.stem): json.loads(file.read_text("utf-8")) for file in NOTES.glob("*.json")}
    if len(notes) != expected:
        print(f"{len(notes)} of {expected} histories came to their end: no page", file=sys.stderr)
        return 1
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    text = page(notes, said.stdout.strip() or "unknown")
    (FOLDER / "RESULTS.md").write_text(text, "utf-8")
    print(text)
    idle = [name for name in EXPECTED if not any(one["held"].get(name) for one in notes.values())]
    if idle:
        print(f"it never came to: {', '.join(idle)}; histories that hold none of it prove nothing", file=sys.stderr)
    return int(bool(idle) or any(one["differing"] for one in notes.values()))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
