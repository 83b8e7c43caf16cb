"""The real demo, killed twenty times by a seeded plan, at least once in every step of the way, and started again each time."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from deploy.processes import mark_of, sweep
from lake.steps import STEPS
from tests.faults import kills
from tests.faults.conftest import Reference, Results
from tests.faults.support import Home, contents, delivered, differences, serving

pytestmark = pytest.mark.faults

SEED = int(os.environ.get("TIYU_FAULT_SEED", "20261126"))
COUNT = 20


def test_the_plan_names_every_step_and_is_the_same_for_the_same_seed() -> None:
    for seed in range(200):
        targets = kills.plan(seed, COUNT)
        assert len(targets) == COUNT
        assert {target.step for target in targets} == set(STEPS)
        assert targets == kills.plan(seed, COUNT)
    assert kills.plan(1, COUNT) != kills.plan(2, COUNT)


def test_demo_killed_twenty_times_ends_in_the_tables_of_an_undisturbed_run(
    reference: Reference, results: Results, tmp_path: Path
) -> None:
    home, log = tmp_path / "home", tmp_path / "demo.log"
    home.mkdir()
    shutil.copytree(reference.home.path / "keys", home / "keys")
    shutil.copytree(reference.city, home / "city")
    mark = mark_of(home)
    targets = kills.plan(SEED, COUNT)
    done: list[kills.Kill] = []
    started = time.monotonic()
    print(f"seed {SEED}: {[(target.step, target.visit, target.after_s) for target in targets]}", flush=True)
    try:
        for number, target in enumerate(targets, 1):
            process = kills.start(home, log, 18780)
            kill = kills.kill_in(process, home, mark, target, 900)
            assert kill is not None, (
                f"kill {number} ({target}) did not happen: the demo ended\n{log.read_text()[-3000:]}"
            )
            done.append(kill)
            assert kills.gone(mark) == [], f"kill {number}: orphans"
            print(f"{number:>2} {target.step:<10} after {kill.at_s:5.1f} s; {kill.tasks}; {kill.steps}", flush=True)
            assert target.step in kill.steps
            assert kill.processes >= 6, "Airflow and the city must have been running"
        process = kills.start(home, log, 18780)
        assert process.wait(timeout=1200) == 0, log.read_text()[-3000:]
        assert kills.gone(mark) == []
        results.kills(SEED, done, time.monotonic() - started)
        finished = Home(home, {**reference.home.env, "TIYU_HOME": str(home)})
        found, files, shared = contents(finished), serving(finished), delivered(finished)
        assert len(found) >= 35
        assert len(files) >= 20
        assert len(shared) >= 4
        assert differences(reference.tables, found) == []
        assert differences(reference.serving, files) == []
        assert differences(reference.delivered, shared) == []
        balance = finished.run("quality.reconcile:reconcile")
        assert balance["ok"], balance["problems"]
        assert balance["examined"] >= 7
        hits = Counter(kill.target.step for kill in done)
        assert set(hits) == set(STEPS)
        assert sum(hits.values()) == COUNT
        said = log.read_text(encoding="utf-8", errors="replace")
        assert said.count("TIYU-DEMO-0001") == COUNT, "each start after a kill says that the last run was interrupted"
    finally:
        sweep(mark)
