"""Recall from source to surface: whatever moves when a source column is changed must be at the end of a path of edges."""

from __future__ import annotations

import pytest
import scores
from scores import edges_of

from catalog.lineage import ROWS, Origin

pytestmark = pytest.mark.data

PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_every_observed_dependency_from_source_to_surface_is_a_path(part, oracle, project, shared, note, capsys):
    _, _, graph = project
    seen = oracle.end_to_end(part=(part, PARTS))
    missing = [
        f"{output} <- {source}"
        for output, sources in seen.edges.items()
        for source in sources - edges_of(graph.up(Origin(*output)))
    ]
    assert missing == []
    assert seen.tried > 5
    whole = scores.whole(shared, "paths", (part, PARTS), seen)
    if whole is None:
        return
    paths = sum(len(edges_of(graph.sources_of(o))) for o in graph.edges if o.column != ROWS)
    with capsys.disabled():
        print(
            f"\nend to end: {whole.count()} of {paths} paths seen, {whole.changed} changes, {len(whole.failed)} not run"
        )
    missed = sum(len(sources - edges_of(graph.up(Origin(*output)))) for output, sources in whole.edges.items())
    assert missed == 0
    assert whole.count() > paths * 0.3
    note("end_to_end", {
        "columns_changed": whole.tried, "columns_no_model_reads": whole.unread, "changes": whole.changed,
        "not_runnable": len(whole.failed), "observed_paths": whole.count(), "paths": paths, "missed": missed,
        "recall": round(1 - missed / whole.count(), 4), "cpu_seconds": whole.cpu_seconds + scores.spent(),
    })  # fmt: skip
