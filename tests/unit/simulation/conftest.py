"""One tiny city for all tests of this folder, generated once."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.generate import generate

SEED = 7


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("city")
    generate("tiny", SEED, out, say=lambda _: None)
    return out
