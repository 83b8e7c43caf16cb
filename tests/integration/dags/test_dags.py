"""The DAG files: how many there are, what each task promises, and that reading them stays cheap."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from catalog import contracts
from deploy import airflow, state

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]
RESOURCES = set(contracts.fetched())
"""One DAG a source that a schedule fetches; which sources there are is for tests/unit/catalog/test_contracts.py to say."""
TASKS = {
    **{f"ingest_{name.replace('.', '_')}": ["ingest", "gate"] for name in RESOURCES},
    "layers": ["reference", "dwd", "dws", "ads", "gate"],
    "serve": ["publish", "catalogue"],
    "exchange": ["deliver"],
    "exchange_answers": ["receive", "mend"],
    "open_data": ["build"],
    "backfill": ["read", "gate", "layers"],
    "compaction": ["compact"],
    "cleaning": ["compact"],
    "catch_up": ["ingest"],
    "archive_check": ["check"],
}
#: Started by a person, never by a clock.
BY_HAND = {"backfill", "catch_up"}


@pytest.fixture(scope="module", params=["production", "manual"])
def bag(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All DAGs, read as in production (schedules) and as in the demo (triggered)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
        patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        patch.delenv("TIYU_SCHEDULE", raising=False)
        if request.param == "manual":
            patch.setenv("TIYU_SCHEDULE", "manual")
        from airflow.dag_processing.dagbag import DagBag

        found = DagBag(str(ROOT / "dags"))
        return SimpleNamespace(dags=found.dags, import_errors=found.import_errors, mode=request.param)


def test_exactly_the_expected_dags(bag: Any) -> None:
    assert not bag.import_errors
    assert set(bag.dags) == set(TASKS)
    assert len(bag.dags) == len(RESOURCES) + 10


def test_every_source_contract_has_its_dag(bag: Any) -> None:
    from catalog import contracts
    from dags import wiring

    declared = contracts.load_all("source")
    assert (
        {source.resource for source in wiring.sources()}
        == {name for name, item in declared.items() if not item.is_stream}
        == RESOURCES
    )
    for source in wiring.sources():
        contract = declared[source.resource]
        assert source.tables == tuple(item.table for item in contract.objects)
        assert source.root_table == next(item.table for item in contract.objects if item.is_root)
        assert source.dag_id in bag.dags


def test_tasks_in_order(bag: Any) -> None:
    for dag_id, names in TASKS.items():
        assert [task.task_id for task in bag.dags[dag_id].topological_sort()] == names, dag_id


def test_every_task_has_owner_timeout_retries_and_a_single_writer_pool(bag: Any) -> None:
    from dags import wiring

    pools, examined = wiring.pools(), 0
    for dag in bag.dags.values():
        assert dag.max_active_runs == 1
        assert dag.catchup is False
        for task in dag.tasks:
            examined += 1
            assert task.owner
            assert task.owner != "airflow"
            assert timedelta(minutes=1) <= task.execution_timeout <= timedelta(hours=2)
            assert task.retries == 2
            assert task.retry_exponential_backoff
            assert task.max_retry_delay == timedelta(minutes=15)
            assert task.pool in pools, f"{dag.dag_id}.{task.task_id}"
    assert examined == sum(map(len, TASKS.values()))
    # one writer per table: no two sources share a pool
    assert len({wiring_source.pool for wiring_source in wiring.sources()}) == len(RESOURCES)
    assert len(pools) == len(RESOURCES) + 8


def test_a_task_may_wait_for_the_longest_others_and_still_begin(bag: Any, tmp_path: Path) -> None:
    """Its token runs from when it is queued; with Airflow's default it is no longer valid after ten minutes."""
    name = "AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME"
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    declared = [item["environment"][name] for item in services.values() if name in item.get("environment", {})]
    assert len(declared) >= 3
    declared.append(airflow.environment(tmp_path, airflow.Ports(1, 2, 3, 4), state.load_secrets(tmp_path))[name])
    longest = max(task.execution_timeout for dag in bag.dags.values() for task in dag.tasks)
    assert min(map(int, declared)) >= 6 * longest.total_seconds()


def test_every_dag_has_a_runbook_line_and_a_chinese_name(bag: Any) -> None:
    for dag in bag.dags.values():
        assert "**Runbook:**" in dag.doc_md
        assert "tiyu " in dag.doc_md, dag.dag_id
        assert any("一" <= char <= "鿿" for char in dag.dag_display_name)


def test_schedules(bag: Any) -> None:
    kinds = {dag_id: type(dag.timetable).__name__ for dag_id, dag in bag.dags.items()}
    if bag.mode == "manual":
        assert set(kinds.values()) == {"NullTimetable"}
        return
    assert {dag_id for dag_id, kind in kinds.items() if kind == "NullTimetable"} == BY_HAND
    for dag_id in TASKS.keys() - BY_HAND:
        wanted = (
            "CronTriggerTimetable"
            if dag_id.startswith("ingest_") or dag_id in {"exchange_answers", "compaction", "cleaning", "archive_check"}
            else "AssetOrTimeSchedule"
        )
        assert kinds[dag_id] == wanted, dag_id
    for dag in (dag for dag_id, dag in bag.dags.items() if dag_id not in BY_HAND):
        assert str(dag.timezone) in {"Asia/Shanghai", "Timezone('Asia/Shanghai')"}
    condition = bag.dags["layers"].timetable.asset_condition
    assert type(condition).__name__ == "AssetAll", "any-of would start the layers once per ingest"
    assert len(condition.objects) == len(RESOURCES)


def test_gate_publishes_the_asset_and_ingest_does_not(bag: Any) -> None:
    for name in RESOURCES:
        dag = bag.dags[f"ingest_{name.replace('.', '_')}"]
        assert dag.get_task("ingest").outlets == []
        assert [asset.uri for asset in dag.get_task("gate").outlets] == [f"lake://ods/ods_{name.replace('.', '__')}"]
    assert [asset.uri for asset in bag.dags["layers"].get_task("gate").outlets] == ["lake://ads/all"]


def test_what_others_refer_to_is_fetched_first() -> None:
    from dags import wiring

    tables = {table: source.resource for source in wiring.sources() for table in source.tables}
    examined = 0
    for source in wiring.sources():
        assert set(source.references) <= set(tables), (
            "a reference to a table that no source fills would refuse every row"
        )
        examined += len(source.references)
    assert examined >= 20
    first = next(source for source in wiring.sources() if source.resource == "venue.register")
    assert first.references == ()


def test_reading_the_dag_files_is_cheap(tmp_path: Path) -> None:
    """Every task reads its DAG file again: no heavy import, and all files together under a second of CPU."""
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    code = (
        "import json, os, sys, time\n"
        "import airflow.dag_processing.dagbag as bag\n"
        "before, started = set(sys.modules), time.process_time()\n"
        "found = bag.DagBag(sys.argv[1])\n"
        "seconds = time.process_time() - started\n"
        "names = ('polars', 'duckdb', 'deltalake', 'great_expectations', 'dbt', 'pyarrow', 'pandas')\n"
        "print('RESULT', json.dumps([seconds, len(found.dags), [n for n in names if n in sys.modules and n not in before]]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "dags")], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    line = next(line for line in result.stdout.splitlines() if line.startswith("RESULT"))
    seconds, count, heavy = json.loads(line.removeprefix("RESULT "))
    assert count == len(TASKS)
    assert heavy == []
    assert seconds < 1.0


def test_a_data_problem_is_not_retried_and_an_unavailable_source_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    from dags import child, wiring
    from lake.errors import EXIT_CHECK_FAILED, EXIT_UNAVAILABLE, TiyuError

    def failing(exit_code: int) -> Any:
        def call(name: str, *values: Any, **arguments: Any) -> Any:
            raise TiyuError("TIYU-TST-0001", "测试", "无", exit_code)

        return call

    monkeypatch.setattr(child, "call", failing(EXIT_CHECK_FAILED))
    with pytest.raises(AirflowFailException, match="TIYU-TST-0001"):
        wiring.verb("any:thing")
    monkeypatch.setattr(child, "call", failing(EXIT_UNAVAILABLE))
    with pytest.raises(AirflowException, match="TIYU-TST-0001") as caught:
        wiring.verb("any:thing")
    assert not isinstance(caught.value, AirflowFailException)


def test_every_verb_the_dags_name_exists() -> None:
    """A typo in a verb's name would show only when the task runs."""
    import ast
    import importlib

    names = []
    for path in sorted((ROOT / "dags").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "verb":
                argument = node.args[0]
                assert isinstance(argument, ast.Constant)
                names.append(str(argument.value))
    assert len(names) >= 13
    for name in names:
        module, _, function = name.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), name


def test_a_backfill_calls_the_verb_that_was_asked_for(bag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task's own function, with the verbs recorded: parameters arrive as the verb wants them."""
    from datetime import date

    from dags import wiring

    dag, called = bag.dags["backfill"], []
    monkeypatch.setattr(wiring, "use_connection", lambda name: called.append(name))
    monkeypatch.setattr(wiring, "verb", lambda name, *values, **arguments: called.append((name, values, arguments)))
    read, gate = (dag.get_task(name).python_callable for name in ("read", "gate"))
    chosen = {"resource": "venue.booking", "history": "source", "first": "2026-11-01", "last": "2026-11-03"}
    read(params=chosen)
    read(params={**chosen, "history": "archive"})
    added: list[Any] = []
    from dags.backfill import CHANGED

    gate(params=chosen, outlet_events={CHANGED: SimpleNamespace(add=lambda asset, extra: added.append(asset.uri))})
    days = {"first": date(2026, 11, 1), "last": date(2026, 11, 3)}
    assert called == [
        "VENUE_API",
        ("ingestion.backfill:backfill", (), {"resource": "venue.booking", **days}),
        "VENUE_API",
        ("ingestion.reread:reread", (), {"resource": "venue.booking"}),
        ("quality.gate:run_gate", (["ods_venue__booking"],), {}),
    ]
    assert added == ["lake://ods/ods_venue__booking"]
    assert dag.get_task("layers").trigger_dag_id in bag.dags
    assert set(dag.params.get_param("resource").schema["enum"]) == RESOURCES


def test_catch_up_takes_the_sources_it_is_asked_for(bag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task's own function, with the verb recorded: connections first, then one call for all, then their assets."""
    from dags import wiring

    dag, called, added = bag.dags["catch_up"], [], []
    monkeypatch.setattr(wiring, "use_connection", lambda name: called.append(name))
    monkeypatch.setattr(wiring, "verb", lambda name, *values, **arguments: called.append((name, values, arguments)))
    from dags.catch_up import CHANGED

    events = {CHANGED: SimpleNamespace(add=lambda asset, extra: added.append(asset.uri))}
    chosen = ["venue.payment", "reference.holiday"]
    dag.get_task("ingest").python_callable(params={"resources": chosen}, outlet_events=events)
    assert called == ["CITY_DROP", "VENUE_API", ("ingestion.catch_up:catch_up", (), {"resources": chosen})]
    assert added == ["lake://ods/ods_venue__payment", "lake://ods/ods_reference__holiday"]
    assert set(dag.params["resources"]) == RESOURCES
