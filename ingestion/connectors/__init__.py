"""How data is fetched: one module per kind of source system, chosen by name in the contract."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ingestion.connectors.base import Connector, FetchedObject, snake_case
from ingestion.connectors.connection import Connection, parse_connection, uri_from_environment
from ingestion.connectors.database import Database
from ingestion.connectors.file_drop import FileDrop
from ingestion.connectors.mqtt import Mqtt
from ingestion.connectors.rest import Rest
from ingestion.connectors.s3 import S3
from ingestion.connectors.sftp import Sftp
from lake.errors import EXIT_USAGE, TiyuError

__all__ = ["Connection", "Connector", "FetchedObject", "create", "parse_connection", "uri_from_environment"]

REGISTRY: dict[str, type] = {
    Database.name: Database,
    FileDrop.name: FileDrop,
    Mqtt.name: Mqtt,
    Rest.name: Rest,
    Rest.former_name: Rest,
    S3.name: S3,
    Sftp.name: Sftp,
}


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
    if kind not in REGISTRY:
        raise TiyuError(
            "TIYU-ING-0101",
            "契约使用了未知的连接器",
            f"可用的连接器：{'、'.join(sorted(REGISTRY))}",
            EXIT_USAGE,
            connector=kind,
        )
    extra = {"columns": columns, "resource": resource} if getattr(REGISTRY[kind], "of_contract", False) else {}
    return REGISTRY[kind](options, connection_uri, is_seen, from_dir=from_dir, **extra)
