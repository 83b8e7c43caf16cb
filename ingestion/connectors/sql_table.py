"""One table of a PostgreSQL database, read page by page within one snapshot.

Identifiers are quoted, values are bound (as settings of the transaction, which the queries read: so a page can be
streamed with COPY). The session is read-only, in UTC, with an empty search path.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as driver
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.connectors.base import unavailable
from lake.errors import TiyuError

#: Types that Arrow holds exactly as the database does; every other one is fetched as the text the database writes.
_EXACT = {
    "bool",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "text",
    "varchar",
    "bpchar",
    "date",
    "timestamp",
    "timestamptz",
}
#: Types with an infinity, for which Arrow has no value.
_UNBOUNDED = {"date", "timestamp", "timestamptz"}
_HIDDEN = "_tiyu_"


@dataclass(frozen=True)
class Column:
    """A column: its name, the name of its base type, its type as SQL writes it, and whether it may be NULL."""

    name: str
    kind: str
    sql_type: str
    nullable: bool


@dataclass(frozen=True)
class Page:
    """Rows of a page; ``after`` the key of the last one (watermark first, where the page is ordered by it) as text, None
    when the page is the last; what its bytes depend on is only in ``rows``."""

    rows: pa.Table
    after: list[str] | None


class Snapshot:
    """A repeatable-read transaction over one table. Use as a context manager.

    Errors: TIYU-ING-0130 the database does not answer, or broke off · 0131 it refuses the account · 0132 the table, a
    column or the right to read is missing · 0133 the key does not tell rows apart.
    """

    def __init__(self, uri: str, endpoint: str, schema: str, table: str):
        self._endpoint, self.name = endpoint, table
        self._from = f"{quoted(schema)}.{quoted(table)}"
        self._schema = schema
        separator = "&" if "?" in uri else "?"
        uri = uri if "connect_timeout=" in uri else f"{uri}{separator}connect_timeout=10"
        try:
            self._connection = driver.connect(uri)
        except adbc_driver_manager.Error as error:
            raise self._error(error) from None

    def __enter__(self) -> Snapshot:
        try:
            self._run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for setting in (
                "search_path TO pg_catalog",
                "TIME ZONE 'UTC'",
                "datestyle TO 'ISO, YMD'",
                "client_encoding TO 'UTF8'",
                "extra_float_digits TO 1",
                "lock_timeout TO '10s'",
            ):
                self._run(f"SET LOCAL {setting}")
            self.columns = self._read_columns()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(adbc_driver_manager.Error):  # the server is gone already; there is nothing to keep
            self._connection.close()

    def require(self, names: Sequence[str]) -> list[Column]:
        """Columns by name; TIYU-ING-0132 for one that the table has not."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise self._missing(f"表中没有列 {'、'.join(missing)}")
        return [self.columns[name] for name in names]

    def require_key(self, key: Sequence[str]) -> None:
        """TIYU-ING-0133 unless the key is never NULL and never twice: paging by it would lose rows.

        A unique index says so; without one the table is looked through.
        """
        columns = self.require(key)
        unique = self._rows(
            "SELECT 1 FROM pg_index i WHERE i.indrelid = pg_catalog.to_regclass($1) AND i.indisunique AND i.indisvalid "
            "AND i.indpred IS NULL AND i.indexprs IS NULL AND (SELECT array_agg(a.attname::text) FROM pg_attribute a "
            "WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])) "
            "<@ ARRAY(SELECT json_array_elements_text($2::json)) LIMIT 1",
            (self._from, json.dumps(list(key))),
        )
        names = ", ".join(quoted(name) for name in key)
        nullable = [quoted(column.name) for column in columns if column.nullable]
        if nullable and self._rows(
            f"SELECT 1 FROM {self._from} WHERE {' OR '.join(f'{name} IS NULL' for name in nullable)} LIMIT 1"
        ):
            raise self._bad_key("键列有空值", key)
        if not unique and self._rows(f"SELECT 1 FROM {self._from} GROUP BY {names} HAVING count(*) > 1 LIMIT 1"):
            raise self._bad_key("同一个键有多行", key)

    def highest(self, column: str) -> str | None:
        """The largest value of a column as text, None when there is none. Infinity is no moment anything happened at."""
        found = self.require([column])[0]
        bounded = f" WHERE isfinite({quoted(column)})" if found.kind in _UNBOUNDED else ""
        rows = self._rows(f"SELECT max({quoted(column)})::text FROM {self._from}{bounded}")
        return rows[0][0] if rows else None

    def set_back(self, column: str, value: str, overlap: int) -> str:
        """A watermark less the overlap: seconds for times, days (rounded up) for dates, units for numbers."""
        kind = self.require([column])[0]
        if kind.kind in ("timestamp", "timestamptz"):
            step = "make_interval(secs => $2::float8)"
        elif kind.kind == "date":
            step = "ceil($2::float8 / 86400)::int4"
        else:
            step = "$2::int8"
        return self._rows(f"SELECT ($1::text::{kind.sql_type} - {step})::text", (value, str(overlap)))[0][0]

    def page(
        self,
        columns: Sequence[str],
        order: Sequence[str],
        *,
        after: list[str] | None,
        low: tuple[str, str] | None = None,
        high: tuple[str, str] | None = None,
        unversioned: str | None = None,
        rows: int,
        bytes_: int,
    ) -> Page:
        """The next rows in the order of ``order`` (unique together), beginning behind ``after``.

        low, high: column and text of inclusive bounds · unversioned: a column that must be NULL · rows, bytes_: where the page
        ends. Raises TIYU-ING-0134 for text that is not UTF-8.
        """
        self._bind({"low": low[1] if low else "", "high": high[1] if high else ""})
        self._bind({f"k{number}": value for number, value in enumerate(after or [])})
        kinds = self.require(order)
        where = []
        for name, bound, operator in (("low", low, ">="), ("high", high, "<=")):
            if bound:
                where.append(f"{quoted(bound[0])} {operator} {_setting(name, self.require([bound[0]])[0])}")
        if unversioned:
            where.append(f"{quoted(unversioned)} IS NULL")
        names = ", ".join(quoted(name) for name in order)
        if after is not None:
            values = ", ".join(_setting(f"k{number}", kind) for number, kind in enumerate(kinds))
            where.append(f"({names}) > ({values})")
        shown = self.require(columns)
        select = [_shown(column) for column in shown]
        select += [
            f"CASE WHEN NOT isfinite({quoted(column.name)}) THEN {quoted(column.name)}::text END AS {quoted(f'{_HIDDEN}i{number}')}"
            for number, column in enumerate(shown)
            if column.kind in _UNBOUNDED
        ]
        select += [f"{quoted(name)}::text AS {quoted(f'{_HIDDEN}k{number}')}" for number, name in enumerate(order)]
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        sql = f"SELECT {', '.join(select)} FROM {self._from}{condition} ORDER BY {names} LIMIT {int(rows)}"
        found, size, schema = [], 0, None
        reader = self._reader(sql)
        for batch in reader:
            schema = batch.schema
            found.append(batch)
            size += batch.nbytes
            if size >= bytes_:
                break
        table = pa.Table.from_batches(found, schema=schema or reader.schema)
        last = None
        if table.num_rows and (table.num_rows == rows or size >= bytes_):
            last = [table.column(f"{_HIDDEN}k{number}")[-1].as_py() for number in range(len(order))]
        return Page(self._plain(table, [column.name for column in shown]), last)

    def keys(self, key: Sequence[str]) -> Iterator[pa.Table]:
        """Every key of the table, with its digest (``_digest``, hex), in order of the digest; streamed."""
        names = [quoted(column.name) for column in self.require(key)]
        array = ", ".join(f"{name}::text" for name in names)
        digest = f"md5(json_build_array({array})::text)"
        shown = ", ".join(_shown(column) for column in self.require(key))
        reader = self._reader(f'SELECT {digest} COLLATE "C" AS _digest, {shown} FROM {self._from} ORDER BY 1')
        for batch in reader:
            yield self._plain(pa.Table.from_batches([batch]), ["_digest", *key])

    def _plain(self, table: pa.Table, names: Sequence[str]) -> pa.Table:
        """The named columns as plain Arrow: no metadata of the driver, infinities as the words of the database."""
        arrays = []
        for number in range(len(names)):
            array = table.column(number)
            if isinstance(array.type, pa.ExtensionType):
                array = array.cast(array.type.storage_type)
            hidden = f"{_HIDDEN}i{number}"
            if hidden in table.column_names and table.column(hidden).null_count < table.num_rows:
                array = pc.coalesce(table.column(hidden), array.cast(pa.string()))
            arrays.append(array)
        plain = pa.Table.from_arrays(arrays, names=list(names)).combine_chunks()
        try:
            plain.validate(full=True)
        except pa.ArrowInvalid:
            raise unavailable(
                "TIYU-ING-0134",
                "数据库的文字不是合法的 UTF-8",
                "数据库多半建成了 SQL_ASCII 编码；请数据源单位提供按 UTF-8 转换的视图",
                endpoint=self._endpoint,
                table=self.name,
            ) from None
        return plain

    def _read_columns(self) -> dict[str, Column]:
        rows = self._rows(
            "SELECT a.attname::text, coalesce(b.typname, t.typname)::text, format_type(a.atttypid, NULL), NOT a.attnotnull "
            "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = NULLIF(t.typbasetype, 0) "
            "WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            (self._from,),
        )
        if not rows:
            raise self._missing(f"库中没有表 {self._schema}.{self.name}，或没有读取它的权限")
        return {row[0]: Column(*row) for row in rows}

    def _bind(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            self._rows("SELECT set_config($1, $2, true)", (f"tiyu.{name}", value))

    def _run(self, sql: str) -> None:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
        except adbc_driver_manager.Error as error:
            raise self._error(error) from None

    def _rows(self, sql: str, parameters: tuple[str, ...] = ()) -> list[Any]:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return cursor.fetchall()
        except adbc_driver_manager.Error as error:
            raise self._error(error) from None

    def _reader(self, sql: str) -> _Reader:
        return _Reader(self._connection, sql, self._error)

    def _missing(self, message_zh: str) -> TiyuError:
        return unavailable(
            "TIYU-ING-0132",
            message_zh,
            "请对照契约核对表名、列名，并请数据源单位授予只读权限",
            endpoint=self._endpoint,
            table=self.name,
        )

    def _bad_key(self, message_zh: str, key: Sequence[str]) -> TiyuError:
        return unavailable(
            "TIYU-ING-0133",
            f"契约声明的键不能区分各行：{message_zh}",
            "请把契约 connector 的 key 改成表的主键，或请数据源单位补上唯一约束",
            endpoint=self._endpoint,
            table=self.name,
            key=" ".join(key),
        )

    def _error(self, error: adbc_driver_manager.Error) -> TiyuError:
        """The driver's error without its text, which repeats the query and may repeat values."""
        state = error.sqlstate or ""
        if state.startswith("28") or (not state and "authentication failed" in str(error)):
            return unavailable(
                "TIYU-ING-0131",
                "数据库拒绝了账号或口令",
                "请向数据源单位核对账号，并更新对应的 TIYU_CONN_ 连接",
                endpoint=self._endpoint,
            )
        if state in ("42P01", "42703", "3F000", "42501"):
            return self._missing("数据库中没有要读的表或列，或没有读取权限")
        return unavailable(
            "TIYU-ING-0130",
            "数据库无法访问，或读取中断",
            "请确认数据库正在运行、网络可达，稍后重试；未取到的数据下次会继续取",
            endpoint=self._endpoint,
            sqlstate=state or None,
            reason=type(error).__name__,
        )


class _Reader:
    """The record batches of a query, with the driver's errors as ours; the cursor is closed when reading ends."""

    def __init__(self, connection: Any, sql: str, coded: Any):
        self._coded = coded
        self._cursor = connection.cursor()
        self._cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(4 << 20)})
        try:
            self._cursor.execute(sql)
            self._reader = self._cursor.fetch_record_batch()
        except adbc_driver_manager.Error as error:
            raise coded(error) from None
        self.schema = self._reader.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._reader
        except (adbc_driver_manager.Error, OSError, pa.ArrowException) as error:
            raise self._coded(error if isinstance(error, adbc_driver_manager.Error) else _broken()) from None
        finally:
            self._cursor.close()


def _broken() -> adbc_driver_manager.Error:
    return adbc_driver_manager.OperationalError("stream ended", status_code=adbc_driver_manager.AdbcStatusCode.IO)


def quoted(name: str) -> str:
    """An identifier as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _shown(column: Column) -> str:
    name = quoted(column.name)
    if column.kind in _UNBOUNDED:
        return f"CASE WHEN isfinite({name}) THEN {name} END AS {name}"
    return name if column.kind in _EXACT else f"{name}::text AS {name}"


def _setting(name: str, column: Column) -> str:
    return f"current_setting('tiyu.{name}')::{column.sql_type}"
