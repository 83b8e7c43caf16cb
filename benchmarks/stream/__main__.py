"""How long a message takes from the broker to a row that readers see, while Airflow runs beside it (``make bench-stream``).

    .venv/bin/python -m benchmarks.stream [--rate 50] [--minutes 4] [--compact-every 60] [--without-airflow]

A real broker (mosquitto), ``tiyu stream`` as a process of its own, a publisher at a steady rate, and Airflow's scheduler, DAG processor
and API server on the project's DAGs. Every second the newest checked version of the ODS table is read; a message counts as seen when
its row is in it. Compaction runs as its DAG does, only more often. Written to ``result.json`` beside this file unless ``--no-write``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESOURCE, TABLE = "venue.flow_count", "ods_venue__flow_count"
TARGET_S = 30.0
DEVICES = 50


def _environment(work: Path) -> dict[str, str]:
    env = {
        **os.environ,
        "TIYU_HOME": str(work / "home"),
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(work / "airflow"),
    }
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL", "TIYU_TODAY", "TIYU_AS_OF"):
        env.pop(name, None)
    return env


class Airflow:
    """Scheduler, DAG processor and API server on the project's DAGs, none of which is due."""

    def __init__(self, work: Path, env: dict[str, str]):
        from deploy.processes import free_port

        home = work / "airflow"
        home.mkdir()
        shutil.copy2(ROOT / "build" / "templates" / "airflow.db", home / "airflow.db")
        self.env = {
            **env,
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        port = str(free_port(18790, set()))
        commands = (["scheduler"], ["dag-processor"], ["api-server", "--host", "127.0.0.1", "--port", port])
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "airflow", *words], cwd=ROOT, env=self.env, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for words in commands
        ]  # fmt: skip

    def stop(self) -> bool:
        """End everything; whether all of it was still running."""
        alive = all(process.poll() is None for process in self.processes)
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()
        return alive


def _prepare(venue: str) -> None:
    """A register with one venue, so that the reference rule has something to look at."""
    import polars as pl

    from catalog import contracts, schemas
    from lake import ledger, tables
    from protection import keys

    keys.ensure()
    obj = contracts.load("venue.register").root
    schema = schemas.ods_schema(obj)
    row: dict[str, Any] = dict.fromkeys(schema.names)
    row |= {
        "venue_id": venue, "_batch_id": "b_bench", "_record_no": 1, "_source_object": "bench",
        "_ingested_at": datetime.now(UTC), "part_date": datetime.now(UTC).date(),
    }  # fmt: skip
    empty: pl.DataFrame = pl.from_arrow(schema.empty_table())  # type: ignore[assignment]
    frame = pl.concat([empty, pl.DataFrame([row], schema=empty.schema)])
    tables.append(obj.table, frame, batch_id="b_bench")
    ledger.set_checked_version(obj.table, int(tables.version(obj.table) or 0), "bench")


class Publisher(threading.Thread):
    """Sends ``rate`` messages a second and remembers when each was sent."""

    def __init__(self, port: int, rate: float, seconds: float, venue: str):
        super().__init__(daemon=True)
        self.port, self.rate, self.seconds, self.venue = port, rate, seconds, venue
        self.sent: list[float] = []
        self.begin = datetime.now(UTC) - timedelta(hours=3)

    def run(self) -> None:
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bench-sensor")
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        start = time.monotonic()
        number = 0
        while (now := time.monotonic()) - start < self.seconds:
            if now - start < number / self.rate:
                time.sleep(number / self.rate - (now - start))
            device = number % DEVICES
            value = {
                "device_id": f"FC-{device}", "venue_id": self.venue, "interval_s": 1, "in_count": 1, "out_count": 0,
                "counted_at": (self.begin + timedelta(seconds=number // DEVICES)).isoformat(), "inside_count": number,
            }  # fmt: skip
            client.publish(f"flow/{self.venue}/FC-{device}", json.dumps(value), qos=1)
            self.sent.append(time.monotonic())
            number += 1
        client.disconnect()
        client.loop_stop()


def _seen() -> set[int]:
    """Numbers of the messages whose rows readers see (the checked version)."""
    import polars as pl

    from lake import ledger, tables

    version = ledger.checked_version(TABLE)
    if version is None:
        return set()
    frame = pl.scan_delta(tables.path(TABLE), version=version).select("inside_count").collect()
    return set(frame["inside_count"].to_list())


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One run; see the head of this file."""
    from deploy.processes import free_port
    from lake import ledger, tables
    from lake.maintenance import file_count

    port = free_port(18850, set())
    (work / "broker.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    broker = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    started = [
        subprocess.Popen(
            [broker, "-c", str(work / "broker.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    ]
    env = {**_environment(work), "TIYU_CONN_FLOW_BROKER": f"mqtt://127.0.0.1:{port}"}
    os.environ.update({key: env[key] for key in ("TIYU_HOME", "TIYU_CONN_FLOW_BROKER")})
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL", "TIYU_TODAY", "TIYU_AS_OF"):
        os.environ.pop(name, None)
    venue = "V00001"
    _prepare(venue)
    airflow = None if options.without_airflow else Airflow(work, env)
    try:
        daemon = subprocess.Popen([sys.executable, "-m", "cli.main", "stream", RESOURCE], cwd=ROOT, env=env)
        started.append(daemon)
        time.sleep(10)
        publisher = Publisher(port, options.rate, options.minutes * 60, venue)
        publisher.start()
        first_seen: dict[int, float] = {}
        files: list[int] = []
        compacted = time.monotonic()
        while publisher.is_alive() or len(first_seen) < len(publisher.sent):
            now = time.monotonic()
            for number in _seen() - first_seen.keys():
                first_seen[number] = now
            if tables.exists(TABLE):
                files.append(file_count(TABLE))
            if now - compacted > options.compact_every and tables.exists(TABLE):
                subprocess.run(
                    [sys.executable, "-m", "cli.main", "compact", TABLE, "--json"],
                    cwd=ROOT,
                    env=env,
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
                compacted = time.monotonic()
            if not publisher.is_alive() and now - publisher.sent[-1] > 120:
                break
            time.sleep(1)
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(timeout=60)
        alive = airflow.stop() if airflow else None
        airflow = None
    finally:
        if airflow:
            airflow.stop()
        for process in started:
            process.kill()
            process.wait()
    waits = sorted(first_seen[number] - sent for number, sent in enumerate(publisher.sent) if number in first_seen)
    batches = ledger.batches(RESOURCE)
    return {
        "messages": len(publisher.sent),
        "seen": len(waits),
        "duplicates": sum(item["duplicate_count"] for item in batches),
        "batches": len(batches),
        "wait_s": {"median": _at(waits, 0.5), "p95": _at(waits, 0.95), "longest": _at(waits, 1.0)},
        "files": {
            "most": max(files, default=0),
            "last": files[-1] if files else 0,
            "commits": int(tables.version(TABLE) or 0),
        },
        "airflow_running": alive,
    }


def _at(values: list[float], share: float) -> float:
    return round(values[min(len(values) - 1, int(share * len(values)))], 1) if values else float("nan")


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50, help="messages a second")
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument(
        "--compact-every", type=float, default=60, help="seconds between compactions (hourly in production)"
    )
    parser.add_argument("--without-airflow", action="store_true")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as folder:
        found = measure(options, Path(folder))
    found = {
        "target_s": TARGET_S,
        "met": found["seen"] == found["messages"] and found["wait_s"]["longest"] <= TARGET_S,
        "rate": options.rate,
        "minutes": options.minutes,
        "compact_every_s": options.compact_every,
        **found,
        "machine": f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}",
        "versions": {
            name: metadata.version(name) for name in ("deltalake", "duckdb", "polars", "paho-mqtt", "apache-airflow")
        },
        "commit": subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip(),
    }
    print(json.dumps(found, ensure_ascii=False, indent=1))
    if not options.no_write:
        (HERE / "result.json").write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
