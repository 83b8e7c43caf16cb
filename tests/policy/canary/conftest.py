"""One run of the whole path with canaries for all tests of the suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.policy.canary import lake, persons, search

FULL = bool(os.environ.get("TIYU_CANARY_FULL"))
"""`make test-canary`: every dbt model is built; otherwise one of them, and the outputs read written-down tables."""


@pytest.fixture(scope="session")
def ran(tmp_path_factory) -> Iterator[lake.Ran]:
    """The city with canaries, through every door and shown on every surface."""
    folder = tmp_path_factory.mktemp("canary")
    with pytest.MonkeyPatch.context() as patch:
        lake.environment(patch, folder / "home")
        run = lake.run(folder, layers=FULL)
        lake.collect(run)
        yield run


@pytest.fixture(scope="session")
def searched(ran: lake.Ran) -> search.Search:
    """The search for everything that gives a canary away, the tokens of this run's keys included."""
    return search.Search(persons.needles(lake.tokens_of_canaries()))
