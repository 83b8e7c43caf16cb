"""`tiyu describe`: a table in Chinese."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import AsJson, emit, print_banner

if TYPE_CHECKING:
    import duckdb


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("describe")
    def describe(
        table: Annotated[str, typer.Argument(help="Table name, with or without its schema: ods_venue__booking.")],
        as_json: AsJson = False,
    ) -> None:
        """Explain a table: grain, freshness, and each column's Chinese meaning, unit, grade and treatment."""
        from sharing import serving

        con = serving.connect("analyst", surface="cli_sql")
        try:
            show(con, table, as_json=as_json)
        finally:
            con.close()


def show(con: duckdb.DuckDBPyConnection, table: str, *, as_json: bool) -> None:
    """Print the description of a table."""
    from catalog import vocabularies
    from sharing.serving import window

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
