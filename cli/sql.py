"""`tiyu sql`: the analyst's SQL window, one query or an interactive shell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.account import Account, account_name
from cli.output import AsJson, emit, print_error
from cli.role import AsRole, acting

if TYPE_CHECKING:
    import duckdb

HELP = """\
输入 SQL，以分号结束，回车执行。Tab 补全表名与列名，↑ ↓ 翻看历史，Ctrl-D 退出。
  tables              有哪些表
  describe 表名       这张表的列、含义、单位、分级与新鲜度
  scratch             自己的草稿表（用 scratch.表名 查询；tiyu scratch 管理）
  saved               已存查询；saved 名称 执行其中一个
  freshness           每个数据资源是否按时到达
  help                本说明
  exit                退出
所有时间为上海时间；人员已换成分析专用标记，同一人在各表中标记相同，可以计数与关联。"""
KEYWORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "HAVING", "LIMIT", "JOIN", "LEFT JOIN", "ON", "AS", "AND", "OR", "NOT",
    "IN", "BETWEEN", "LIKE", "IS NULL", "CASE", "WHEN", "THEN", "ELSE", "END", "DISTINCT", "count(*)", "sum", "avg", "min",
    "max", "round", "date_trunc", "WITH", "UNION ALL", "FILTER", "OVER", "PARTITION BY", "DESC", "ASC", "NULLS LAST", "QUALIFY",
)  # fmt: skip
_SCRATCH = "SELECT name AS 草稿表, grade AS 分级, origin AS 来源, inputs AS 输入, row_count AS 行数, expires_at AS 到期 FROM scratch.main.scratch_tables ORDER BY 1"
_NO_SCRATCH = "SELECT '（还没有草稿表：tiyu scratch create 或 upload）' AS 草稿表"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("sql")
    def sql(
        query: Annotated[str | None, typer.Argument(help="SQL to run; without it an interactive shell opens.")] = None,
        saved: Annotated[
            str | None, typer.Option("--saved", help="Run a saved query by name or Chinese title.")
        ] = None,
        output: Annotated[
            Path | None, typer.Option("--output", "-o", help="Write all rows to x.csv, x.xlsx or x.parquet.")
        ] = None,
        as_role: AsRole = None,
        account: Account = None,
        limit: Annotated[int, typer.Option(min=1, help="Rows to print; a file always gets all rows.")] = 100,
        as_json: AsJson = False,
    ) -> None:
        """Query checked data cut to your role's clearance, the analyst's by default (read-only, no file system, Shanghai time)."""
        from lake.errors import EXIT_USAGE, TiyuError
        from sharing import serving
        from sharing.serving import saved as saved_queries
        from sharing.serving import scratch, window

        if query and saved:
            raise TiyuError("TIYU-SQL-0008", "语句与 --saved 只能给一个", "去掉其中一个", EXIT_USAGE)
        text = saved_queries.load(saved).sql if saved else query
        if text is None and (output or as_json):
            raise TiyuError("TIYU-SQL-0009", "没有可执行的语句", "给出 SQL，或用 --saved 名称", EXIT_USAGE)
        who = account_name(account)
        # What leaves as a file is asked of the role's file alone: scratch tables are not even attached.
        audience = acting("sql", as_role).audience
        own_tables = audience == scratch.AUDIENCE and output is None
        con = scratch.connect(who) if own_tables else serving.connect(audience, surface="cli_sql")
        try:
            if text is None:
                _shell(con, limit)
            elif output:
                if audience == scratch.AUDIENCE:
                    scratch.refuse_export(con, who, text)
                banner = _banner(con)
                rows = window.export(con, text, output, banner)
                emit(
                    {"file": str(output), "rows": rows, "notice": banner},
                    as_json,
                    note=f"已写出 {rows:,} 行：{output}" + (f"（{banner}）" if banner else ""),
                )
            else:
                _print(con, text, limit, as_json)
        finally:
            con.close()


def _has_scratch(con: duckdb.DuckDBPyConnection) -> bool:
    return bool(con.execute("SELECT count(*) FROM duckdb_databases() WHERE database_name = 'scratch'").fetchall()[0][0])


def _banner(con: duckdb.DuckDBPyConnection) -> str:
    row = con.execute("SELECT text FROM main.catalog_notice WHERE name = '数据声明'").fetchone()
    return row[0] if row and row[0] != "正式数据" else ""


def _print(con: duckdb.DuckDBPyConnection, text: str, limit: int, as_json: bool) -> None:
    from sharing.serving import window

    result = window.run(con, text, limit)
    banner = _banner(con)
    notes = [f"{len(result.rows):,} 行"]
    if result.truncated:
        notes.append(f"只显示前 {limit:,} 行，加 --limit 或用 --output 取全部")
    if banner:
        notes.append(banner)
    emit(
        {"columns": result.columns, "rows": result.records(), "truncated": result.truncated, "notice": banner},
        as_json,
        table=result.records(),
        note="；".join(notes),
    )


def _shell(con: duckdb.DuckDBPyConnection, limit: int) -> None:
    """The interactive loop: SQL ends with a semicolon, words like `tables` stand alone."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.lexers import PygmentsLexer
    from pygments.lexers.sql import SqlLexer

    from lake.settings import settings

    history = settings().home / "sql_history"
    history.parent.mkdir(parents=True, exist_ok=True)
    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(history)),
        completer=_completer(con),
        lexer=PygmentsLexer(SqlLexer),
        complete_while_typing=False,
        multiline=False,
    )
    emit(None, False, note=f"体育数据湖仓 · 分析窗口（只读）。{_banner(con)}\n{HELP}")
    pending = ""
    while True:
        try:
            line = session.prompt("…> " if pending else "sql> ")
        except KeyboardInterrupt:
            pending = ""
            continue
        except EOFError:
            return
        statement = f"{pending}\n{line}".strip()
        if not statement:
            continue
        if not pending and statement.rstrip(";").lower() in ("exit", "quit", "退出"):
            return
        pending = step(con, statement, limit)


def step(con: duckdb.DuckDBPyConnection, statement: str, limit: int) -> str:
    """Do one shell statement; returns what is still pending (a statement without its semicolon)."""
    from lake.errors import TiyuError

    word, _, rest = statement.rstrip(";").strip().partition(" ")
    try:
        if _command(con, word.lower(), rest.strip(), limit):
            return ""
        if not statement.endswith(";"):
            return statement
        _print(con, statement.rstrip(";"), limit, False)
    except TiyuError as error:
        print_error(error)
    return ""


def _command(con: duckdb.DuckDBPyConnection, word: str, rest: str, limit: int) -> bool:
    """A word of the shell's own; False when the line is SQL."""
    from sharing.serving import saved

    if word in ("help", "?", "帮助"):
        emit(None, False, note=HELP)
    elif word == "tables" and not rest:
        _print(
            con,
            "SELECT schema_name AS 层, table_name AS 表, title AS 中文名, grain AS 一行代表, row_count AS 行数, latest_part_date AS 最新日期 FROM main.catalog_tables ORDER BY array_position(['ads', 'dws', 'dwd', 'dim', 'ods'], schema_name), 2",
            500,
            False,
        )
    elif word in ("describe", "desc") and rest:
        from cli.describe import show

        show(con, rest, as_json=False)
    elif word == "freshness" and not rest:
        _print(
            con,
            "SELECT resource AS 资源, title AS 名称, update_cycle AS 周期, state AS 状态, latest_data_date AS 最新数据, last_success_at AS 最近成功, received_count AS 收到, accepted_count AS 接受, quarantined_count AS 隔离, duplicate_count AS 重复 FROM main.catalog_freshness ORDER BY 1",
            100,
            False,
        )
    elif word == "scratch" and not rest:
        _print(con, _SCRATCH if _has_scratch(con) else _NO_SCRATCH, 500, False)
    elif word == "saved" and not rest:
        rows: list[dict[str, Any]] = [{"名称": q.name, "标题": q.title, "问题": q.question} for q in saved.load_all()]
        emit(rows, False, table=rows)
    elif word == "saved":
        _print(con, saved.load(rest).sql, limit, False)
    else:
        return False
    return True


def _completer(con: duckdb.DuckDBPyConnection) -> Any:
    """Tables, columns (with their Chinese meaning), SQL keywords, shell words."""
    from prompt_toolkit.completion import WordCompleter

    from sharing.serving import saved, window

    meaning = window.words(con)
    own = {
        "tables": "有哪些表",
        "scratch": "自己的草稿表",
        "describe": "表的说明",
        "saved": "已存查询",
        "freshness": "新鲜度",
        "help": "说明",
        "exit": "退出",
    }
    own |= {q.name: q.title for q in saved.load_all()}
    meta = {**dict.fromkeys(KEYWORDS, ""), **own, **meaning}
    return WordCompleter(
        list(meta), ignore_case=True, meta_dict=meta, match_middle=True, WORD=False, pattern=_word_pattern()
    )


def _word_pattern() -> Any:
    import re

    return re.compile(r"[\w.]+$|[\w.]+")
