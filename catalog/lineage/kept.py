"""The graph as the last build left it, for rooms that do not run dbt: one file under the installation's home.

It holds the compiled SQL it was read from (placeholders in place of windows and clock, no value of the data), so that a
build that compiled some of the models knows the others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from catalog.lineage.graph import Graph
from lake.settings import settings


class Kept(NamedTuple):
    """The graph, and the compiled SQL of every model in it."""

    graph: Graph
    sql: Mapping[str, str]


def path() -> Path:
    """Where it is kept."""
    return settings().home / "catalog" / "lineage.json"


def write(graph: Graph, sql: Mapping[str, str]) -> None:
    """Keep a graph in place of the former one, whole or not at all."""
    path().parent.mkdir(parents=True, exist_ok=True)
    aside = path().with_name(f".{path().name}.{os.getpid()}.tmp")
    aside.write_text(json.dumps({"graph": graph.as_data(), "sql": dict(sql)}, ensure_ascii=False), encoding="utf-8")
    os.replace(aside, path())


def read() -> Kept | None:
    """What was kept; None when nothing was, or when it cannot be read: the next build writes it again."""
    try:
        content = json.loads(path().read_text(encoding="utf-8"))
        return Kept(Graph.from_data(content["graph"]), dict(content["sql"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
