"""Column lineage: which stored columns decide a column, read from compiled SQL.

`edges` says what an edge is, `query` reads one query, `graph` joins the queries of a project from source to surface,
`kept` holds the graph of the last build.
Nothing here runs dbt or touches data: the compiled SQL is handed in (modeling compiles, cli hands over).
"""

from catalog.lineage.edges import ROWS, UNRESOLVED, Kind, Origin
from catalog.lineage.graph import Exposure, Graph, Model, build
from catalog.lineage.query import QueryLineage, read_query

__all__ = [
    "ROWS", "UNRESOLVED", "Exposure", "Graph", "Kind", "Model", "Origin", "QueryLineage", "build", "read_query",
]  # fmt: skip
