"""Airflow of the demo: environment, the three services it needs, and its REST interface.

No triggerer: no task of ours is deferred. SQLite metadata copied from a prebuilt template; LocalExecutor with two workers on two cores.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy.processes import Child, Processes

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "build" / "templates" / "airflow.db"
FINAL_STATES = frozenset({"success", "failed"})
PAUSES_S = (1.0, 3.0, 6.0)
"""Waits before a request is made again."""
ANSWER_S = 30.0
"""How long one answer may take."""


@dataclass(frozen=True)
class Ports:
    """Loopback ports of one Airflow."""

    api: int
    worker_log: int
    trigger_log: int
    scheduler_health: int


def environment(home: Path, ports: Ports, secrets: Mapping[str, str], parallelism: int = 2) -> dict[str, str]:
    """``AIRFLOW__…`` settings of the demo; nothing is read from an ``airflow.cfg``."""
    folder = home / "airflow"
    return {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(parallelism),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DEFAULT_TIMEZONE": "Asia/Shanghai",
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_FETCH_INTERVAL": "1",
        "AIRFLOW__CORE__FERNET_KEY": secrets["airflow_fernet"],
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{ports.api}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(ports.api),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{ports.api}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets["airflow_api"],
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets["airflow_jwt"],
        # A task's token runs from when it is queued: with Airflow's ten minutes, one that waits longer for a free place fails
        # before it begins ("Invalid auth token").
        "AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME": "86400",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(ports.worker_log),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports.trigger_log),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(ports.scheduler_health),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "300",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        # The files do not change while the demo is up. On a machine at its limit one import may take a minute; Airflow's
        # defaults (50 s, 30 s) would then take every DAG of the file away until the next parse, five minutes later.
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "240",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "SCARF_ANALYTICS": "false",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
    }


def prepare(home: Path, password: str) -> None:
    """Metadata database from the template on first use; the password file readable by its owner only."""
    folder = home / "airflow"
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / "airflow.db"
    if not database.is_file():
        partial = folder / "airflow.db.new"
        shutil.copyfile(TEMPLATE, partial)
        partial.replace(database)
    _end_interrupted_runs(database)
    passwords = folder / "passwords.json"
    passwords.touch(mode=0o600)
    passwords.chmod(0o600)
    passwords.write_text(json.dumps({"admin": password}))


def _end_interrupted_runs(database: Path) -> None:
    """Runs that a killed demo left unfinished are ended as failed, before Airflow starts.

    Their processes are gone (the supervisor has made sure of that), but Airflow would wait five minutes for their heartbeat, and
    ``max_active_runs=1`` would hold the new run back so long.
    """
    connection = sqlite3.connect(database, timeout=30)
    try:
        with connection:
            open_states = "('queued','running','restarting','scheduled','up_for_retry','up_for_reschedule','deferred')"
            connection.execute(
                f"update task_instance set state='failed', end_date=coalesce(end_date, current_timestamp) where state in {open_states}"
            )
            connection.execute(
                "update dag_run set state='failed', end_date=coalesce(end_date, current_timestamp) where state in ('queued','running')"
            )
    finally:
        connection.close()


SERVICES = {
    "airflow-api": ["airflow", "api-server"],
    "airflow-scheduler": ["deploy.scheduler"],
    "airflow-dag-processor": ["airflow", "dag-processor"],
}
"""Service (and name of its log) → module and arguments."""


def start(processes: Processes, env: Mapping[str, str]) -> list[Child]:
    """Start the services, each in a session of its own."""
    return [
        processes.spawn(name, [sys.executable, "-m", *command], env=env, cwd=ROOT) for name, command in SERVICES.items()
    ]


class RunFailed(RuntimeError):
    """A DAG run ended as failed; the message has the failing task and the end of its log."""


class Client:
    """The few REST calls the supervisor makes."""

    def __init__(self, base_url: str, password: str) -> None:
        self.base_url, self._password = base_url, password
        self._http = httpx.Client(base_url=base_url, timeout=ANSWER_S, trust_env=False)
        self._token_until = 0.0

    def close(self) -> None:
        """Close the connection pool."""
        self._http.close()

    def _once(self, method: str, path: str, **options: Any) -> httpx.Response:
        if time.monotonic() > self._token_until:
            answer = self._http.post("/auth/token", json={"username": "admin", "password": self._password})
            answer.raise_for_status()
            self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            self._token_until = time.monotonic() + 3600
        return self._http.request(method, path, **options)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, asked again when no answer comes in time: a machine full of other work is slow, not broken.

        Every request here may be repeated: reads, writes that skip or overwrite, and runs whose id is ours.
        """
        for pause_s in PAUSES_S:
            try:
                return self._once(method, path, **options)
            except httpx.TimeoutException:
                time.sleep(pause_s)
        try:
            return self._once(method, path, **options)
        except httpx.TimeoutException as error:
            raise RuntimeError(
                f"Airflow 连续 {len(PAUSES_S) + 1} 次各 {ANSWER_S:.0f} 秒没有回答（{method} {path}）；机器太忙时等一等，"
                "再运行同一条命令会接着做；仍然如此，看日志目录中的 airflow-api.log"
            ) from error

    def _request(self, method: str, path: str, **options: Any) -> Any:
        answer = self._send(method, path, **options)
        if answer.is_error:
            # an answer about a connection may echo the credential that was sent
            detail = "" if "/connections" in path else answer.text[:300]
            raise RuntimeError(f"Airflow {method} {path}: {answer.status_code} {detail}")
        return answer.json() if answer.content else None

    def healthy(self) -> bool:
        """True when the metadata, the scheduler and the dag processor report healthy."""
        try:
            state = self._http.get("/api/v2/monitor/health").json()
        except (httpx.HTTPError, ValueError):
            return False
        return all(
            state.get(part, {}).get("status") == "healthy" for part in ("metadatabase", "scheduler", "dag_processor")
        )

    def dag_ids(self) -> set[str]:
        """DAGs that are parsed and active."""
        return {item["dag_id"] for item in self._request("GET", "/api/v2/dags?limit=100")["dags"]}

    def import_errors(self) -> list[str]:
        """Messages of DAG files that could not be read."""
        errors = self._request("GET", "/api/v2/importErrors?limit=20")["import_errors"]
        return [f"{item['filename']}: {item['stack_trace'][-500:]}" for item in errors]

    def ensure_pools(self, pools: Mapping[str, str]) -> None:
        """Create the pools that do not exist yet, one slot each."""
        entities = [
            {"name": name, "slots": 1, "description": text, "include_deferred": False} for name, text in pools.items()
        ]
        body = {"actions": [{"action": "create", "entities": entities, "action_on_existence": "skip"}]}
        answer = self._request("PATCH", "/api/v2/pools", json=body)
        if errors := (answer.get("create") or {}).get("errors"):
            raise RuntimeError(f"pools could not be created: {errors}")

    def ensure_connections(self, uris: Mapping[str, str]) -> None:
        """Store the sources' credentials as Airflow connections ``tiyu_<name>`` (encrypted by Airflow's key)."""
        entities = [
            {"connection_id": f"tiyu_{name}", "conn_type": "generic", "extra": json.dumps({"uri": uri})}
            for name, uri in uris.items()
        ]
        body = {"actions": [{"action": "create", "entities": entities, "action_on_existence": "overwrite"}]}
        answer = self._request("PATCH", "/api/v2/connections", json=body)
        if errors := (answer.get("create") or {}).get("errors"):
            raise RuntimeError(f"connections could not be created: {errors}")

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run, with ``conf`` for the DAG's parameters; returns its id.

        On SQLite a busy moment answers 5xx. The run's id is ours, so asking again can never start a second run: 409 says
        that the first request had gone through after all.
        """
        run_id = f"manual__{uuid.uuid4().hex}"
        path = f"/api/v2/dags/{dag_id}/dagRuns"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        for pause_s in (*PAUSES_S, None):
            answer = self._send("POST", path, json=body)
            if answer.status_code == 409:
                return run_id
            if answer.status_code < 500 or pause_s is None:
                break
            time.sleep(pause_s)
        if answer.is_error:
            raise RuntimeError(f"Airflow POST {path}: {answer.status_code} {answer.text[:300]}")
        return str(answer.json()["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """State and times of a run."""
        return dict(self._request("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"))

    def latest_runs(self) -> list[dict[str, Any]]:
        """The newest runs of all DAGs."""
        return list(self._request("GET", "/api/v2/dags/~/dagRuns?limit=20&order_by=-id")["dag_runs"])

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Task instances of a run."""
        return list(self._request("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"])

    def report(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        try:
            value = self._request("GET", path)["value"]
        except RuntimeError:
            return None
        return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value

    def why_failed(self, dag_id: str, run_id: str) -> str:
        """Failing tasks of a run with the last error lines of their logs."""
        parts = []
        for item in self.tasks(dag_id, run_id):
            if item["state"] != "failed":
                continue
            path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{item['task_id']}/logs/{max(item['try_number'], 1)}"
            try:
                log = self._request("GET", path, headers={"Accept": "application/json"})
            except RuntimeError as error:
                parts.append(f"{dag_id}.{item['task_id']}: {error}")
                continue
            parts.append(f"{dag_id}.{item['task_id']}: " + _last_error(log.get("content") or []))
        return "\n".join(parts) or f"{dag_id}: no failed task"

    def wait(
        self,
        runs: Mapping[str, str],
        *,
        timeout_s: float,
        alive: Callable[[], None],
        on_change: Callable[[str, str, float], None] = lambda dag, state, seconds: None,
        stop_at_failure: bool = True,
    ) -> list[str]:
        """Wait until every run (dag id → run id) has ended; raise RunFailed on the first failure, or return the failed ones."""
        failed: list[str] = []
        waiting = dict(runs)
        started = time.monotonic()
        while waiting:
            alive()
            # one request for all: the API server shares two cores with the tasks
            states = {(item["dag_id"], item["dag_run_id"]): item["state"] for item in self.latest_runs()}
            for dag_id, run_id in list(waiting.items()):
                state = states.get((dag_id, run_id)) or self.run(dag_id, run_id)["state"]
                if state in FINAL_STATES:
                    on_change(dag_id, state, time.monotonic() - started)
                    del waiting[dag_id]
                if state == "failed" and stop_at_failure:
                    raise RunFailed(self.why_failed(dag_id, run_id))
                if state == "failed":
                    failed.append(dag_id)
            if waiting and time.monotonic() - started > timeout_s:
                raise RunFailed(
                    f"超过 {timeout_s:.0f} 秒没有结束：{'、'.join(waiting)}；原因看日志目录中的 airflow-scheduler.log"
                )
            time.sleep(0.5)
        return failed


def _last_error(content: Iterable[Any]) -> str:
    """The most useful end of a structured task log: the error detail, else the last events."""
    lines: list[str] = []
    for item in content:
        if not isinstance(item, dict):
            lines.append(str(item))
            continue
        for detail in item.get("error_detail") or []:
            lines.append(f"{detail.get('exc_type')}: {detail.get('exc_value')}")
        if item.get("event"):
            lines.append(str(item["event"]))
    return "\n".join(lines[-12:])
