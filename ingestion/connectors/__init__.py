"""How data is fetched: one module per kind of source system, chosen by name in the contract."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, cast

from ingestion.connectors.base import Connector, FetchedObject, snake_case
from ingestion.connectors.connection import Connection, parse_connection, uri_from_environment
from lake.errors import EXIT_USAGE, TiyuError

__all__ = ["Connection", "Connector", "FetchedObject", "create", "of_kind", "parse_connection", "uri_from_environment"]

MODULES = {
    "database": "database:Database",
    "file_drop": "file_drop:FileDrop",
    "mqtt": "mqtt:Mqtt",
    "rest": "rest:Rest",
    "rest_cursor": "rest:Rest",  # its name in older contracts
    "s3": "s3:S3",
    "sftp": "sftp:Sftp",
}
"""Kind of source system → module and class; loaded when a contract asks for it, for their clients are large."""


def of_kind(kind: str) -> Any:
    """The connector class of a kind. Raises TIYU-ING-0101 for an unknown one."""
    if kind not in MODULES:
        raise TiyuError(
            "TIYU-ING-0101",
            "契约使用了未知的连接器",
            f"可用的连接器：{'、'.join(sorted(MODULES))}",
            EXIT_USAGE,
            connector=kind,
        )
    module, _, name = MODULES[kind].partition(":")
    return getattr(importlib.import_module(f"ingestion.connectors.{module}"), name)


def create(
    server_options: Any,
    connection_uri: str | None,
    is_seen: Callable[[str], bool],
    *,
    from_dir: str | os.PathLike[str] | None = None,
    columns: list[str] | None = None,
    resource: str = "",
) -> Connector:
    """A connector from a contract's ``servers[].connector`` mapping.

    server_options: the contract's ServerSpec, or ``{"kind": "file_drop" | "rest" | …, …options}``; a member
    ``connection`` (the name whose ``TIYU_CONN_<NAME>`` the caller resolved into ``connection_uri``) is not used here.
    is_seen: tells whether an object with this signature has been archived before.
    from_dir: take any folder, recursively, instead of the contract's place (file sources only).
    columns, resource: the columns that the contract has of the source (all, when not given) and the source's name, for
    connectors that choose columns or keep notes of their own.
    Errors: TIYU-ING-0101 unknown connector · 0102 unknown or wrong option · 0103/0104 connection.
    """
    if isinstance(server_options, dict):
        options = snake_case(server_options)
        kind = options.pop("kind", None)
    else:
        kind, options = server_options.connector, snake_case(server_options.options)
        options.pop("kind", None)
    options.pop("connection", None)
    connector = of_kind(kind)
    extra = {"columns": columns, "resource": resource} if getattr(connector, "of_contract", False) else {}
    return cast(Connector, connector(options, connection_uri, is_seen, from_dir=from_dir, **extra))
