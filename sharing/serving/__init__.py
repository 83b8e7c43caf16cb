"""Read-only DuckDB files, one per audience.

`connect(audience)` is how every reader outside Superset opens one; Superset gets the same settings through
`READER_CONFIG` in its database declaration.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from lake.errors import EXIT_UNAVAILABLE, TiyuError
from lake.settings import settings
from sharing.serving import policy

#: Settings of every reader. Opening read-only alone is no sandbox: read_csv('/any/file') and COPY TO would work.
READER_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "memory_limit": "1GB",
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
    "temp_directory": "",
}

#: Where a bare table name is looked up, so that `ods_venue__booking` and `ods.ods_venue__booking` both work.
SCHEMAS = ("ads", "dws", "dwd", "dim", "ods")


def file_of(audience: str) -> Path:
    """The serving file of an audience."""
    return settings().serving_root / policy.audience(audience).file


def connect(audience: str) -> duckdb.DuckDBPyConnection:
    """Open an audience's serving file: read-only, no file system or network, configuration locked.

    Raises TIYU-SRV-0002 for an unknown audience and TIYU-SRV-0003 when its file has not been published yet.
    """
    file = file_of(audience)
    if not file.is_file():
        raise TiyuError(
            "TIYU-SRV-0003",
            "还没有可查询的数据文件",
            "先运行 tiyu serve（或等待 serve DAG 成功）",
            EXIT_UNAVAILABLE,
            audience=audience,
        )
    con = duckdb.connect(str(file), read_only=True, config=dict(READER_CONFIG))
    present = {row[0] for row in con.execute("SELECT schema_name FROM duckdb_schemas() WHERE NOT internal").fetchall()}
    path = ",".join(["main", *(schema for schema in SCHEMAS if schema in present)])
    con.execute(f"SET search_path = '{path}'")
    con.execute("SET lock_configuration = true")
    return con


__all__ = ["READER_CONFIG", "SCHEMAS", "connect", "file_of"]
