"""The plan trace names every requirement and nothing that is not there."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("build_plan_trace", ROOT / "docs" / "build_plan_trace.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_requirement_has_a_row_and_every_name_exists(builder):
    rows = builder.read()
    assert builder.problems(rows) == []
    assert len(rows) == 18
    named = [name for row in rows for key in ("tables", "pages", "files", "tests") for name in row.get(key, [])]
    assert len(named) > 80


def test_the_page_is_current(builder):
    assert (ROOT / "docs" / "plan_trace.md").read_text("utf-8") == builder.render(builder.read()), (
        "run python docs/build_plan_trace.py"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows.pop(6), "SD-7: no row"),
        (lambda rows: rows[0]["tables"].append("dwd_venue__dream"), "SD-1: table dwd_venue__dream does not exist"),
        (lambda rows: rows[4]["pages"].append("cockpit/dream"), "SD-5: page cockpit/dream does not exist"),
        (lambda rows: rows[6]["files"].append("catalog/kpis/E-99.yaml"), "SD-7: file catalog/kpis/E-99.yaml does not exist"),
        (lambda rows: rows[6]["tests"].append("tests/data/test_truth.py::test_dream"), "SD-7: test tests/data/test_truth.py::test_dream does not exist"),
        (lambda rows: rows[16].pop("because"), "SD-17: only a full answer needs no reason"),
        (lambda rows: rows[11].update(because="no time"), "SD-12: the reason says neither 后续 nor outside this platform"),
        (lambda rows: rows[4].pop("tests"), "SD-5: an answer needs a test"),
        (lambda rows: rows[4].update(table=["x"]), "SD-5: unknown key table"),
    ],
)  # fmt: skip
def test_a_hole_or_a_dream_is_found(builder, change, told):
    rows = copy.deepcopy(builder.read())
    change(rows)
    assert told in builder.problems(rows)
