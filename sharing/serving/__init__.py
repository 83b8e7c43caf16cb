"""Read-only DuckDB files, one per audience.

`connect(audience)` is how every reader outside Superset opens one; Superset must give its connections the settings of
`READER_CONFIG` and then run `LOCK_DOWN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb

from catalog import policy as display_policy
from lake.errors import EXIT_UNAVAILABLE, EXIT_USAGE, TiyuError
from lake.query import quote_literal
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

#: Run after the file is open. External access off is not enough: DuckDB leaves the opened file and its `.wal` writable
#: through COPY TO, so an analyst could lay a false write-ahead log beside the file and make it unreadable for everyone.
LOCK_DOWN = (
    "SET enable_external_access = false",
    "SET disabled_filesystems = 'LocalFileSystem'",
    "SET lock_configuration = true",
)

#: The row of `catalog_notice` that says what a file was built from.
FINGERPRINT = "构建指纹"
#: Where a bare table name is looked up, so that `ods_venue__booking` and `ods.ods_venue__booking` both work.
SCHEMAS = ("ads", "dws", "dwd", "dim", "ods")


def file_of(audience: str, scope: str | None = None) -> Path:
    """The serving file of an audience, and of one scope of it where the audience has scopes (TIYU-SRV-0004)."""
    return settings().serving_root / policy.audience(audience).file_of(scope)


def connect(
    audience: str,
    scope: str | None = None,
    *,
    surface: str = "serving_file",
    beside: Mapping[str, Path] | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open an audience's serving file for a surface: read-only, no file system or network, configuration locked.

    `beside`: alias → further DuckDB files attached read-only. Raises TIYU-SRV-0002 for an unknown audience, 0004 for a
    missing or unknown scope, 0006 when the policy does not open the surface to the audience, TIYU-SRV-0003 when the file
    has not been published yet, and 0007 when it was cut under another policy than the one in force.
    """
    if not display_policy.allows(audience, surface):
        raise TiyuError(
            "TIYU-SRV-0006", "展示策略不允许该受众使用这个展示面", "用 tiyu policy show 查看谁可以用什么", EXIT_USAGE,
            audience=audience, surface=surface,
        )  # fmt: skip
    file = file_of(audience, scope)
    if not file.is_file():
        raise TiyuError(
            "TIYU-SRV-0003",
            "还没有可查询的数据文件",
            "先运行 tiyu serve（或等待 serve DAG 成功）",
            EXIT_UNAVAILABLE,
            audience=audience,
        )
    # A private in-memory instance: opening the file itself would share one instance with every other reader of this
    # process, which keeps showing the replaced file for as long as any of them is open.
    config = {name: value for name, value in READER_CONFIG.items() if name != "enable_external_access"}
    con = duckdb.connect(":memory:", config=config)
    con.execute("SET enable_progress_bar = false")  # it would go to standard output, into the answer
    con.execute(f"ATTACH {quote_literal(str(file))} AS {audience} (READ_ONLY)")
    if cut_under(con, audience) != policy.audience(audience).digest():
        con.close()
        raise TiyuError(
            "TIYU-SRV-0007", "数据文件不是按现行展示策略裁切的，暂不提供", "运行 tiyu serve 后重试", EXIT_UNAVAILABLE,
            audience=audience,
        )  # fmt: skip
    for alias, other in (beside or {}).items():
        con.execute(f"ATTACH {quote_literal(str(other))} AS {alias} (READ_ONLY)")
    present = {
        row[0]
        for row in con.execute(
            "SELECT schema_name FROM duckdb_schemas() WHERE database_name = ?", [audience]
        ).fetchall()
    }
    path = ",".join(f"{audience}.{schema}" for schema in ("main", *SCHEMAS) if schema in present)
    con.execute(f"SET search_path = '{path}'")
    for statement in LOCK_DOWN:
        con.execute(statement)
    return con


def cut_under(con: duckdb.DuckDBPyConnection, catalog: str) -> str:
    """The digest of the policy that an attached serving file was cut under (`Audience.digest`); empty when it names none."""
    try:
        row = con.execute(f"SELECT text FROM {catalog}.main.catalog_notice WHERE name = '{FINGERPRINT}'").fetchone()
    except duckdb.Error:
        return ""
    return str(row[0]).partition(".")[2] if row else ""


__all__ = ["LOCK_DOWN", "READER_CONFIG", "SCHEMAS", "connect", "file_of"]
