"""The verb `compact`: upkeep of the lake's tables, told which of them are fed by streams (`lake.maintenance` knows no sources)."""

from __future__ import annotations

from collections.abc import Iterable

from catalog import contracts
from lake.maintenance import Upkeep, upkeep


def compact(names: Iterable[str] = (), *, clean: bool = False) -> list[Upkeep]:
    """Merge small files of tables (default: all); with ``clean`` delete what nobody can ask for. Errors: TIYU-LAKE-0002, 0005."""
    fed = [
        item.table
        for contract in contracts.load_all("source").values()
        if contract.is_stream
        for item in contract.objects
    ]
    return upkeep(names, clean=clean, thinned=fed)
