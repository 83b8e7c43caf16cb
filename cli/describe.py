"""`tiyu describe`: a table in Chinese."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.account import Account, account_name
from cli.output import AsJson, emit, print_banner
from cli.role import AsRole, acting

if TYPE_CHECKING:
    import duckdb


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("describe")
    def describe(
        table: Annotated[str, typer.Argument(help="Table name, with or without its schema: ods_venue__booking.")],
        as_role: AsRole = None,
        account: Account = None,
        as_json: AsJson = False,
    ) -> None:
        """Explain a table: grain, freshness, and each column's Chinese meaning, unit, grade and treatment."""
        from sharing import serving
        from sharing.serving import scratch

        audience = acting("describe", as_role).audience
        is_own = table.startswith(f"{scratch.ALIAS}.") and audience == scratch.AUDIENCE
        con = scratch.connect(account_name(account)) if is_own else serving.connect(audience, surface="cli_sql")
        try:
            show(con, table, as_json=as_json)
        finally:
            con.close()


def show(con: duckdb.DuckDBPyConnection, table: str, *, as_json: bool) -> None:
    """Print the description of a table."""
    from catalog import vocabularies
    from sharing.serving import scratch, window

    if table.startswith(f"{scratch.ALIAS}."):
        _show_scratch(con, table.rstrip(";").strip(), as_json=as_json)
        return
    found = window.describe(con, table.rstrip(";").strip())
    about = found.table
    data = {**about, "freshness": found.freshness, "columns": found.columns}
    if as_json:
        emit(data, True)
        return
    print_banner()
    lines = [f"{about['schema_name']}.{about['table_name']}　{about['title']}（{about['layer']}，{about['grade']}）"]
    if about["description"]:
        lines.append(about["description"])
    if about["grain"]:
        lines.append(f"一行代表：{about['grain']}")
    latest = f"，最新 {about['latest_part_date']}" if about["latest_part_date"] else ""
    lines.append(f"{about['row_count']:,} 行{latest}；已检版本 {about['delta_version']}")
    if about.get("resource_code"):
        terms = f"{about['share_type']}，{about['open_type']}"
        lines.append(f"资源代码 {about['resource_code']}；{about['owner_name']}；{terms}；数据来源：{about['origin']}")
    if found.freshness:
        fresh = found.freshness
        lines.append(
            f"来源 {fresh['resource']}（{fresh['title']}，{fresh['update_cycle']}）：{vocabularies.name_of('freshness_state', fresh['state'])}，"
            f"最近成功 {fresh['last_success_at'] or '无'}"
        )
    emit(None, False, note="\n".join(lines))
    rows = [
        {
            "列": column["column_name"],
            "类型": column["data_type"] or "—",
            "中文名": column["title"],
            "说明": column["description"] if column["description"] != column["title"] else "",
            "单位": column["unit"] or "",
            "分级": f"{column['grade'] or '未定级'} {column['pi_mark'] or ''}".strip(),
            "处理": "" if column["treatment"] == "原样" else column["treatment"],
        }
        for column in found.columns
    ]
    emit(rows, False, table=rows)
    if any(not column["is_available"] for column in found.columns):
        why = f"不提供的列：依据用 tiyu policy explain {about['table_name']}.列名 查看"
        ask = f"；确有需要，向{about['owner_name']}提出，写明资源代码 {about['resource_code']} 与用途"
        emit(None, False, note=why + (ask if about.get("resource_code") else ""))


def _show_scratch(con: duckdb.DuckDBPyConnection, table: str, *, as_json: bool) -> None:
    """Print what is known of a scratch table: grade, origin, day of expiry, columns."""
    from sharing.serving import scratch

    about, columns = scratch.describe(con, table)
    if as_json:
        emit({**about, "columns": columns}, True)
        return
    print_banner()
    note = (
        f"{table}　草稿表（{about['grade']}）：{about['row_count']:,} 行，来自 {about['inputs']}，"
        f"{about['expires_at']:%Y-%m-%d} 到期；不得导出"
    )
    emit(None, False, note=note)
    emit(columns, False, table=[{"列": c["column_name"], "类型": c["data_type"]} for c in columns])
