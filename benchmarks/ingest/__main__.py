"""Speed and memory of the ingest beside its peers, in one run on one machine (``make bench-ingest``).

    .venv/bin/python -m benchmarks.ingest [--parts samples fit memory growth small] [--rows 3000000] [--rounds 7]

Every measured process is a child with its own peak memory; ours and the peers alternate, and the best of the rounds
counts. Writes ``result.json``, ``result.md`` and ``result.svg`` beside this file unless ``--no-write``. What is compared, and
what is not, stands in README.md beside this file.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.ingest import data, report
from deploy import bootstrap

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEER_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
PARTS = ("samples", "fit", "memory", "growth", "small")
GIB = 1024.0


def _child(command: list[str], home: Path | None = None) -> dict[str, Any]:
    """Run a measured process and give what it says about itself; its other output is shown only when it fails."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    if home is not None:
        env["TIYU_HOME"] = str(home)
        env.pop("LAKE_ROOT", None)
        env.pop("TIYU_LEDGER_URL", None)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    line = next(text for text in reversed(done.stdout.splitlines()) if text.startswith("{"))
    found: dict[str, Any] = json.loads(line)
    return found


FIT_ROUNDS = 5
"""Rounds over the activities. The peers take minutes for all of them: in each round they have another part, by which their
speed is known, and together all."""


class Bench:
    """A run: where it works, how large, and what was found so far."""

    def __init__(self, work: Path, options: argparse.Namespace):
        self.work, self.options = work, options
        self.raw: dict[str, Any] = {}
        self.lines: list[report.Line] = []

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def ours(self, *words: object) -> dict[str, Any]:
        home = Path(tempfile.mkdtemp(dir=self.work, prefix="home-"))
        try:
            return _child([sys.executable, "-m", "benchmarks.ingest.ours", *map(str, words)], home)
        finally:
            shutil.rmtree(home, ignore_errors=True)

    def peer(self, name: str, source: Path, count: int) -> dict[str, Any]:
        target = Path(tempfile.mkdtemp(dir=self.work, prefix="peer-"))
        python = sys.executable if name == "fitdecode" else str(PEER_PYTHON)
        try:
            return _child([python, str(HERE / "peers.py"), name, str(source), f"{target}/out", str(count)])
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def file(self, rows: int, kind: str, rows_per_day: int = data.ROWS_PER_DAY) -> Path:
        """One file of samples alone in its folder, made in a process of its own (its memory is nobody's)."""
        path = self.work / f"{kind}-{rows}" / f"samples.{kind}"
        if not path.exists():
            self.say(f"  {rows:,} rows as {kind} are written")
            code = f"from pathlib import Path; from benchmarks.ingest import data; data.write_samples(Path({str(path)!r}), {rows}, {kind!r}, rows_per_day={rows_per_day})"
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return path

    def best(
        self, key: str, runs: dict[str, Callable[[], dict[str, Any]]], rounds: int, twice: tuple[str, ...] = ()
    ) -> dict[str, dict[str, Any]]:
        """Alternate the runs and keep the fastest of each; every round is kept in the raw result. Runs named in ``twice`` take
        part in the first two rounds only."""
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
        for number in range(rounds):
            for name, run in runs.items():
                if name in twice and number > 1:
                    continue
                item = run()
                found[name].append(item)
                self.say(
                    f"  {key} {number + 1}/{rounds} {name:<14} {item['seconds']:8.2f} s  CPU {item['cpu_s']:8.2f} s  {item['peak_mb']:7.0f} MiB"
                )
        self.raw[key] = found
        return {name: min(items, key=lambda item: item["seconds"]) for name, items in found.items()}

    def add(self, part: str, what: str, value: float, target: float, *, at_least: bool, unit: str = "×") -> None:
        line = report.Line(part, what, value, target, at_least, unit)
        self.lines.append(line)
        self.say(f"  {line.text()}")


def samples(bench: Bench) -> None:
    rows = bench.options.rows
    dict_rows = min(rows, bench.options.dict_rows)
    for kind in ("ndjson", "csv"):
        source = bench.file(rows, kind)
        best = bench.best(
            f"samples {kind}",
            {
                "ours": lambda source=source, kind=kind: bench.ours("samples", source.parent, kind),
                "bare": lambda source=source: bench.peer("bare", source, rows),
                "dlt arrow": lambda source=source: bench.peer("dlt_arrow", source, rows),
                "dlt dicts": lambda source=source: bench.peer("dlt_dicts", source, dict_rows),
            },
            bench.options.rounds,
            ("dlt dicts",),  # half a minute each
        )
        speed = {name: (dict_rows if name == "dlt dicts" else rows) / item["seconds"] for name, item in best.items()}
        name = kind.upper()
        bench.add(
            "samples", f"{name}: speed of the bare read and write", speed["ours"] / speed["bare"], 0.5, at_least=True
        )
        middle = {
            peer: statistics.median(item["seconds"] for item in bench.raw[f"samples {kind}"][peer])
            for peer in ("ours", "bare", "dlt arrow")
        }
        for peer, what in (("bare", "the bare read and write"), ("dlt arrow", "dlt fed with Arrow")):
            ratio = middle[peer] / middle["ours"]
            bench.add("samples", f"{name}: {what}, medians of the rounds", ratio, 0, at_least=True)
        bench.add(
            "samples", f"{name}: speed of dlt fed with Arrow", speed["ours"] / speed["dlt arrow"], 1.5, at_least=True
        )
        bench.add(
            "samples", f"{name}: speed of dlt fed with dicts", speed["ours"] / speed["dlt dicts"], 20, at_least=True
        )
        if rows == 3_000_000:
            per_gib = speed["ours"] / (max(item["peak_mb"] for item in bench.raw[f"samples {kind}"]["ours"]) / GIB)
            bench.add(
                "samples", f"{name}: rows a second per GiB of peak memory", per_gib, 400_000, at_least=True, unit=""
            )


def fit(bench: Bench) -> None:
    folder = bench.work / "fit"
    data.write_fit_folder(folder, bench.options.fit_files)
    rounds = min(FIT_ROUNDS, bench.options.rounds)
    parts = _dealt(folder, rounds)

    def next_part(processes: int) -> Callable[[], dict[str, Any]]:
        left = iter(parts)
        return lambda: bench.peer("fitdecode", next(left), processes)

    best = bench.best(
        "fit",
        {
            "decode": lambda: bench.ours("fit_decode", folder),
            "ingest": lambda: bench.ours("fit_ingest", folder),
            "fitdecode x1": next_part(1),
            "fitdecode x2": next_part(2),
        },
        rounds,
    )
    mine = best["decode"]["totals"]
    theirs = {name: sum(item["totals"][name] for item in bench.raw["fit"]["fitdecode x1"]) for name in mine}
    differ = [name for name in mine if abs(mine[name] - theirs[name]) > 1e-6 * max(1.0, abs(theirs[name]))]
    if differ or mine["samples"] == 0:
        raise SystemExit(f"values differ from fitdecode: {differ}")
    speed = {name: mine["samples"] / best[name]["seconds"] for name in ("decode", "ingest")}
    for name in ("fitdecode x1", "fitdecode x2"):
        speed[name] = max(item["totals"]["samples"] / item["seconds"] for item in bench.raw["fit"][name])
    for what, ours, peer, target in (
        ("decoding, against fitdecode in one process (same values)", "decode", "fitdecode x1", 20),
        ("whole ingest, against fitdecode alone in two processes", "ingest", "fitdecode x2", 10),
        ("whole ingest, against fitdecode alone in one process", "ingest", "fitdecode x1", 0),
    ):
        bench.add("fit", what, speed[ours] / speed[peer], target, at_least=True)


def _dealt(folder: Path, count: int) -> list[Path]:
    """The files of a folder dealt to as many folders, so that each has of all kinds."""
    files = sorted(folder.rglob("*.fit"))
    parts = [folder.with_name(f"{folder.name}-part-{number}") for number in range(count)]
    for number, part in enumerate(parts):
        part.mkdir(exist_ok=True)
        for path in files[number::count]:
            (part / path.name).hardlink_to(path)
    return parts


def memory(bench: Bench) -> None:
    peaks: dict[int, float] = {}
    for rows in bench.options.memory_rows:
        source = bench.file(rows, "ndjson")
        item = bench.ours("samples", source.parent, "ndjson", 1 << 60)
        assert item["batches"] == 1
        peaks[rows] = item["peak_mb"]
        bench.raw.setdefault("memory", {})[str(rows)] = item
        bench.say(f"  {rows:>12,} rows in one batch: {item['peak_mb']:7.0f} MiB, {item['seconds']:7.1f} s")
        if rows > 3_000_000:
            shutil.rmtree(source.parent)
    largest, smaller = max(peaks), min(peaks)
    bench.add(
        "memory", f"{largest:,} rows in one batch: peak GiB", peaks[largest] / GIB, 2.0, at_least=False, unit=" GiB"
    )
    upto = max((rows for rows in peaks if rows <= 10_000_000), default=largest)
    if upto > smaller:
        what = f"peak of {upto:,} rows over that of {smaller:,}"
        bench.add("memory", what, peaks[upto] / peaks[smaller], 1.25, at_least=False)
    if largest > upto:
        what = f"peak of {largest:,} rows over that of {upto:,}"
        bench.add("memory", what, peaks[largest] / peaks[upto], 1.25, at_least=False)


def growth(bench: Bench) -> None:
    rows, repeat = bench.options.day_rows, 5
    found = {}
    for history in (10, 1_600):
        folder = Path(tempfile.mkdtemp(dir=bench.work, prefix="days-"))
        found[history] = bench.ours("days", folder, "ndjson", history, rows, repeat)
        shutil.rmtree(folder)
        bench.say(f"  {rows:,} rows into {history} days: {[round(s, 2) for s in found[history]['times']]} s")
    bench.raw["growth"] = {str(history): item for history, item in found.items()}
    middle = {history: sorted(item["times"])[repeat // 2] for history, item in found.items()}
    bench.add(
        "growth",
        f"a day of {rows:,} rows into 1,600 days, against into 10",
        middle[1_600] / middle[10],
        1.2,
        at_least=False,
    )


def small(bench: Bench) -> None:
    folder = bench.work / "small"
    data.write_small_files(folder, 1_000)
    item = bench.ours("samples", folder, "ndjson")
    assert item["batches"] == 1
    bench.raw["small"] = item
    bench.add("small", "1,000 files of one row in one batch: seconds", item["seconds"], 20, at_least=False, unit=" s")


WORK: dict[str, Callable[[Bench], None]] = {
    "samples": samples,
    "fit": fit,
    "memory": memory,
    "growth": growth,
    "small": small,
}


def about() -> dict[str, Any]:
    """Machine, versions and commit of the run."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    dirty = bool(
        subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip()
    )
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "",
    )
    names = ("duckdb", "deltalake", "polars", "pyarrow", "zstandard", "cryptography", "fitfast", "fitdecode")
    peers = subprocess.run(
        [str(PEER_PYTHON), "-c", "from importlib.metadata import version; print(version('dlt'))"],
        capture_output=True,
        text=True,
    ).stdout.strip()
    return {
        "commit": commit + ("+" if dirty else ""),
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": f"{model}, {len(os.sched_getaffinity(0))} cores, {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names} | {"dlt": peers},
    }


def peers_environment() -> None:
    """Build the peers' environment from its hashed lock when the lock changed."""
    lock, stamp = ROOT / "requirements" / "bench.txt", PEER_PYTHON.parents[1] / ".tiyu-stamp"
    value = bootstrap.digest([lock])
    if not PEER_PYTHON.exists() or bootstrap.stamped(stamp) != value:
        bootstrap.sync(PEER_PYTHON.parents[1], str(lock))
        bootstrap.write_stamp(stamp, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument(
        "--dict-rows", type=int, default=300_000, help="rows that dlt gets as dicts (its speed is constant)"
    )
    parser.add_argument("--fit-files", type=int, default=1_000)
    parser.add_argument("--memory-rows", type=int, nargs="+", default=[1_000_000, 3_000_000, 10_000_000, 50_000_000])
    parser.add_argument("--day-rows", type=int, default=100_000)
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds of the samples (default 7); the folder of activities has five"
    )
    parser.add_argument("--work", type=Path, default=None, help="folder for the data (needs 12 GB for 50 million rows)")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    peers_environment()
    # not under /tmp by name: what holds data belongs beside the project's own state
    root = options.work or ROOT / "build" / "bench"
    root.mkdir(parents=True, exist_ok=True)
    head = about()
    with tempfile.TemporaryDirectory(dir=root) as work:
        bench = Bench(Path(work), options)
        for number, part in enumerate(options.parts, 1):
            bench.say(f"[{number}/{len(options.parts)}] {part}")
            WORK[part](bench)
    print("\n" + report.table(bench.lines))
    if not options.no_write:
        report.write(HERE, ROOT / "docs", head, bench.lines, bench.raw)


if __name__ == "__main__":
    main()
