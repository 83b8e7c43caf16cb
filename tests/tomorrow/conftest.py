"""Environment of the slow tests about days: the process's own variables come back afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    """A monkeypatch that the helpers of ``days`` may keep."""
    with pytest.MonkeyPatch.context() as found:
        yield found
