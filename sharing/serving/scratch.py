"""An analyst's scratch tables: results kept for later and own CSV files to join with, beside the analyst file.

One private DuckDB file per account, readable by that account only (mode 0600), attached read-only as `scratch` when the
account queries. A table has the highest grade and mark of its inputs: of every table its query reads, or of the whole
analyst file where the query does not say plainly what it reads. An uploaded file has the grade its owner declares, and
without a declaration the highest the analyst may have. Scratch tables expire after `DAYS` days, are never written to a
file for taking along (`tiyu sql --output`), and are no input of any delivery, dataset, backup or cockpit.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb
import polars as pl

from catalog import policy
from lake import clock
from lake.errors import EXIT_USAGE, TiyuError
from lake.query import quote_literal, quote_name
from lake.settings import settings
from sharing import serving
from sharing.files import exclusive
from sharing.serving import window

DAYS = 30
AUDIENCE = "analyst"
SURFACE = "scratch"
ALIAS = "scratch"
UPLOAD_BYTES = 200 * 2**20
GRADES: tuple[Literal["L1", "L2", "L3", "L4"], ...] = ("L1", "L2", "L3", "L4")
MARKS = ("N", "P", "S")

_REGISTER = "scratch_tables"
_COLUMNS = (
    "name VARCHAR, grade VARCHAR, pi_mark VARCHAR, origin VARCHAR, inputs VARCHAR, row_count BIGINT, created_at TIMESTAMP,"
    " expires_at TIMESTAMP"
)
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_NAME = re.compile(r"[^\W\d_]\w{0,62}")
#: Functions in the place of a table that read no table.
_HARMLESS = {"range", "generate_series", "unnest"}
#: Tables about the data, in every serving file.
_CATALOGUE = {
    "catalog_tables", "catalog_columns", "catalog_freshness", "catalog_versions", "catalog_notice", "catalog_scope",
    "kpi_definitions",
}  # fmt: skip


@dataclass(frozen=True)
class Scratch:
    """One scratch table. `inputs`: tables read, or the uploaded file's name. Times are Shanghai local time."""

    name: str
    grade: str
    pi_mark: str
    origin: str
    inputs: str
    row_count: int
    created_at: Any
    expires_at: Any

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def folder() -> Path:
    """Folder of the scratch files; only the platform's account may enter."""
    return settings().home / "scratch"


def file_of(account: str) -> Path:
    """An account's scratch file. Raises TIYU-SCR-0001 for a name that is no account name."""
    if not _ACCOUNT.fullmatch(account):
        raise TiyuError(
            "TIYU-SCR-0001", "账号名不合格", "账号名只含字母、数字、点、横线与下划线", EXIT_USAGE, account=account
        )
    return folder() / f"{account}.duckdb"


def clearance() -> str:
    """The highest grade an analyst's tables may have."""
    seen = policy.current().audiences[AUDIENCE].grades
    return max((grade for grade in GRADES if seen.get(grade, "absent") != "absent"), default="L1")


def connect(account: str) -> duckdb.DuckDBPyConnection:
    """The analyst file with the account's scratch tables attached as `scratch`; what has expired is dropped first.

    Raises TIYU-SCR-0009 when the policy does not show a kept table any more.
    """
    file = file_of(account)
    if any(one.expires_at <= _now() for one in tables(account)):
        expire(account)
    for one in tables(account):
        _check_shown(one.name, one.grade, one.pi_mark)
    return serving.connect(AUDIENCE, surface="cli_sql", beside={ALIAS: file} if file.is_file() else None)


def tables(account: str) -> list[Scratch]:
    """The account's scratch tables by name, expired ones included until they are dropped."""
    file = file_of(account)
    if not file.is_file():
        return []
    con = duckdb.connect(":memory:")
    try:
        con.execute(f"ATTACH {quote_literal(str(file))} AS old (READ_ONLY)")
        return [Scratch(*row) for row in con.execute(f"SELECT * FROM old.main.{_REGISTER} ORDER BY name").fetchall()]
    finally:
        con.close()


def describe(con: duckdb.DuckDBPyConnection, table: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(register row, columns: column_name, data_type) of `scratch.name`; raises TIYU-SCR-0003 when there is none."""
    name = table.rpartition(".")[2]
    try:
        about = window.run_bound(con, f"SELECT * FROM {ALIAS}.main.{_REGISTER} WHERE name = ?", [name]).records()
    except duckdb.CatalogException:  # nothing is attached: the account has no scratch table at all
        about = []
    if not about:
        raise TiyuError("TIYU-SCR-0003", "没有这张草稿表", "用 tiyu scratch list 查看", EXIT_USAGE, table=name)
    columns = window.run_bound(
        con,
        "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = ? AND table_name = ? ORDER BY column_index",
        [ALIAS, name],
    )
    return about[0], columns.records()


def create(account: str, name: str, query: str) -> Scratch:
    """Keep the result of a query on the analyst file and the own scratch tables.

    Raises TIYU-SCR-0002 for an unfit name, 0008 for a used one, and what `window.run` raises for a query that fails.
    """
    _free_name(account, name)
    window.check(query)
    con = connect(account)
    try:
        grade, mark, inputs = grade_of(con, account, query)
        try:
            rows = con.execute(query).to_arrow_reader()
        except duckdb.Error as error:
            raise window.failed(con, query, error) from None
        return _add(account, rows, name, grade, mark, "query", "、".join(inputs) or "—")
    finally:
        con.close()


def upload(account: str, file: Path, name: str, grade: str | None = None) -> Scratch:
    """Load a CSV file (UTF-8 or GB18030, first line = column names) as a scratch table.

    grade: what the owner declares it to be; without it the highest an analyst may have. Raises TIYU-SCR-0002 unfit name, 0008 used name,
    0004 not a readable CSV, 0005 a grade that scratch may not hold, 0007 raw personal numbers in the file.
    """
    _free_name(account, name)
    highest = clearance()
    if grade is not None and (grade not in GRADES or grade > highest):
        raise TiyuError(
            "TIYU-SCR-0005", "这一级的数据不能放进草稿区", f"草稿区最高 {highest}；更高级别的数据走数据源契约接入", EXIT_USAGE,
            grade=grade,
        )  # fmt: skip
    frame = _read_csv(file)
    _refuse_personal(frame, file)
    return _add(account, frame.to_arrow(), name, grade or highest, "P" if grade is None else "N", "upload", file.name)


def drop(account: str, name: str) -> Scratch:
    """Remove one scratch table; its bytes are gone from the file. Raises TIYU-SCR-0003 when there is none."""
    found = next((one for one in tables(account) if one.name == name), None)
    if found is None:
        raise TiyuError("TIYU-SCR-0003", "没有这张草稿表", "用 tiyu scratch list 查看", EXIT_USAGE, table=name)
    with _changed(account, without={name}):
        pass
    return found


def expire(account: str | None = None) -> list[tuple[str, Scratch]]:
    """Drop what has expired, of one account or of all; returns (account, table) of what was dropped."""
    accounts = [account] if account else sorted(path.stem for path in folder().glob("*.duckdb"))
    gone = []
    for one in accounts:
        over = [table for table in tables(one) if table.expires_at <= _now()]
        if over:
            with _changed(one, without={table.name for table in over}):
                pass
            gone += [(one, table) for table in over]
    return gone


def refuse_export(con: duckdb.DuckDBPyConnection, account: str, query: str) -> None:
    """Raise TIYU-SCR-0006 when a query that is to be written to a file names a scratch table.

    The connection that writes files has no scratch file attached in the first place; this only says why.
    """
    own = {one.name.lower() for one in tables(account)}
    named = _named(con, query)
    if named and (hit := {name for name in named if name.split(".")[0] == ALIAS or name in own}):
        raise TiyuError(
            "TIYU-SCR-0006", "草稿表不能导出", "草稿区只供查询与关联；需要导出的结果直接由正式表查询得到", EXIT_USAGE,
            tables="、".join(sorted(hit)),
        )  # fmt: skip


def grade_of(con: duckdb.DuckDBPyConnection, account: str, query: str) -> tuple[str, str, list[str]]:
    """(grade, mark, inputs) of a query's result: the highest of the tables it reads.

    A query that does not parse into plain table names, names an unknown table, or reads through a function counts as
    reading everything in the file.
    """
    served = {
        name: (grade, mark)
        for name, grade, mark in con.execute(
            "SELECT t.table_name, t.grade, coalesce(max(c.pi_mark), 'N') FROM main.catalog_tables AS t"
            " LEFT JOIN main.catalog_columns AS c ON c.table_name = t.table_name AND c.is_available GROUP BY ALL"
        ).fetchall()
    }
    own = {one.name.lower(): (one.grade, one.pi_mark) for one in tables(account)}
    known = dict.fromkeys(_CATALOGUE, ("L1", "N")) | served
    everything = [*served.values(), *own.values()]
    named = _named(con, query)
    inputs: list[str] = []
    found: list[tuple[str, str]] = []
    for full in sorted(named or ()):
        short = full.rpartition(".")[2]
        grades = own.get(short) if full.split(".")[0] == ALIAS else known.get(short) or own.get(short)
        if grades is None:
            named = None
            break
        inputs.append(full)
        found.append(grades)
    if named is None:
        found, inputs = everything, ["（整个分析文件）"]
    return _highest([grade for grade, _ in found], GRADES), _highest([mark for _, mark in found], MARKS), inputs


def _highest(values: list[str], order: tuple[str, ...]) -> str:
    # an unknown word ranks above all known ones
    return max(values, key=lambda value: order.index(value) if value in order else len(order), default=order[0])


def _named(con: duckdb.DuckDBPyConnection, query: str) -> set[str] | None:
    """Lower-case names of the tables a query reads; None when the query does not say so plainly."""
    try:
        names = {name.lower().replace('"', "") for name in con.get_table_names(query, qualified=True)}
        tree = con.execute("SELECT json_serialize_sql(?)", [query.strip().rstrip(";")]).fetchall()[0][0]
    except duckdb.Error:
        return None
    parsed = json.loads(tree)
    if parsed.get("error"):
        return None
    return names if _functions(parsed) <= _HARMLESS else None


def _functions(node: Any) -> set[str]:
    """Names of the functions that stand in the place of a table."""
    found: set[str] = set()
    if isinstance(node, dict):
        if node.get("type") == "TABLE_FUNCTION":
            found.add(str((node.get("function") or {}).get("function_name", "?")).lower())
        elif node.get("type") not in (None, "BASE_TABLE") and node.get("type") == "SHOW_REF":
            found.add("show")
        for value in node.values():
            found |= _functions(value)
    elif isinstance(node, list):
        for value in node:
            found |= _functions(value)
    return found


# --- the file ------------------------------------------------------------------------------------------------------


def _now() -> Any:
    """The business moment in Shanghai, without zone, as the register keeps it."""
    return clock.as_of().astimezone(clock.SHANGHAI).replace(tzinfo=None)


def _free_name(account: str, name: str) -> None:
    used = {one.name.lower() for one in tables(account)}
    if name.lower() in used:
        raise TiyuError(
            "TIYU-SCR-0008", "已有同名的草稿表", "换一个名称，或先 tiyu scratch drop 名称", EXIT_USAGE, table=name
        )
    if not _NAME.fullmatch(name) or name.lower() in {_REGISTER} | _CATALOGUE:
        raise TiyuError(
            "TIYU-SCR-0002", "草稿表的名称不能用", "以字母或汉字开头，只含字母、汉字、数字与下划线，且不是目录表的名称", EXIT_USAGE,
            table=name,
        )  # fmt: skip


def _check_shown(name: str, grade: str, mark: str) -> None:
    """Raise TIYU-SCR-0009 unless the policy shows the analyst values of this grade and mark in a scratch table.

    What stands in it comes from the analyst's file, already masked; what kind of identifier a column was is not known any
    more, so nothing but grade and mark can be asked.
    """
    if policy.decide(AUDIENCE, SURFACE, policy.Facet(grade, mark, None)).treatment != "plain":
        raise TiyuError(
            "TIYU-SCR-0009", "展示策略不允许这张草稿表", "策略已收紧的，用 tiyu scratch drop 删除后按现行数据重做", EXIT_USAGE,
            table=name, grade=grade, mark=mark,
        )  # fmt: skip


def _add(account: str, rows: Any, name: str, grade: str, mark: str, origin: str, inputs: str) -> Scratch:
    _check_shown(name, grade, mark)
    with _changed(account) as con:
        con.register("incoming", rows)
        con.execute(f"CREATE TABLE fresh.main.{quote_name(name)} AS SELECT * FROM incoming")
        con.unregister("incoming")
        count = con.execute(f"SELECT count(*) FROM fresh.main.{quote_name(name)}").fetchall()[0][0]
        made = Scratch(name, grade, mark, origin, inputs, count, _now(), _now() + timedelta(days=DAYS))
        con.execute(f"INSERT INTO fresh.main.{_REGISTER} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", list(asdict(made).values()))
        _comment(con, made)
    return made


def _comment(con: duckdb.DuckDBPyConnection, one: Scratch) -> None:
    text = f"草稿表；分级：{one.grade}（{one.pi_mark}）；来自：{one.inputs}；{one.expires_at:%Y-%m-%d} 到期；不得导出"
    con.execute(f"COMMENT ON TABLE fresh.main.{quote_name(one.name)} IS {quote_literal(text)}")


@contextmanager
def _changed(account: str, without: set[str] = frozenset()) -> Iterator[duckdb.DuckDBPyConnection]:  # type: ignore[assignment]
    """Write the account's file anew, without some tables, and let the caller add to `fresh`; swapped in by rename.

    Anew, so that nothing of a dropped table is left in a free page.
    """
    file = file_of(account)
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    folder().chmod(0o700)
    with exclusive(folder() / f".{account}.lock"):
        aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        aside.unlink(missing_ok=True)
        con = duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "1GB", "temp_directory": ""})
        try:
            con.execute(f"ATTACH {quote_literal(str(aside))} AS fresh (BLOCK_SIZE 16384)")
            aside.chmod(0o600)
            con.execute(f"CREATE TABLE fresh.main.{_REGISTER} ({_COLUMNS})")
            kept = [one for one in tables(account) if one.name not in without]
            if kept:
                con.execute(f"ATTACH {quote_literal(str(file))} AS old (READ_ONLY)")
                for one in kept:
                    target = quote_name(one.name)
                    con.execute(f"CREATE TABLE fresh.main.{target} AS SELECT * FROM old.main.{target}")
                    _comment(con, one)
                names = ", ".join(quote_literal(one.name) for one in kept)
                con.execute(
                    f"INSERT INTO fresh.main.{_REGISTER} SELECT * FROM old.main.{_REGISTER} WHERE name IN ({names})"
                )
                con.execute("DETACH old")
            yield con
            empty = con.execute(f"SELECT count(*) FROM fresh.main.{_REGISTER}").fetchall()[0][0] == 0
            con.execute("CHECKPOINT fresh")
            con.execute("DETACH fresh")
            if empty:
                file.unlink(missing_ok=True)
            else:
                os.replace(aside, file)
        finally:
            con.close()
            aside.unlink(missing_ok=True)
            aside.with_name(f"{aside.name}.wal").unlink(missing_ok=True)


def _read_csv(file: Path) -> pl.DataFrame:
    def unreadable(why: str) -> TiyuError:
        return TiyuError(
            "TIYU-SCR-0004", "不能读取这个 CSV 文件", "第一行写列名，编码为 UTF-8 或 GB18030，文件不超过 200 MB", EXIT_USAGE,
            file=file.name, reason=why,
        )  # fmt: skip

    if not file.is_file():
        raise unreadable("没有这个文件")
    if file.stat().st_size > UPLOAD_BYTES:
        raise unreadable(f"{file.stat().st_size:,} 字节")
    data = file.read_bytes()
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise unreadable("编码")
    try:
        frame = pl.read_csv(io.BytesIO(text.encode()), infer_schema_length=None, try_parse_dates=True)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise unreadable(type(error).__name__) from None
    if not frame.width or not frame.height:
        raise unreadable("没有数据行")
    return frame


def _refuse_personal(frame: pl.DataFrame, file: Path) -> None:
    """Identifiers of persons do not leave the archive, and do not come in by the back door either. Tokens may: they join."""
    from protection import freetext, masking

    texts = frame.select(pl.all().cast(pl.String, strict=False))
    hit = texts.select(masking.has_personal_number(pl.col(name)).any().alias(name) for name in texts.columns).row(0)
    named = [
        column.name
        for column, found in zip(texts.get_columns(), hit, strict=True)
        if found or freetext.holds_identifier(column)
    ]
    if named:
        raise TiyuError(
            "TIYU-SCR-0007", "文件里有证件号、电话、银行卡、邮箱或车牌号，不能上传", "删去这些列；需要按人关联时请数据管理岗按契约接入", EXIT_USAGE,
            file=file.name, columns="、".join(named),
        )  # fmt: skip


__all__ = [
    "DAYS",
    "Scratch",
    "clearance",
    "connect",
    "create",
    "describe",
    "drop",
    "expire",
    "file_of",
    "folder",
    "grade_of",
    "refuse_export",
    "tables",
    "upload",
]
