"""Running verbs in processes that can be killed, and comparing two state folders row for row."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalog import contracts
from deploy.processes import MARK, marked
from ingestion.catch_up import waves

ROOT = Path(__file__).resolve().parents[2]
_SOURCES = contracts.fetched()
DISTURBED = (
    "venue.register", "event.filing", "venue.entry", "supervision.water_reading", "training.athlete", "training.activity",
    "fitness.checkin", "venue.booking",
)  # fmt: skip
"""One source of every form and connector, and those with most rows: the ones that are disturbed one by one."""
# Columns that say when or in which run something happened, not what is true.
TECHNICAL = frozenset(
    {"_ingested_at", "input_versions", "last_success_at", "due_at", "checked_at", "run_id", "quarantined_at"}
)


@dataclass
class Home:
    """One state folder and the environment its verbs run in."""

    path: Path
    env: dict[str, str]
    kills: list[str] = field(default_factory=list)

    @property
    def mark(self) -> str:
        """What every process of this home carries in its environment."""
        return self.env[MARK]

    def start(self, verb: str, **arguments: Any) -> subprocess.Popen[bytes]:
        """Start a verb in a process group of its own."""
        out = self.path / "report.json"
        out.unlink(missing_ok=True)
        command = [sys.executable, "-m", "dags.child", verb, json.dumps(arguments), str(out)]
        log = (self.path / "verbs.log").open("ab")
        return subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=log, start_new_session=True)

    def run(self, verb: str, **arguments: Any) -> Any:
        """Run a verb to its end; returns its report."""
        code = self.start(verb, **arguments).wait(timeout=600)
        text = (self.path / "verbs.log").read_text(encoding="utf-8", errors="replace")
        assert code == 0, f"{verb} {arguments} ended with {code}:\n{text[-3000:]}"
        return json.loads((self.path / "report.json").read_text(encoding="utf-8"))["report"]

    def code(self, lines: str) -> int:
        """Run a few lines of Python in the home's environment, for what no verb does; returns the exit code."""
        with (self.path / "verbs.log").open("ab") as log:
            return subprocess.run(
                [sys.executable, "-c", lines], cwd=ROOT, env=self.env, stdout=log, stderr=log
            ).returncode

    def fails(self, verb: str, **arguments: Any) -> str:
        """Run a verb that must fail; returns its coded message."""
        log = self.path / "verbs.log"
        before = log.stat().st_size if log.exists() else 0
        assert self.start(verb, **arguments).wait(timeout=600) != 0, f"{verb} did not fail"
        lines = log.read_bytes()[before:].decode("utf-8", errors="replace").splitlines()
        coded = [line for line in lines if line.startswith("TIYU-")]
        assert coded, f"{verb} failed without a code:\n" + "\n".join(lines[-20:])
        return coded[-1]

    def kill_when(self, point: str, condition: Callable[[], bool], verb: str, **arguments: Any) -> bool:
        """Start a verb and SIGKILL its group as soon as ``condition`` holds; False when it ended before."""
        process = self.start(verb, **arguments)
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if condition():
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                assert not marked(self.mark), f"{point}: a process outlived the kill of its group"
                self.kills.append(point)
                return True
            time.sleep(0.001)
        assert process.wait(timeout=300) == 0, f"{point}: the verb failed by itself"
        return False

    def table(self, name: str) -> Path:
        """Folder of a Delta table."""
        return self.path / "lake" / name.partition("_")[0] / name


def commits(folder: Path) -> int:
    """Number of commits of a Delta table on disk."""
    return len(list((folder / "_delta_log").glob("*.json")))


def data_files(folder: Path) -> int:
    """Number of Parquet files of a Delta table on disk, committed or not."""
    return sum(1 for _ in folder.rglob("*.parquet"))


# ------------------------------------------------------------------ comparison
PROBE = """
import hashlib, json, sys
from lake import ledger, query, tables
from quality import quarantine
technical = set(json.loads(sys.argv[1]))
result = {}
con = query.connect()
con.execute("set timezone='Asia/Shanghai'")
for name in tables.all_tables():
    if name.startswith("ops_") and name != "ops_ingest__quarantine":
        continue
    if name.startswith("ops_"):  # what is still refused: the table itself keeps what was replayed
        quarantine.register_open(con)
        scan = "open_quarantine"
    else:
        version = ledger.checked_version(name)
        if version is None:
            result[name] = None
            continue
        scan = f"delta_scan('{tables.path(name)}', version => {version})"
    columns = sorted(r[0] for r in con.execute(f"describe select * from {scan}").fetchall() if r[0] not in technical)
    row = "md5(concat_ws('|', " + ", ".join(f"coalesce(cast(\\"{c}\\" as varchar), chr(0))" for c in columns) + "))"
    count, digest = con.execute(f"select count(*), md5(string_agg(h, '' order by h)) from (select {row} as h from {scan})").fetchone()
    result[name] = [count, digest, columns]
print("RESULT " + json.dumps(result))
"""


def contents(home: Home) -> dict[str, Any]:
    """Every checked table: rows, an order-free digest of all rows, the columns compared."""
    command = [sys.executable, "-c", PROBE, json.dumps(sorted(TECHNICAL))]
    result = subprocess.run(command, cwd=ROOT, env=home.env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    line = next(line for line in result.stdout.splitlines() if line.startswith("RESULT"))
    return dict(json.loads(line.removeprefix("RESULT ")))


SERVING_PROBE = """
import duckdb, json, sys
from pathlib import Path
technical, result = set(json.loads(sys.argv[2])), {}
for path in sorted(Path(sys.argv[1]).glob("*.duckdb")):
    con = duckdb.connect(str(path), read_only=True)
    con.execute("set timezone='Asia/Shanghai'")
    for schema, name in con.execute("select schema_name, table_name from duckdb_tables() order by all").fetchall():
        if name.startswith(("ops_", "catalog_freshness")):
            continue
        columns = [r[0] for r in con.execute(
            "select column_name from duckdb_columns() where schema_name = ? and table_name = ? order by 1", [schema, name]).fetchall()]
        columns = [c for c in columns if c not in technical and not c.endswith("_version") and c not in ("checked_version", "published_at")]
        row = "md5(concat_ws('|', " + ", ".join(f"coalesce(cast(\\"{c}\\" as varchar), chr(0))" for c in columns) + "))"
        result[f"{path.stem}.{schema}.{name}"] = con.execute(
            f'select count(*), md5(string_agg(h, \\'\\' order by h)) from (select {row} as h from "{schema}"."{name}")').fetchone()
    con.close()
print("RESULT " + json.dumps(result))
"""


def serving(home: Home) -> dict[str, Any]:
    """Every table of every serving file: rows and digest."""
    command = [sys.executable, "-c", SERVING_PROBE, str(home.path / "serving"), json.dumps(sorted(TECHNICAL))]
    result = subprocess.run(command, cwd=ROOT, env=home.env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    line = next(line for line in result.stdout.splitlines() if line.startswith("RESULT"))
    return dict(json.loads(line.removeprefix("RESULT ")))


def delivered(home: Home) -> dict[str, str]:
    """Data of every delivery and open dataset: name → digest of the (unpacked) content."""
    found: dict[str, str] = {}
    outbox = home.path / "exchange" / "outbox"
    for path in sorted(outbox.rglob("*.csv.gz")):
        found[path.relative_to(outbox).as_posix()] = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    for path in sorted((home.path / "open").rglob("*.csv")):
        found["open/" + path.relative_to(home.path / "open").as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names whose content differs, or that only one side has."""
    return [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]


def root_table(resource: str) -> str:
    """The table of a source's root records."""
    return _SOURCES[resource].root.table


def bring_in(home: Home, apart: Sequence[str] = ()) -> Iterator[str]:
    """Every source that is fetched, those that others refer to first. A source of ``apart`` is given to the caller, who brings it
    in; those between come in together, as in the demo."""
    for wave in waves(_SOURCES, _SOURCES):
        yield from (name for name in wave if name in apart)
        if together := [name for name in wave if name not in apart]:
            home.run("ingestion.catch_up:catch_up", resources=together)


def undisturbed(home: Home) -> Iterator[str]:
    """The whole way, verb by verb."""
    for resource in bring_in(home, DISTURBED):
        home.run("ingestion.run:ingest", resource=resource)
        home.run("quality.gate:run_gate", names=[root_table(resource)])
        yield resource
    home.run("catalog.publish:publish_reference")
    home.run("quality.ops:publish_ops")
    for layer in ("dwd", "dws", "ads"):
        home.run("modeling.run:build", layer=layer)
        yield layer
    home.run("quality.gate:run_gate", names=ads_tables(home))
    home.run("dags.verbs:publish_serving")
    home.run("sharing.exchange.run:run_exchange")
    home.run("sharing.open_data.build:build_open_data")
    yield "shared"


def ads_tables(home: Home) -> list[str]:
    """ADS tables on disk."""
    return sorted(path.name for path in (home.path / "lake" / "ads").iterdir())
