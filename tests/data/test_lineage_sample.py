"""A sample of `make test-lineage`: three models under the oracle, and what the engine must have edges for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lineage"))

import micro_lake
import scores
from constructs import CONSTRUCTS

from catalog import lineage
from catalog.lineage import ROWS, Model, Origin

pytestmark = pytest.mark.data
SAMPLE = ("dws_fitness__active_person", "ads_open__daily_visit", "dws_supervision__daily_water")


def test_every_dependency_that_the_oracle_sees_is_an_edge(compiled_models):
    session, compiled = compiled_models
    models = [Model(n, compiled[n], tuple(c for c, _ in spec.columns)) for n, spec in session.specs.items()]
    graph = lineage.build(models, {t: [c for c, _ in columns] for t, (_, columns) in session.sources.items()})
    oracle = micro_lake.build(session, compiled)
    seen = oracle.direct(SAMPLE)
    assert seen.tried >= 12
    assert seen.changed > 3 * seen.tried
    assert seen.stirred == []
    assert seen.count() > 30
    assert {name for name, _ in seen.edges} == set(SAMPLE)
    missing = [
        f"{output} <- {source}"
        for output, sources in seen.edges.items()
        for source in sources - {(o.table, o.column) for o in graph.edges[Origin(*output)] if o.column != ROWS}
    ]
    assert missing == []
    assert graph.unresolved == []


def test_the_stored_result_is_whole_and_its_page_says_the_same():
    result = json.loads(scores.RESULT.read_text("utf-8"))
    assert set(scores.PARTS) <= set(result)
    assert result["constructs"]["count"] == len(CONSTRUCTS) >= 60
    assert (result["constructs"]["engine"]["recall"], result["models"]["engine"]["recall"]) == (1.0, 1.0)
    assert result["end_to_end"]["missed"] == result["models"]["missed"] == 0
    assert scores.PAGE.read_text("utf-8") == scores.page(result)
