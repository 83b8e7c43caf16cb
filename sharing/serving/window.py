"""The SQL window on a serving file: run one query, describe a table, write a result to a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from lake.errors import EXIT_USAGE, TiyuError
from sharing.serving import hints

_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"
FORMATS = (".csv", ".xlsx", ".parquet")
XLSX_ROWS = 1_048_575
#: Statements of an analyst: reading only. The file would refuse the rest anyway, but with an English sentence.
_READING = re.compile(
    r"^\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(select|with|from|describe|desc|show|explain|summarize|values|pivot|\()",
    re.I | re.S,
)


@dataclass
class Result:
    """Rows of a query. `truncated`: more rows exist than were fetched."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    truncated: bool = False

    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def failed(con: duckdb.DuckDBPyConnection, query: str, error: duckdb.Error) -> TiyuError:
    """The coded error (TIYU-SQL-0001) of a query that DuckDB could not run."""
    reason = str(error).split("\n")[0]
    return TiyuError("TIYU-SQL-0001", "查询失败", hints.hint(con, query, error), EXIT_USAGE, reason=reason)


def check(query: str) -> None:
    """Raise TIYU-SQL-0004 for a statement that does more than read."""
    if not _READING.match(query):
        raise TiyuError("TIYU-SQL-0004", "这里只能查询", "以 SELECT、WITH、FROM、DESCRIBE 或 SHOW 开头", EXIT_USAGE)


def run(con: duckdb.DuckDBPyConnection, query: str, limit: int | None = None) -> Result:
    """Run one reading statement; fetch at most `limit` rows. Raises TIYU-SQL-0001/0004 with a Chinese explanation."""
    check(query)
    try:
        found = con.execute(query)
        columns = _distinct([item[0] for item in found.description or []])
        if limit is None:
            return Result(columns, found.fetchall())
        rows = found.fetchmany(limit + 1)
        return Result(columns, rows[:limit], len(rows) > limit)
    except duckdb.Error as error:
        raise failed(con, query, error) from None


def _distinct(names: list[str]) -> list[str]:
    """Column names made unique, because records and frames are keyed by them."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result


def export(con: duckdb.DuckDBPyConnection, query: str, path: Path, banner: str = "") -> int:
    """Write all rows of a query to .csv (UTF-8 with mark, opens right in Chinese Excel), .xlsx or .parquet.

    `banner` (demo data) goes above an XLSX table and into the Parquet metadata; a CSV stays a plain table, so it gets
    a `.说明.txt` beside it. Returns the number of rows. Raises TIYU-SQL-0005 for another format, 0006 for an XLSX
    beyond its row limit.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise TiyuError(
            "TIYU-SQL-0005", "不支持的导出格式", f"文件名以 {'、'.join(FORMATS)} 结尾", EXIT_USAGE, file=path.name
        )
    check(query)
    try:
        table = con.execute(query).to_arrow_table()
    except duckdb.Error as error:
        raise failed(con, query, error) from None
    frame = pl.from_arrow(table.rename_columns(_distinct(table.column_names)))
    assert isinstance(frame, pl.DataFrame)
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".csv":
        texts = pl.col(pl.String)  # a spreadsheet would run a text that begins like a formula
        frame = frame.with_columns(pl.when(texts.str.contains(_FORMULA)).then("'" + texts).otherwise(texts).name.keep())
        path.write_bytes(b"\xef\xbb\xbf" + frame.write_csv(datetime_format="%Y-%m-%d %H:%M:%S").encode("utf-8"))
        if banner:
            path.with_name(f"{path.stem}.说明.txt").write_text(f"{banner}\n", encoding="utf-8")
    elif suffix == ".parquet":
        frame.write_parquet(path, metadata={"notice": banner} if banner else None)
    else:
        if frame.height > XLSX_ROWS:
            raise TiyuError(
                "TIYU-SQL-0006",
                "结果超过一张工作表的行数",
                "改用 .csv 或 .parquet，或缩小查询范围",
                EXIT_USAGE,
                rows=frame.height,
            )
        _write_xlsx(frame, path, banner)
    return frame.height


def _write_xlsx(frame: pl.DataFrame, path: Path, banner: str) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(str(path), {"strings_to_formulas": False, "strings_to_urls": False}) as book:
        sheet = book.add_worksheet("结果")
        if banner:
            sheet.write_string(0, 0, banner)
        frame.write_excel(book, worksheet="结果", position=(1 if banner else 0, 0), autofit=True)


@dataclass
class Description:
    """A table in Chinese: what it is and its columns as records."""

    table: dict[str, Any]
    freshness: dict[str, Any] | None
    columns: list[dict[str, Any]]


def describe(con: duckdb.DuckDBPyConnection, table: str) -> Description:
    """Describe a table of the file by name (with or without schema); raises TIYU-SQL-0007 with near names."""
    name = table.split(".")[-1]
    found = run_bound(con, "SELECT * FROM main.catalog_tables WHERE table_name = ?", [name]).records()
    if not found:
        near = hints.near_tables(con, name)
        raise TiyuError(
            "TIYU-SQL-0007",
            "没有这张表",
            f"是否指：{'、'.join(near) or '（文件中还没有表）'}",
            EXIT_USAGE,
            table=name,
        )
    columns = run_bound(
        con,
        "SELECT column_name, data_type, title, description, unit, grade, pi_mark, treatment, is_available"
        " FROM main.catalog_columns WHERE table_name = ? ORDER BY position",
        [name],
    ).records()
    fresh = None
    if found[0]["resource"]:
        rows = run_bound(
            con, "SELECT * FROM main.catalog_freshness WHERE resource = ?", [found[0]["resource"]]
        ).records()
        fresh = rows[0] if rows else None
    return Description(found[0], fresh, columns)


def run_bound(con: duckdb.DuckDBPyConnection, query: str, values: list[Any]) -> Result:
    """Run our own query with bound values."""
    found = con.execute(query, values)
    return Result([item[0] for item in found.description or []], found.fetchall())


def words(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Completions: table and column names → Chinese meaning."""
    found = dict(
        con.execute(
            "SELECT column_name, any_value(title) FROM main.catalog_columns WHERE is_available GROUP BY 1"
        ).fetchall()
    )
    for schema, name, title in con.execute("SELECT schema_name, table_name, title FROM main.catalog_tables").fetchall():
        found[name] = found[f"{schema}.{name}"] = title
    for name, comment in con.execute(
        "SELECT table_name, comment FROM duckdb_tables() WHERE schema_name = 'main' AND NOT internal"
    ).fetchall():
        found[name] = comment or ""
    return found
