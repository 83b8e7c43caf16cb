"""How data is fetched: one module per kind of source system, chosen by name in the contract."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ingestion.connectors.base import Connector, FetchedObject
from ingestion.connectors.connection import Connection, parse_connection, uri_from_environment
from ingestion.connectors.file_drop import FileDrop
from ingestion.connectors.rest_cursor import RestCursor
from lake.errors import EXIT_USAGE, TiyuError

__all__ = ["Connection", "Connector", "FetchedObject", "create", "parse_connection", "uri_from_environment"]

REGISTRY: dict[str, type] = {FileDrop.name: FileDrop, RestCursor.name: RestCursor}


def create(
    server_options: dict[str, Any],
    connection_uri: str | None,
    is_seen: Callable[[str], bool],
    *,
    from_dir: str | os.PathLike[str] | None = None,
) -> Connector:
    """A connector from a contract's ``servers[].connector`` mapping.

    server_options: ``{"type": "file_drop" | "rest_cursor", …options}``; ``connection`` (the name whose
    ``TIYU_CONN_<NAME>`` the caller resolved into ``connection_uri``) is allowed and not used here. A whole server
    mapping with a ``connector`` member is accepted too.
    is_seen: tells whether an object with this signature has been archived before.
    from_dir: take any folder, recursively, instead of the contract's place (file sources only).
    Errors: TIYU-ING-0101 unknown connector · 0102 unknown or wrong option · 0103/0104 connection.
    """
    options = dict(server_options)
    if isinstance(options.get("connector"), dict):
        options = dict(options["connector"])
    kind = options.pop("type", None) or options.pop("kind", None) or options.pop("name", None)
    options.pop("connection", None)
    if kind not in REGISTRY:
        raise TiyuError(
            "TIYU-ING-0101",
            "契约使用了未知的连接器",
            f"可用的连接器：{'、'.join(sorted(REGISTRY))}",
            EXIT_USAGE,
            connector=kind,
        )
    return REGISTRY[kind](options, connection_uri, is_seen, from_dir=from_dir)
