"""The demo's services with canaries: the real scheduler, DAG processor, API server and cockpit run the whole day, a bad one; then
every byte of the state folder is searched, each service's log for itself."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from deploy import airflow, demo
from tests.policy.canary import conftest, lake, live, persons, plant, search
from tests.policy.canary.live_run import STEPS, STOPPED
from tests.policy.canary.test_canaries import LAKE, MAY_SHOW

pytestmark = pytest.mark.policy

#: What a place may hold, by the policy's own treatments.
SERVED = frozenset().union(*MAY_SHOW.values())
MAY_HOLD: dict[str, frozenset[str]] = {
    "state: lake": LAKE | MAY_SHOW["quarantine"],
    "state: serving": SERVED,  # each file for itself is searched by test_canaries
    "state: cockpit": frozenset(),
    # objects are named after an athlete by the athlete's token, what was refused by the spelling that operations may see
    "state: archive": frozenset({"token_athlete_no"}),
    "state: ledger.db": frozenset({"token_athlete_no", *MAY_SHOW["error_message"]}),
}
MAY_HOLD |= dict.fromkeys(("state: ledger.db-wal", "state: ledger.db-shm"), MAY_HOLD["state: ledger.db"])
#: Logs, the answers of tasks, the screen: what may stand in an error message.
SAID = MAY_SHOW["error_message"]
EMPTY = {"temporary files", "state: tmp", *(f"log of {name}" for name in live.QUIET)}
"""Places that may be without a byte."""


@pytest.fixture(scope="module")
def day(tmp_path_factory) -> Iterator[live.Live]:
    """The demo's day with canaries, and nothing taken away."""
    if conftest.MODE != "layers":
        pytest.skip("looked at by make test-canary")
    begun = live.begin(tmp_path_factory.mktemp("live"))
    try:
        begun.run("whole")
        with pytest.MonkeyPatch.context() as patch:
            lake.environment(patch, begun.home)
            yield begun
    finally:
        shutil.rmtree(begun.base, ignore_errors=True)


@pytest.fixture(scope="module")
def seek(day) -> search.Search:
    """The search for everything that gives a canary away, the tokens of this demo's keys included."""
    return search.Search(persons.needles(lake.tokens_of_canaries()))


@pytest.fixture(scope="module")
def examined(day, seek) -> dict[str, search.Findings]:
    """What was looked at and found in each place."""
    return {name: look(seek) for name, look in live.places(day).items()}


@pytest.fixture(scope="module")
def unguarded(day, examined) -> live.Live:
    """The same demo's Airflow with protections taken away, after everything else was searched."""
    assert examined
    day.run("again", off=day.base / "off")
    return day


def test_every_service_has_its_log_searched(day, examined):
    """A service that is not named, or wrote nothing that could be searched, fails here; so does one that is new."""
    assert live.service_logs(day) == set(live.SERVICES)
    named = {name for name in live.SERVICES if name.startswith("airflow-")}
    assert len(named) == len(airflow.SERVICES), "every service of Airflow is named"
    for name in live.SERVICES:
        log = examined[f"log of {name}"]
        assert log.files == 1, name
        assert name in live.QUIET or log.bytes > 50, name
    assert all(examined[f"log of {name}"].bytes > 10_000 for name in named)


def test_every_dag_ran_and_its_logs_were_searched(day, examined):
    folders = {name.removeprefix("airflow logs: ") for name in examined if name.startswith("airflow logs: ")}
    with closing(sqlite3.connect(f"file:{day.home}/airflow/airflow.db?mode=ro", uri=True)) as con:
        wanted = {name for (name,) in con.execute("SELECT dag_id FROM dag WHERE NOT is_stale")}
    expected = demo.Demo(day.home, "tiny", 0, True, 0).expected_dags()
    assert wanted > expected
    # the small sources come in through catch_up, whose log is searched; their own DAGs have none
    alone = {demo.FIRST, *map(demo.dag_of, demo.LARGE)}
    together = {name for name in expected if name.startswith("ingest_")} - alone
    assert len(together) > 30
    assert folders == {f"dag_id={name}" for name in wanted - together} | {"dag_processor"}
    for folder in folders:
        assert examined[f"airflow logs: {folder}"].bytes > 1_000, folder


def test_airflows_database_was_searched_with_what_ran(day, examined):
    with closing(sqlite3.connect(f"file:{day.home}/airflow/airflow.db?mode=ro", uri=True)) as con:
        counts = {name: con.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in live.AIRFLOW_TABLES}
        answers = [json.loads(value) for (value,) in con.execute("SELECT value FROM xcom WHERE key = 'return_value'")]
        failed = con.execute("SELECT dag_id, count(*) FROM task_instance WHERE state = 'failed' GROUP BY 1").fetchall()
    assert min(counts.values()) >= 2, counts
    assert examined["airflow database"].decoded["sqlite column"] > 100
    assert dict(failed) == {STOPPED: 1, "backfill": 1}
    assert sum(len(answer.get("receipts") or []) for answer in answers if isinstance(answer, dict)) >= 4


def test_the_hostile_deliveries_are_there(day, seek):
    """What the failing tasks choked on, and what the center put into the inbox, holds the canaries the search must not find."""
    drop = seek.tree(day.home / live.SOURCES / "drops" / "venue" / "entry" / f"{plant.DAY:%Y%m%d}")
    assert {"id_no", "phone", "name"} <= set(drop.found)
    assert {"id_no", "phone", "name"} <= set(seek.tree(day.home / "exchange" / "inbox").found)
    log = (day.home / "demo" / "log" / "airflow-scheduler.log").read_text("utf-8")
    assert log.count("TIYU-ING-0020") >= 2, "the scheduler's own log shows the exceptions"


def test_no_canary_in_a_running_demo(examined, day, seek, capsys):
    leaks, total = {}, search.Findings()
    for name, found in examined.items():
        total.add(found)
        assert name in EMPTY or found.bytes, f"{name} showed nothing at all"
        if name == "state: exchange":  # what the receiver put into its inbox is the receiver's, like the source folder
            own = seek.tree(day.home / "exchange", skip=lambda path: path.parent.name == "inbox")
            assert own.files >= 4
            found = own
        if items := found.except_for(MAY_HOLD.get(name, SAID)):
            leaks[name] = items
    assert not leaks, leaks
    assert total.files > 500
    assert total.bytes > 50_000_000
    with capsys.disabled():
        for name, found in examined.items():
            print(f"\n{name}: {found}", end="")
        print(f"\nrunning demo: {len(examined)} places, {total}")


@pytest.mark.parametrize("name", live.SERVICES)
def test_a_canary_in_a_services_log_is_found(day, seek, name, tmp_path):
    """One line more in the log that the service wrote, of each thing that a log may say of a person."""
    source = day.home / "demo" / "log" / f"{name}.log"
    for item in ("phone", "id_no", "name"):
        copy = tmp_path / item
        copy.write_bytes(source.read_bytes() + f"\nkey={getattr(persons.STRAY, item)}\n".encode())
        assert set(seek.file(copy).except_for(SAID)) == {item}


# ------------------------------------------------------------------ protections taken away, in the running Airflow
#: Step of `live_run.again` → DAG → what is found in its task logs. Two guards stand before the name of a bad file (the digest in
#: it, the guard of what is logged), one before the names that the center gives its answers.
FOUND: dict[str, dict[str, set[str]]] = {
    "guarded": {STOPPED: set(), "exchange_answers": set()},
    "logs": {STOPPED: set(), "exchange_answers": set()},
    "names": {STOPPED: set(), "exchange_answers": {"phone", "id_no"}},
    "bare": {STOPPED: {"phone"}, "exchange_answers": {"phone", "id_no"}},
}


def test_a_running_airflow_leaks_without_its_protections(unguarded, seek):
    """The same DAGs of the same scheduler on the same kind of delivery: guarded, without the guard of what is logged, without the
    protection of names, without both."""
    seen: dict[str, dict[str, set[str]]] = {step: {} for step in STEPS}
    for step, dag_id, folder in live.step_logs(unguarded):
        found = seek.tree(folder)
        assert found.files
        seen[step][dag_id] = set(found.except_for(SAID))
    assert seen == FOUND


def test_what_leaks_in_a_task_is_found_in_the_services_that_keep_it(unguarded, seek):
    """The scheduler's log repeats the exception, the metadata database the answer, the API server's reader the console."""
    places = live.places(unguarded)
    assert "phone" in places["log of airflow-scheduler"](seek).found
    assert {"phone", "id_no"} <= set(places["airflow database"](seek).found)
    assert "phone" in seek.file(unguarded.console / "again.txt").found
