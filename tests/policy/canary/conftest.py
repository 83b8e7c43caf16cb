"""One run of the whole path with canaries for all tests of the suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.policy.canary import beyond, lake, persons, search

MODE = os.environ.get("TIYU_CANARY", "")
"""Empty (`make test`): masks, redaction, the search itself and the path of one source. `layers` (`make test-canary`): the whole path with
every dbt model, the catalogue's pages, what lies behind and before the surfaces (`beyond`), and a running demo (`live`). `path`: the whole path with one
dbt model and written-down output tables, where only a mask is worked on."""


@pytest.fixture(scope="session")
def ran(tmp_path_factory) -> Iterator[lake.Ran]:
    """The city with canaries, through every door and shown on every surface."""
    if not MODE:
        pytest.skip("the whole path: make test-canary")
    folder = tmp_path_factory.mktemp("canary")
    with pytest.MonkeyPatch.context() as patch:
        lake.environment(patch, folder / "home")
        run = lake.run(folder, layers=MODE == "layers")
        lake.collect(run)
        if run.layers:
            for store in beyond.STORES.values():
                store(run)
        yield run


@pytest.fixture(scope="session")
def searched(ran: lake.Ran) -> search.Search:
    """The search for everything that gives a canary away, the tokens of this run's keys included."""
    return search.Search(persons.needles(lake.tokens_of_canaries()))


class Examined(dict[str, search.Findings]):
    """Findings by surface, each searched when first asked for and once only."""

    def __init__(self, ran: lake.Ran, searched: search.Search) -> None:
        super().__init__()
        self.ran, self.searched = ran, searched

    def __missing__(self, surface: str) -> search.Findings:
        if surface in beyond.STORES and not self.ran.layers:
            pytest.skip("looked at by make test-canary")
        self[surface] = self.searched.tree(self.ran.folder(surface))
        return self[surface]


@pytest.fixture(scope="session")
def examined(ran: lake.Ran, searched: search.Search) -> Examined:
    """What was looked at and found on each surface."""
    return Examined(ran, searched)
