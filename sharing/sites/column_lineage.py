"""The lineage of one column for the catalogue's page: what it is made of, which source files that is, and where it goes."""

from __future__ import annotations

from typing import Any

from catalog import contracts
from catalog.entries import Entry
from catalog.lineage import ROWS, UNRESOLVED, Graph, Kind, Origin, kept

KIND_ZH = {Kind.VALUE: "取值", Kind.INFLUENCE: "影响", Kind.LINK: "关联"}
"""`value` and `influence` carry a grade on; `link` only ties rows together (equality of keys, order, deduplication)."""


class ColumnLineage:
    """The kept graph with the catalogue's names. Without a graph (no build yet) no column has a lineage."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        found = kept.read()
        self.graph: Graph | None = found.graph if found else None
        self.entry_of = {
            table.name: entry for entry in entries.values() for table in entry.tables if entry.layer != "out"
        }
        self.titles = {
            Origin(table.name, column.name): column.title_zh
            for entry in self.entry_of.values()
            for table in entry.tables
            for column in table.columns
        }
        self.contracts = contracts.load_all("source")

    def of(self, table: str, column: str) -> dict[str, Any] | None:
        """`direct`, `sources` and `down`, each a list of groups; None where nothing is known of the column.

        A group is one table or source: title, href of its page, place (of a source: connection and pattern), columns.
        """
        origin = Origin(table, column)
        file = self._file(origin)
        if self.graph is None:
            return {"file": file, "direct": [], "sources": [], "down": [], "counts": (0, 0)} if file else None
        direct = dict(self.graph.edges.get(origin, {}))
        sources = self.graph.sources_of(origin) if origin in self.graph.edges else {}
        down = self.graph.down(origin)
        if not (file or direct or down):
            return None
        return {
            "file": file,
            "direct": self._groups(direct),
            "sources": self._groups(sources, files=True) if set(sources) != set(direct) else [],
            "down": self._groups({o: k for o, k in down.items() if o.column != ROWS}),
            "counts": (sum(o.column != ROWS for o in sources or direct), sum(o.column != ROWS for o in down)),
        }

    def _file(self, origin: Origin) -> dict[str, Any] | None:
        """The place in a source's files that a stored source column is read from."""
        entry = self.entry_of.get(origin.table)
        contract = self.contracts.get(entry.id) if entry else None
        if entry is None or contract is None:
            return None
        for obj in contract.objects:
            for prop in obj.properties if obj.table == origin.table else ():
                if prop.name == origin.column:
                    return {
                        "place": self._place(entry),
                        "column": prop.source_name or "",
                        "derived": prop.source_name is None,
                    }
        return None

    def _place(self, entry: Entry) -> str:
        return next((b.target for b in entry.bindings if b.kind == "connection"), "")

    def _groups(self, deps: dict[Origin, Kind], *, files: bool = False) -> list[dict[str, Any]]:
        """By table, the strongest first; links are only counted."""
        found: dict[str, dict[str, Any]] = {}
        for origin, kind in sorted(deps.items(), key=lambda item: (item[0].table, -item[1], item[0].column)):
            group = found.setdefault(origin.table, self._group(origin.table, files))
            if kind is Kind.LINK:
                group["links"] += 1
            else:
                group["kinds"].setdefault(KIND_ZH[kind], []).append(self._named(origin))
        return sorted(found.values(), key=lambda group: (not group["kinds"], group["table"]))

    def _group(self, table: str, files: bool) -> dict[str, Any]:
        entry = self.entry_of.get(table)
        return {
            "table": "无法解析的来源" if table == UNRESOLVED.table else table,
            "title": entry.title_zh if entry else "",
            "href": f"../{entry.id}/" if entry else None,
            "place": self._place(entry) if entry and files else "",
            "kinds": {},
            "links": 0,
        }

    def _named(self, origin: Origin) -> dict[str, str]:
        if origin.column == ROWS:
            return {"name": "（行）", "title": ""}
        return {"name": origin.column, "title": self.titles.get(origin, "")}
