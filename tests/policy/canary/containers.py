"""Files of every kind that a surface may hold: written from columns, or an existing one rebuilt with one more value."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import xlsxwriter

from tests.policy.canary.persons import Person

Columns = dict[str, list[Any]]


def values_of(person: Person, item: str) -> list[Any]:
    """The values of one item as a column would hold them."""
    value = getattr(person, "at" if item == "moment" else item)
    if item == "heart_rate":
        return [70, *value, 71]
    return [*value, *value[::-1]] if item == "home" else [value]


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _csv(columns: Columns) -> bytes:
    rows = zip(*([str(n) for n, _ in enumerate(v)] for v in columns.values()), *columns.values(), strict=True)
    return "\n".join(",".join(_text(value) for value in row) for row in rows).encode()


def _parquet(path: Path, columns: Columns) -> None:
    pl.DataFrame(columns, strict=False).write_parquet(path)


def _duckdb(path: Path, columns: Columns) -> None:
    frame = pl.DataFrame(columns, strict=False)
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{path}' AS made")
        con.execute("CREATE TABLE made.main.t AS SELECT * FROM frame")
        assert frame.height


def _sqlite(path: Path, columns: Columns) -> None:
    with sqlite3.connect(path) as con:
        con.execute("CREATE TABLE t (v)")
        con.executemany("INSERT INTO t VALUES (?)", [(_plain(v),) for values in columns.values() for v in values])
    con.close()


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else _text(value)


def _xlsx(path: Path, columns: Columns) -> None:
    with xlsxwriter.Workbook(str(path)) as book:
        sheet = book.add_worksheet()
        for number, values in enumerate(columns.values()):
            for row, value in enumerate(values):
                sheet.write(row, number, _plain(value))


def _zip(path: Path, columns: Columns) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("inner.csv.gz", gzip.compress(_csv(columns)))


def _json(path: Path, columns: Columns) -> None:
    rows = [{name: _plain(value)} for name, values in columns.items() for value in values]
    path.write_text(json.dumps(rows), "utf-8")  # non-ASCII as escapes


def _html(path: Path, columns: Columns) -> None:
    rows = "".join(f"<tr><td>x</td><td>{_text(value)}</td></tr>" for values in columns.values() for value in values)
    path.write_text(f"<table>{rows}</table>", "utf-8")


CONTAINERS: dict[str, Callable[[Path, Columns], Any]] = {
    "csv": lambda path, columns: path.write_bytes(_csv(columns)),
    "csv in GB18030": lambda path, columns: path.write_bytes(_csv(columns).decode().encode("gb18030")),
    "gzip": lambda path, columns: path.write_bytes(gzip.compress(_csv(columns))),
    "gzip in zip": _zip,
    "zlib": lambda path, columns: path.write_bytes(zlib.compress(_csv(columns))),
    "xlsx": _xlsx,
    "parquet": _parquet,
    "duckdb": _duckdb,
    "sqlite": _sqlite,
    "json with escapes": _json,
    "html table": _html,
}


def _into_zip(source: Path, target: Path, value: str) -> None:
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as after:
        for entry in before.infolist():
            after.writestr(entry, before.read(entry))
        after.writestr("more.txt", value)


def _into_parquet(source: Path, target: Path, value: str) -> None:
    frame = pl.read_parquet(source, hive_partitioning=False)
    frame.with_columns(pl.lit(value).alias("more")).head(max(1, frame.height)).write_parquet(target)
    if not frame.height:
        pl.DataFrame({"more": [value]}).write_parquet(target)


def _into_duckdb(source: Path, target: Path, value: str) -> None:
    shutil.copyfile(source, target)
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{target}' AS made")
        con.execute("CREATE TABLE made.main.more AS SELECT ? AS v FROM range(3000)", [value])


def _into_sqlite(source: Path, target: Path, value: str) -> None:
    shutil.copyfile(source, target)
    _sqlite_more(target, value)


def _sqlite_more(target: Path, value: str) -> None:
    con = sqlite3.connect(target)
    con.execute("CREATE TABLE more (v)")
    con.execute("INSERT INTO more VALUES (?)", [value])
    con.commit()
    con.close()


SMUGGLERS: dict[str, Callable[[Path, Path, str], Any]] = {
    "text": lambda source, target, value: target.write_bytes(source.read_bytes() + value.encode()),
    "gzip": lambda source, target, value: target.write_bytes(
        gzip.compress(gzip.decompress(source.read_bytes()) + value.encode())
    ),
    "zip": _into_zip,
    "parquet": _into_parquet,
    "duckdb": _into_duckdb,
    "sqlite": _into_sqlite,
}
