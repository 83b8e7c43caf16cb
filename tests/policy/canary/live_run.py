"""The demo with canaries: ``python -m tests.policy.canary.live_run whole|again HOME PORT_BASE``.

``whole`` is `make demo HEADLESS=1` on a city that is there already, and what a bad day adds to it: a source whose delivery is
stopped and taken in by the second run, a backfill that fails, answers of the center that nobody can believe, and every DAG that
the demo leaves to its schedule. ``again`` starts
Airflow on the same state folder once more and runs DAGs on further bad deliveries, with ever more protections taken away.
Exit code as of the demo; 3 when something did not fail or succeed as it should.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploy import demo
from tests.policy.canary import plant
from tests.policy.canary.persons import STRAY, VISITOR

SEED, SIZE = plant.SEED, "tiny"
STOPPED = "ingest_venue_entry"
"""The source whose newest file is named after a phone and holds an identity number where none belongs."""
LIMIT_S = 900
STEPS = {"guarded": "", "logs": "redaction", "names": "names answers", "bare": "redaction names answers"}
"""A run of `again` → the protections that it goes without (see `switched_off`)."""


def file_name(number: int) -> str:
    """Name of the bad file of the turnstiles."""
    return f"entry_{plant.DAY:%Y%m%d}_{STRAY.phone}_{number}.ndjson"


def answers(home: Path, number: int) -> None:
    """Answers in the inbox that are none: named after a person, one no JSON, one that says something about persons."""
    inbox = home / "exchange" / "inbox"
    (inbox / f"{STRAY.phone}-{number}.receipt.json").write_text(f"{STRAY.name} {STRAY.id_no} {number}", "utf-8")
    (inbox / f"{VISITOR.id_no}_{number}.receipt.json").write_text(
        f'{{"batch_id": "{VISITOR.phone}", "status": "{VISITOR.name}", "{VISITOR.phone}": {number}}}', "utf-8"
    )
    (inbox / f"{VISITOR.phone}-{number}.txt").write_text(f"{VISITOR.name} {number}", "utf-8")


def _expect(what: str, given: object, wanted: object) -> None:
    if given != wanted:
        print(f"expected {what} {wanted}, got {given}", flush=True)
        raise SystemExit(3)


def _one(running: demo.Demo, dag_id: str, conf: dict[str, str] | None = None) -> tuple[bool, str]:
    """Run a DAG; returns whether it succeeded, and what the demo would say of a failure."""
    assert running.client is not None
    run_id = running.client.trigger(dag_id, conf)
    failed = running.client.wait(
        {dag_id: run_id}, timeout_s=LIMIT_S, alive=running.processes.check, stop_at_failure=False
    )
    why = running.client.why_failed(dag_id, run_id) if failed else ""
    print(f"run {dag_id} {'failed' if failed else 'success'} {why}", flush=True)
    return not failed, why


def whole(running: demo.Demo) -> bool:
    """Everything the demo does; the stopped source runs twice, as an operator would let it."""
    first = running.ingest

    def ingest() -> None:
        first()
        _expect("failed", running.unexpected, [STOPPED])
        running.unexpected.clear()
        _expect("success of", (STOPPED, _one(running, STOPPED)[0]), (STOPPED, True))

    running.ingest = ingest  # type: ignore[method-assign]
    well = running.start()
    plant.second(running.city, "venue.entry", running.home / "tmp" / "again")
    (bad,) = (running.home / "tmp" / "again").glob("*.ndjson")
    bad.rename(running.city / "drops" / "venue" / "entry" / f"{plant.DAY:%Y%m%d}" / file_name(98))
    bad.parent.rmdir()
    history = {"resource": "venue.entry", "history": "source", "first": str(plant.DAY), "last": str(plant.DAY)}
    _expect("success of", ("backfill", _one(running, "backfill", history)[0]), ("backfill", False))
    answers(running.home, 1)
    assert running.client is not None
    for dag_id in ("exchange_answers", *sorted(running.client.dag_ids() - running.expected_dags() - {"backfill"})):
        _expect("success of", (dag_id, _one(running, dag_id)[0]), (dag_id, True))
    return well


def again(running: demo.Demo) -> bool:
    """Airflow alone, on what `whole` left behind."""
    ports = running.ports()
    running.use_ports(ports)
    running.env = running.environment()
    client = running.start_airflow(ports)
    running.wait_for("Airflow", client.healthy, 300)
    running.wait_for("DAG", lambda: STOPPED in client.dag_ids(), 60)
    folder = running.city / "drops" / "venue" / "entry" / f"{plant.DAY:%Y%m%d}"
    sample = (folder / file_name(98)).read_text("utf-8")
    off = Path(os.environ["TIYU_CANARY_OFF"])
    _one(running, STOPPED)  # takes in, without its bad file, what `whole` stopped
    for number, (step, words) in enumerate(STEPS.items()):
        off.write_text(words, "utf-8")
        (folder / file_name(300 + number)).write_text(sample.replace("978001", str(978300 + number)), "utf-8")
        answers(running.home, 20 + number)
        for dag_id in (STOPPED, "exchange_answers"):
            logs = running.home / "airflow" / "logs" / f"dag_id={dag_id}"
            before = set(logs.iterdir())
            _expect("success of", (dag_id, _one(running, dag_id)[0]), (dag_id, dag_id != STOPPED))
            (new,) = set(logs.iterdir()) - before
            print(f"log {step} {dag_id} {new}", flush=True)
        off.write_text("", "utf-8")
        _one(running, STOPPED)
    return True


def main(mode: str, home: str, port_base: str) -> int:
    """One run of the demo."""
    arguments = ["--size", SIZE, "--seed", str(SEED), "--headless", "--home", home, "--port-base", port_base]
    return demo.main(arguments, {"whole": whole, "again": again}[mode])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
