"""One run of the whole path with canaries for all tests of the suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.policy.canary import lake, persons, search

MODE = os.environ.get("TIYU_CANARY", "")
"""Empty (`make test`): masks, redaction and the search itself only. `path` (`make test-canary`): the whole path, with one dbt model
and written-down output tables. `layers`: the same with every dbt model and the catalogue's pages."""


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
        self[surface] = self.searched.tree(self.ran.folder(surface))
        return self[surface]


@pytest.fixture(scope="session")
def examined(ran: lake.Ran, searched: search.Search) -> Examined:
    """What was looked at and found on each surface."""
    return Examined(ran, searched)
