"""*Mend and replay* equals *the rule had been right from the start*; replaying twice equals once.

Four random histories as part of `make test`; `make test-replay` lives 200 (`TIYU_HISTORIES`) on both cores, and
`tests.replay.results` writes what they held to `build/replay/RESULTS.md`, which is committed as `tests/replay/RESULTS.md`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from ingestion import replay as replaying
from tests.replay import histories
from tests.replay.histories import Batch, History, Mend, Replay, World
from tests.replay.results import NOTES

pytestmark = pytest.mark.integration
FIRST = int(os.environ.get("TIYU_HISTORY", "0"))
COUNT = int(os.environ.get("TIYU_HISTORIES", "4"))


@pytest.fixture
def worlds(home, monkeypatch, tmp_path):
    """Two empty state folders with the same keys, in memory where the machine has room for it."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    try:
        yield [World(root / name, monkeypatch, home / "keys" / "keys.json") for name in ("mended", "right")]
    finally:
        shutil.rmtree(root)


def lived_twice(lived: History, worlds: list[World]) -> tuple[list[str], dict[str, int]]:
    """What differs, and the sums of the books of the right life."""
    once, twice, problems = histories.live(worlds[0], lived, right_from_the_start=False)
    right, _, others = histories.live(worlds[1], lived, right_from_the_start=True)
    found = problems + others + histories.differences(lived, once, right)
    found += [f"a second replay changed {what}" for what in histories.unchanged(once, twice)]
    return found, right.sums


def note(lived: History, worlds: list[World], sums: dict[str, int], found: list[str], started: float) -> None:
    """Write down what a history held, for the page of results."""
    held: Counter[str] = Counter({f"repetition: {lived.dedup}": 1})
    for step in lived.steps:
        held["batches"] += isinstance(step, Batch)
        held["replays on the way"] += isinstance(step, Replay)
        if isinstance(step, Mend):
            held[f"mended: {step.kind}"] += 1
    for name, count in sums.items():
        held[f"records {name} in the end"] += count
    for report in worlds[0].replays:
        held["records brought back"] += report.accepted
        held["records that gave way"] += report.gave_way
        held["records refused for another reason"] += report.rejudged
    NOTES.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"differing": bool(found), "began": started, "ended": time.time(), "held": held})
    (NOTES / f"{lived.seed}.json").write_text(text, "utf-8")


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_mend_and_replay_equals_right_from_the_start(worlds, seed):
    started = time.time()
    lived = histories.history(seed)
    found, sums = lived_twice(lived, worlds)
    if "TIYU_HISTORIES" in os.environ:
        note(lived, worlds, sums, found, started)
    assert not found, "\n".join([str(lived), *found])


@pytest.fixture
def contested() -> History:
    """The first delivery is refused for a rule that is mended later, a contradicting one takes its place meanwhile."""
    row = {
        "meter_id": "M-1",
        "read_date": "2026-11-11",
        "revision": "1",
        "amount": "70",
        "state": "on",
        "code": "A1",
        "remark": "r",
    }
    steps = [Batch({"a.csv": [row]}), Batch({"b.csv": [{**row, "amount": "5"}, {**row, "amount": "5"}]}), Mend("range")]
    return History(-1, steps)


def test_the_contested_key_is_the_hard_case_and_agrees(worlds, contested):
    found, sums = lived_twice(contested, worlds)
    assert found == []
    assert sums == {"decoded": 3, "accepted": 1, "quarantined": 2, "duplicate": 0}
    assert [report.gave_way for report in worlds[0].replays] == [2, 0]


def test_a_replay_that_left_the_later_one_in_place_would_be_found(worlds, contested, monkeypatch):
    monkeypatch.setattr(replaying.precedence, "give_way", lambda *_: 0)
    found, _ = lived_twice(contested, worlds)
    assert any(text.startswith("rows differ") for text in found)
    assert any(text.startswith("books differ") for text in found)


def test_a_replay_that_kept_old_reasons_would_be_found(worlds, monkeypatch):
    row = {
        "meter_id": "M-1",
        "read_date": "2026-11-11",
        "revision": "1",
        "amount": "70",
        "state": "gone",
        "code": "A1",
        "remark": "r",
    }
    real = replaying._rejudged
    monkeypatch.setattr(replaying, "_rejudged", lambda *arguments: real(*arguments).clear())
    found, _ = lived_twice(History(-2, [Batch({"a.csv": [row]}), Mend("range")]), worlds)
    assert len(found) == 1
    assert found[0].startswith("quarantine differs")
