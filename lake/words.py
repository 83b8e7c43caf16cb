"""What the columns of a table mean, told to the store by the room that knows it.

The catalogue registers a provider when it is imported; the store writes the words into a table's schema when it creates
the table or replaces it as a whole, so that they cost no commit of their own. Without a provider tables carry no words.
Light on purpose: importing the catalogue must not load Delta.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

Words: TypeAlias = Mapping[str, Mapping[str, str]]

_providers: list[Callable[[str], Words]] = []


def provide(provider: Callable[[str], Words]) -> None:
    """Register the one provider: ``provider(table)`` gives column → metadata of its field in the Delta schema."""
    _providers[:] = [provider]


def of(table: str) -> Words:
    """Words of a table's columns; empty for a table nobody describes."""
    return _providers[0](table) if _providers else {}
