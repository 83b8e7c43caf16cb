"""The catalogue's entries: every source, every table and every output, with the 13 core elements and what goes with them.

    from catalog import entries

    entry = entries.load("dwd_venue__visit")       # or "venue.booking", "open.daily_visits", "dashboard.cockpit"
    entry.title_zh, entry.code, entry.grade, entry.owner_name
    entry.columns, entry.upstream, entry.downstream, entry.bindings

`catalog.entries.model` says what the fields mean. What changes from day to day (freshness, quality history, row counts)
is `catalog.entries.facts`; who may use an entry and how to ask is `catalog.entries.access`.
"""

from __future__ import annotations

from pathlib import Path

from catalog import columns, contracts, project
from catalog.entries.declared import FOLDER
from catalog.entries.derive import Builder, Inputs
from catalog.entries.model import (
    KIND_ZH,
    LAYER_ZH,
    Binding,
    ClassLevel,
    Entry,
    EntryColumn,
    EntryTable,
    OpenTerms,
    ShareTerms,
)
from lake.errors import EXIT_USAGE, TiyuError

__all__ = [
    "FOLDER",
    "KIND_ZH",
    "LAYER_ZH",
    "Binding",
    "ClassLevel",
    "Entry",
    "EntryColumn",
    "EntryTable",
    "OpenTerms",
    "ShareTerms",
    "load",
    "load_all",
]


def load_all(dbt_models: Path | None = None, *, folder: Path = FOLDER) -> dict[str, Entry]:
    """All entries by id: sources, reference, platform and dbt tables, outputs, pages.

    Raises DeclarationError when a contract or a declaration of `folder` is not acceptable.
    """
    return Builder(
        Inputs(
            contracts=contracts.load_all(),
            project=project.load(dbt_models),
            columns=columns.describe_all(dbt_models),
            keys=columns.table_keys(dbt_models),
            folder=folder,
        )
    ).build()


def load(entry_id: str) -> Entry:
    """One entry by its id or by the name of a table it stores. Raises TiyuError TIYU-CAT-0013 when there is none."""
    found = load_all()
    if entry_id in found:
        return found[entry_id]
    for entry in found.values():
        if entry.layer != "out" and any(table.name == entry_id for table in entry.tables):
            return entry
    raise TiyuError(
        "TIYU-CAT-0013", "目录里没有这个条目", "用 tiyu catalog list 查看条目编号", EXIT_USAGE, entry=entry_id
    )
