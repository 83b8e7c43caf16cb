"""Fixtures shared by the integration tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import city as city_module


@pytest.fixture(scope="session")
def city(tmp_path_factory) -> city_module.City:
    """The tiny simulated city, generated once."""
    return city_module.generate(tmp_path_factory.mktemp("city"))


@pytest.fixture
def sources(city, home, monkeypatch):
    """The city served and connected to an empty home."""
    with city_module.connected(city, monkeypatch):
        yield city
