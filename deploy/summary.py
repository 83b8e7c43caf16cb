"""What a run of the demo took, for machines: seconds per step, rows and bytes per table, bytes per folder, memory, processor time.

The demo writes ``demo/summary.json`` of its state folder at its end; ``python -m deploy.summary [FILE]`` shows one as Markdown tables.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy.display import Step

FOLDERS = ("city", "archive", "lake", "serving", "exchange", "open", "site", "airflow", "cockpit")


def folder_bytes(folder: Path) -> int:
    """Sum of file sizes below a folder; what disappears while we look counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def lake_tables() -> list[dict[str, Any]]:
    """Every table of the lake at its head: version, rows, live data files and their bytes (from the Delta log alone)."""
    import polars as pl

    from lake import tables

    found = []
    for name in tables.all_tables():
        table = tables.open_table(name)
        files = pl.DataFrame(table.get_add_actions(flatten=True))
        rows = int(files["num_records"].sum()) if files.height else 0
        size = int(files["size_bytes"].sum()) if files.height else 0
        found.append({"table": name, "version": table.version(), "rows": rows, "files": files.height, "bytes": size})
    return found


def cpu_seconds() -> float:
    """Processor time of this process and of every process below it that has ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(sum(part.ru_utime + part.ru_stime for part in parts), 1)


def steps_of(steps: Iterable[Step], zero: float) -> list[dict[str, Any]]:
    """The time table: title, start (seconds after the beginning), seconds, state, note."""
    return [
        {
            "title": step.title,
            "start_s": round(step.started - zero, 1),
            "seconds": round(step.seconds, 1),
            "state": step.state,
            "note": step.note,
        }
        for step in steps
    ]


def write(home: Path, values: dict[str, Any]) -> Path:
    """Put the summary into the state folder, whole or not at all."""
    path = home / "demo" / "summary.json"
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def markdown(values: dict[str, Any]) -> str:
    """The summary as Markdown: one line of totals, then the steps, the tables and the folders."""
    lines = [
        f"`{values['size']}`, seed {values['seed']}: {values['seconds']:.0f} s, {values['cpu_s']:.0f} s CPU, "
        f"peak {values['peak_bytes'] / 2**30:.2f} GiB PSS, load {values['load_start']} to {values['load_end']}",
        "",
        "| step | start s | s | state | |",
        "|---|---:|---:|---|---|",
        *(
            f"| {s['title']} | {s['start_s']:.0f} | {s['seconds']:.0f} | {s['state']} | {s['note']} |"
            for s in values["steps"]
        ),
        "",
        "| table | rows | files | bytes |",
        "|---|---:|---:|---:|",
        *(f"| {t['table']} | {t['rows']:,} | {t['files']:,} | {t['bytes']:,} |" for t in values["tables"]),
        "",
        "| folder | bytes |",
        "|---|---:|",
        *(f"| {name} | {size:,} |" for name, size in values["folders"].items()),
    ]
    return "\n".join(lines)


def main() -> None:
    """Without an argument: the lake's tables as JSON (what the demo asks for). With one: a summary as Markdown."""
    if len(sys.argv) > 1:
        print(markdown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    else:
        print(json.dumps(lake_tables()))


if __name__ == "__main__":
    main()
