"""Recall from source to surface: whatever moves when a source column is changed must be at the end of a path of edges."""

from __future__ import annotations

import pytest
from scores import edges_of

from catalog.lineage import ROWS, Origin

pytestmark = pytest.mark.data


def test_every_observed_dependency_from_source_to_surface_is_a_path(oracle, project, note, capsys):
    _, _, graph = project
    seen = oracle.end_to_end()
    missing = [
        f"{output} <- {source}"
        for output, sources in seen.edges.items()
        for source in sources - edges_of(graph.up(Origin(*output)))
    ]
    paths = sum(len(edges_of(graph.sources_of(o))) for o in graph.edges if o.column != ROWS)
    with capsys.disabled():
        print(f"\nend to end: {seen.count()} of {paths} paths seen, {seen.changed} changes, {len(seen.failed)} not run")
    assert missing == []
    assert seen.count() > paths * 0.4
    note("end_to_end", {
        "columns_changed": seen.tried, "columns_no_model_reads": seen.unread, "changes": seen.changed,
        "not_runnable": len(seen.failed), "observed_paths": seen.count(), "paths": paths, "missed": len(missing), "recall": 1.0 if not missing else round(1 - len(missing) / seen.count(), 4),
    })  # fmt: skip
