"""Run a DAG in a real Airflow: ``python -m tests.policy.canary.airflow_run DAG_ID [DAG_ID ...] [without-names] [without-redaction]``.

Airflow's own logging is in force (task handlers, the folder of logs), nothing of the tests is. Prints one line a run; the
exit code is 0 also when a run fails, because a failing task is what is to be looked at.
"""

from __future__ import annotations

import sys
from pathlib import Path

DAGS = Path(__file__).resolve().parents[3] / "dags"


def _without(names: list[str]) -> None:
    """Take protections away: the digests in names of objects, the guard of what is logged."""
    from ingestion import naming
    from protection import redaction

    if "without-names" in names:
        naming.protect_name = lambda contract, name: name
    if "without-redaction" in names:
        redaction.install = lambda surface="": None


def main(names: list[str]) -> None:
    """One run after the other, in the given order."""
    from airflow.dag_processing.dagbag import DagBag

    _without(names)
    names = [name for name in names if not name.startswith("without-")]

    bag = DagBag(str(DAGS))
    assert not bag.import_errors, bag.import_errors
    for name in names:
        run = bag.dags[name].test()
        print("run", name, run.state, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
