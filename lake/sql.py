"""Writing values and names into SQL text. Imports nothing, so that what only compiles SQL stays light."""

from __future__ import annotations


def quote_literal(value: str) -> str:
    """A SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def quote_whole(name: str) -> str:
    """A SQL identifier taken as it is, dots included."""
    return '"' + name.replace('"', '""') + '"'


def quote_name(name: str) -> str:
    """A SQL identifier, dotted parts quoted one by one."""
    return ".".join(quote_whole(part) for part in name.split("."))
