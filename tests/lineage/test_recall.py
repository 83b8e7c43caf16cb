"""Recall of the lineage over all models: whatever the oracle sees move, the engine must have an edge for."""

from __future__ import annotations

import pytest
import scores
from oracle import plain_edges
from scores import edges_of

from catalog.lineage import ROWS, Origin

pytestmark = pytest.mark.data

PARTS = 8
SEEN_AT_LEAST = 0.6
"""Smallest share of the engine's edges that the oracle must see: a poor micro-lake would prove nothing."""


def test_the_micro_lake_is_rich(oracle):
    """Every model has rows, and hardly a column that says the same in all of them or nothing at all."""
    poor = []
    columns = 0
    for query in oracle.queries:
        assert oracle.rows(query.name) > 0, query.name
        for column, _ in oracle.columns[query.name]:
            columns += 1
            if not oracle.con.execute(f'select count("{column}") from {query.relation}').fetchone()[0]:
                poor.append(f"{query.name}.{column}")
    assert len(oracle.queries) >= 28
    assert columns >= 350
    assert poor == []


@pytest.mark.parametrize("part", range(PARTS))
def test_every_observed_dependency_between_neighbours_is_an_edge(part, oracle, project, shared, note, capsys):
    _, compiled, graph = project
    seen = oracle.direct(part=(part, PARTS))
    missing = [
        f"{output} <- {source}"
        for output, found in seen.edges.items()
        for source in found - edges_of(graph.edges[Origin(*output)])
    ]
    assert missing == []
    assert seen.tried > len(compiled) / PARTS
    assert seen.stirred == [], "what no plan reads moves nothing"
    assert len(seen.failed) < seen.changed * 0.05, seen.failed[:10]
    whole = scores.whole(shared, "neighbours", (part, PARTS), seen)
    if whole is not None:
        judge(whole, oracle, compiled, graph, note, capsys)


def judge(seen, oracle, compiled, graph, note, capsys) -> None:
    """All parts together: the share that was seen, and what the plain engine finds of it."""
    declared = {origin for origin in graph.edges if origin.column != ROWS}
    truth = {(o.table, o.column): seen.edges.get((o.table, o.column), set()) for o in declared}
    ours = {(o.table, o.column): edges_of(graph.edges[o]) for o in declared}
    plain: dict = {}
    schema = {name: dict(columns) for name, columns in oracle.columns.items()}
    for name, sql in compiled.items():
        wanted = [o.column for o in declared if o.table == name]
        plain.update({(name, column): edges for column, edges in plain_edges(sql, schema, wanted).items()})
    mine, theirs = scores.score(ours, truth), scores.score(plain, truth)
    share = mine.right / mine.found
    with capsys.disabled():
        print(f"\nmodels {len(compiled)}: engine {mine}; sqlglot.lineage {theirs}; {share:.0%} of our edges were seen")
        print(f"changes {seen.changed}, of which queries could not run {len(seen.failed)}")
    assert mine.recall == 1.0
    assert {o.table for o in declared} == set(compiled)
    assert theirs.recall > 0.2, "the other engine is asked rightly"
    assert share > SEEN_AT_LEAST
    note("models", {
        "models": len(compiled), "columns": len(declared), "columns_changed": seen.tried,
        "columns_changed_together": seen.unread, "changes": seen.changed, "not_runnable": len(seen.failed),
        "observed_edges": mine.true, "missed": mine.true - mine.right, "share_of_edges_observed": round(share, 4),
        "engine": mine.as_dict(), "sqlglot_lineage": theirs.as_dict(), "cpu_seconds": seen.cpu_seconds + scores.spent(),
    })  # fmt: skip


def test_the_oracle_notices_a_missing_edge(oracle, project):
    """Planted hole: without the edges of one column, what the oracle sees is no longer covered."""
    seen = oracle.direct(["dws_fitness__active_person"])
    observed = seen.edges["dws_fitness__active_person", "person_count"]
    _, _, graph = project
    edges = edges_of(graph.edges[Origin("dws_fitness__active_person", "person_count")])
    assert observed <= edges
    assert observed - (edges - {("dwd_fitness__checkin", "person_token")})
