"""What all DAGs share: defaults, schedules, assets, pools, and how a verb is called from a task.

Three switches, all read while a DAG file is parsed:

``TIYU_SCHEDULE=manual``  no DAG has a schedule; the demo triggers each one. Unset, the production schedules below apply.
``TIYU_TASK_RETRY_S``     seconds before the first retry (default 60).
``TIYU_TASK_RETRIES``     how many retries (default 2); the connectors try several times themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from airflow.sdk import Asset, AssetAll, AssetOrTimeSchedule, CronTriggerTimetable

ROOT = Path(__file__).resolve().parent.parent
TIMEZONE = "Asia/Shanghai"
START = datetime(2026, 1, 1, tzinfo=ZoneInfo(TIMEZONE))
DEFAULT_OWNER = "数据平台组"

ADS_TABLES = Asset("lake://ads/all", group="lake")
"""Updated when a whole run of the layers has passed its quality gate."""


@dataclass(frozen=True)
class Source:
    """The part of a source contract that wiring needs."""

    resource: str
    title: str
    tables: tuple[str, ...]
    update_cycle: str
    connection: str
    references: tuple[str, ...]
    owner: str

    @property
    def dag_id(self) -> str:
        """``venue.register`` is ingested by ``ingest_venue_register``."""
        return "ingest_" + self.resource.replace(".", "_")

    @property
    def root_table(self) -> str:
        """The table that holds the contract's root records."""
        return self.tables[0]

    @property
    def pool(self) -> str:
        """One slot: one writer per table."""
        return f"writer_{self.root_table}"

    @property
    def asset(self) -> Asset:
        """Updated when a batch of this source has passed its quality gate."""
        return Asset(f"lake://ods/{self.root_table}", group="lake")


def _custom(node: dict[str, Any]) -> dict[str, Any]:
    """The ``tiyu`` custom property of one level of a contract."""
    for item in node.get("customProperties") or []:
        if item.get("property") == "tiyu":
            return item.get("value") or {}
    return {}


def sources() -> list[Source]:
    """Every declared source that a schedule fetches, in the order of its references (what others refer to comes first). A stream
    is none of them: ``tiyu stream`` receives it all the time (design §8).

    Reads only the few words it needs: a DAG file is parsed again for every task, and the strict models of the catalogue cost more
    than the task itself. ``tiyu catalog check`` and the verbs validate the contract in full.
    """
    paths = sorted((ROOT / "catalog" / "contracts" / "sources").rglob("*.odcs.yaml"))
    read = (_read(path, stat.st_mtime_ns, stat.st_size) for path in paths if (stat := path.stat()))
    found = [source for source in read if source is not None]
    return sorted(found, key=lambda source: (len(source.references) > 0, source.resource))


@lru_cache(maxsize=1024)
def _read(path: Path, modified_ns: int, size: int) -> Source | None:
    """One contract file, None for a stream. Kept by name, time and size: several DAG files ask for all of them, and a task
    forked from a scheduler that has asked (`deploy.scheduler`) parses none.
    """
    del modified_ns, size
    raw = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    root = _custom(raw)
    objects = raw.get("schema") or []
    referenced = {
        rule["table"]
        for item in objects
        for rule in _custom(item).get("rules") or []
        if rule.get("kind") == "reference" and rule.get("table", "").startswith("ods_")
    }
    servers = raw.get("servers") or [{}]
    connector = _custom(servers[0]).get("connector") or {}
    if connector.get("kind") == "mqtt":
        return None
    return Source(
        resource=raw["id"],
        title=str(raw.get("name") or raw["id"]),
        tables=tuple(f"ods_{raw['id'].partition('.')[0]}__{item['name']}" for item in objects),
        update_cycle=str(root["updateCycle"]["cycle"]),
        connection=str(connector.get("connection", "")),
        references=tuple(sorted(referenced)),
        owner=_owner(raw),
    )


def _owner(raw: dict[str, Any]) -> str:
    """The person or unit that answers for the source: first team member of the contract."""
    team = raw.get("team") or {}
    members = team.get("members") if isinstance(team, dict) else team
    for member in members or []:
        if member.get("name") or member.get("username"):
            return str(member.get("name") or member.get("username"))
    return str(team.get("name") or DEFAULT_OWNER) if isinstance(team, dict) else DEFAULT_OWNER


def pools() -> dict[str, str]:
    """Every pool the DAGs use, with its meaning. Each has one slot; ``dags.pools`` writes them out for Airflow."""
    named = {source.pool: f"one writer of {', '.join(source.tables)}" for source in sources()}
    named["writer_backfill"] = "one backfill at a time; the verb holds the lock of its resource"
    named["writer_catch_up"] = "one run over many sources at a time; the verb holds the lock of each resource"
    named["writer_layers"] = "one writer of the dim, dwd, dws and ads tables"
    named["writer_serving"] = "one writer of the serving files"
    named["writer_exchange"] = "one writer of the delivery outbox"
    named["writer_maintenance"] = "one upkeep of the tables at a time"
    named["reader_archive"] = "one reading of the whole archive at a time"
    named["writer_open"] = "one writer of the open datasets"
    return named


# ------------------------------------------------------------------ schedules
def is_manual() -> bool:
    """True in the demo, where every DAG is triggered."""
    return os.environ.get("TIYU_SCHEDULE") == "manual"


def cron(expression: str) -> Any:
    """A clock schedule in Shanghai time, or none in the demo."""
    return None if is_manual() else CronTriggerTimetable(expression, timezone=TIMEZONE)


def after(assets: Iterable[Asset], latest: str) -> Any:
    """Run once all ``assets`` were updated since the last run, and in any case at the clock time ``latest``.

    All, not any: seven ingests that finish one after another start one run of the layers, not seven. The clock is the safety net for
    a day on which one source fails: the other sources' data must not wait for it.
    """
    if is_manual():
        return None
    clock = CronTriggerTimetable(latest, timezone=TIMEZONE)
    return AssetOrTimeSchedule(timetable=clock, assets=AssetAll(*assets))


INGEST_CRON = {
    "realtime": "*/10 * * * *",
    "hourly": "12 * * * *",
    "daily": "30 1 * * *",
    "weekly": "5 1 * * *",
}
"""Fetch times by update cycle. Weekly sources are asked daily: a late or corrected file must not wait another week."""


def ingest_schedule(source: Source) -> Any:
    """What other sources refer to is fetched first (01:00), then each source by its cycle."""
    if not source.references and source.update_cycle in {"weekly", "monthly", "quarterly", "yearly"}:
        return cron("0 1 * * *")
    return cron(INGEST_CRON.get(source.update_cycle, INGEST_CRON["daily"]))


# ------------------------------------------------------------------ defaults
def task_defaults(owner: str, pool: str, minutes: int) -> dict[str, Any]:
    """Owner, pool, timeout and retries of a task.

    Airflow's exponential backoff spreads the delay by a hash of the task instance, so that many retries do not meet again.
    """
    return {
        "owner": owner,
        "pool": pool,
        "execution_timeout": timedelta(minutes=minutes),
        "retries": int(os.environ.get("TIYU_TASK_RETRIES", "2")),
        "retry_delay": timedelta(seconds=float(os.environ.get("TIYU_TASK_RETRY_S", "60"))),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=15),
    }


def dag_defaults(title: str, doc: str) -> dict[str, Any]:
    """What every DAG has: one run at a time, no catch-up (a verb takes everything pending), a runbook in its documentation."""
    return {
        "start_date": START,
        "catchup": False,
        "max_active_runs": 1,
        "dag_display_name": title,
        "doc_md": doc,
        "tags": ["tiyu"],
    }


# ------------------------------------------------------------------ verbs
def use_connection(name: str) -> None:
    """Give the verb its source credential: an Airflow connection ``tiyu_<name>`` wins over the variable ``TIYU_CONN_<NAME>``."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    variable = f"TIYU_CONN_{name}"
    if not name or variable in os.environ:
        return
    try:
        found = Connection.get(f"tiyu_{name.lower()}")
    except AirflowNotFoundException:
        return  # the verb reports the missing connection with its own code and advice
    os.environ[variable] = str((found.extra_dejson or {}).get("uri") or found.get_uri())


def verb(name: str, *values: Any, **arguments: Any) -> Any:
    """Call a verb inside the task, which is a process of its own already (the executor forks one per task).

    Only an unavailable source is worth a retry; a data problem fails the task at once.
    """
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    from dags.child import call, plain
    from lake import state, storage
    from lake.errors import EXIT_UNAVAILABLE, TiyuError
    from protection import redaction

    redaction.install("airflow_log")  # before anything of the verb can be logged
    try:
        with storage.coded(), state.in_use():
            return plain(call(name, *values, **arguments))
    except TiyuError as error:
        kind = AirflowException if error.exit_code == EXIT_UNAVAILABLE else AirflowFailException
        raise kind(str(error)) from None
    except Exception as error:  # a library's message may quote the values it choked on: logs get its type only
        raise AirflowFailException(f"TIYU-DAG-0001 任务出现未预见的错误（{type(error).__name__}）") from None
