"""The page of sources is current and leaves none out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from catalog import contracts
from simulation.ledger import RESOURCES

ROOT = Path(__file__).resolve().parents[3]


def _builder():
    spec = importlib.util.spec_from_file_location("build_sources", ROOT / "docs" / "build_sources.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current_and_every_source_has_owner_cycle_grade_and_volume():
    builder = _builder()
    page = builder.render()
    assert (ROOT / "docs" / "sources.md").read_text("utf-8") == page, "run python docs/build_sources.py"
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(lines) == len(contracts.load_all("source"))
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == 12
        assert all(cells), line


def test_every_source_has_a_simulated_system_and_every_system_a_contract():
    assert set(RESOURCES) == set(contracts.fetched()), "a stream has a broker of its own in its tests"
