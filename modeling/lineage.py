"""The lineage of the dbt project: compiles it, and hands the SQL with what dbt knows to `catalog.lineage`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from catalog import contracts, lineage
from catalog.lineage import Exposure, Graph, Model, kept
from modeling import project, run

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

    from modeling.session import Session


def source_key(table: str, column: str) -> bool:
    """Whether a column of a source is a token or key: a token, a number the platform gives, or part of a record's key.

    A date, a time or a code that belongs to a record's key is an attribute as well, and stays one.
    """
    if column.startswith("_") or column.endswith(("_id", "_token")):
        return True
    return column.endswith("_no") and column in _record_keys().get(table, ())


def _record_keys() -> dict[str, tuple[str, ...]]:
    return {o.table: tuple(o.dedup) for c in contracts.load_all("source").values() for o in c.objects}


def exposures(manifest: Manifest) -> list[Exposure]:
    """The surfaces that the project declares as reading its models."""
    names = {node.unique_id: node.name for node in manifest.nodes.values() if node.resource_type == "model"}
    return [
        Exposure(e.name, e.label or e.name, str(getattr(e.type, "value", e.type)),
                 tuple(sorted(names[n] for n in e.depends_on.nodes if n in names)))
        for e in sorted(manifest.exposures.values(), key=lambda e: e.name)
    ]  # fmt: skip


def graph_of(session: Session, compiled: dict[str, str], manifest: Manifest) -> Graph:
    """The graph of an invocation that compiled the whole project."""
    models = [
        Model(name, compiled[name], tuple(column for column, _ in spec.columns)) for name, spec in session.specs.items()
    ]
    sources = {table: [column for column, _ in columns] for table, (_, columns) in session.sources.items()}
    return lineage.build(models, sources, source_keys=source_key, exposures=exposures(manifest))


def remember(session: Session, compiled: Mapping[str, str], manifest: Manifest) -> None:
    """Keep the graph of the project up to date with models just compiled; nothing is written when their SQL is known.

    A model that was never compiled here stands in the graph as a source until it is.
    """
    before = kept.read()
    sql = {**(before.sql if before else {}), **compiled}
    sql = {name: sql[name] for name in session.specs if name in sql}
    surfaces = exposures(manifest)
    if before and before.sql == sql and list(before.graph.exposures) == surfaces:
        return
    columns = {name: [column for column, _ in spec.columns] for name, spec in session.specs.items()}
    sources = {table: [column for column, _ in listed] for table, (_, listed) in session.sources.items()}
    models = [Model(name, text, tuple(columns[name])) for name, text in sql.items()]
    sources |= {name: listed for name, listed in columns.items() if name not in sql}
    kept.write(lineage.build(models, sources, source_keys=source_key, exposures=surfaces), sql)


def load() -> tuple[Graph, dict[str, str]]:
    """Compile the project and read its lineage: the graph, and the compiled SQL of every model.

    Raises TIYU-DBT-0003 when the project does not parse or compile.
    """
    session, compiled = run.compiled()
    return graph_of(session, compiled, project.parse()), compiled
