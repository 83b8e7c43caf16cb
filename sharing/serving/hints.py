"""What a person should do about a query that failed: read from DuckDB's error and the catalogue inside the serving file."""

from __future__ import annotations

import re

import duckdb

#: What an error of DuckDB means for the person who typed the query.
_EXPLANATIONS: tuple[tuple[str, str], ...] = (
    ("Referenced column", "没有这一列（或对本受众不提供）：用 describe 表名 查看可用的列"),
    ("Table with name", "没有这张表：用 tables 查看可用的表"),
    ("Parser Error", "语句不合语法：检查逗号、括号与引号"),
    ("Permission Error", "只能查询本文件中的表；读写文件、加载扩展与修改设置都被禁止"),
    ("file system operations are disabled", "只能查询本文件中的表；读写文件、加载扩展与修改设置都被禁止"),
    ("configuration has been locked", "设置已锁定，不能修改"),
    ("read-only", "数据文件只读"),
    ("must appear in the GROUP BY", "SELECT 中未聚合的列必须写进 GROUP BY"),
    ("date field value out of range", "没有这一天：检查月份与日期"),
    ("invalid date field format", "日期写成 '2026-11-19' 的样子"),
    ("(INTEGER -> DATE)", "日期要加单引号：'2026-11-19'，不加就成了减法"),
    ("Cannot compare values of type DATE", "日期要加单引号：'2026-11-19'，不加就成了减法"),
    ("Conversion Error", "类型转换失败：检查比较或转换的列的类型"),
    ("Out of Memory", "查询占用内存过多：缩小日期范围或先聚合"),
)
_QUOTES = re.compile("[“”‘’＇＂]")
_PERSON = re.compile(r"姓名|名字|电话|手机|身份证|证件号|phone|mobile|id_?card|id_?no\b|(person|contact|real|user|athlete)_?name|^name$", re.I)  # fmt: skip
_NAMES_STAY_OUT = "市民的姓名、证件号与电话不进湖仓：人只有标记（如 person_token），可以计数、可以关联，认不出人"


def hint(con: duckdb.DuckDBPyConnection, query: str, error: duckdb.Error) -> str:
    """One Chinese sentence for a DuckDB error, with near names, and for a withheld column why and whom to ask."""
    text = str(error)
    if _QUOTES.search(query):
        return "语句里有中文引号：文字值用英文单引号，如 sport_name = '游泳'"
    if found := re.search(r'Referenced column "([^"]+)" not found', text):
        return _column(con, query, found[1])
    if found := re.search(r'Table with name "?([\w.]+)"? does not exist', text):
        return _table(con, query, found[1])
    for mark, meaning in _EXPLANATIONS:
        if mark in text:
            return meaning
    return "查询未能执行"


def near_tables(con: duckdb.DuckDBPyConnection, name: str, count: int = 3) -> list[str]:
    """Tables of the file whose names contain `name` or resemble it, best first."""
    rows = con.execute(
        "SELECT table_name FROM main.catalog_tables ORDER BY contains(table_name, lower(?)) DESC,"
        " jaro_winkler_similarity(table_name, lower(?)) DESC, 1 LIMIT ?",
        [name, name, count],
    ).fetchall()
    return [row[0] for row in rows]


def _table(con: duckdb.DuckDBPyConnection, query: str, full: str) -> str:
    name = full.rpartition(".")[2]
    if re.search(rf'\bscratch\."?{re.escape(name)}', query, re.I):
        return "没有这张草稿表：用 tiyu scratch list 查看（网页 SQL 查询看不到草稿表）"
    near = near_tables(con, name)
    return f"没有这张表。是否指：{'、'.join(near)}？全部的表：tiyu sql 窗口里输入 tables"


def _column(con: duckdb.DuckDBPyConnection, query: str, name: str) -> str:
    read = _tables_of(con, query)
    among = "table_name IN (SELECT unnest(?))"
    withheld = con.execute(
        f"SELECT c.table_name, c.title, c.grade, t.owner_name, t.resource_code FROM main.catalog_columns AS c"
        f" JOIN main.catalog_tables AS t USING (table_name) WHERE NOT c.is_available AND c.{among}"
        " AND lower(c.column_name) = lower(?) ORDER BY 1 LIMIT 1",
        [read, name],
    ).fetchone()
    if withheld:
        table, title, grade, owner, code = withheld
        ask = f"确有需要，向{owner}提出，写明资源代码 {code} 与用途" if owner and code else "确有需要，向责任处室提出"
        return f"这一列（{title}，{grade}）存在，但按分级策略不提供给分析师。依据：tiyu policy explain {table}.{name}；{ask}"
    if _PERSON.search(name):
        return _NAMES_STAY_OUT
    elsewhere = [
        row[0]
        for row in con.execute(
            "SELECT table_name FROM main.catalog_columns JOIN main.catalog_tables USING (table_name)"
            " WHERE is_available AND lower(column_name) = lower(?) ORDER BY schema_name = 'dim' DESC, 1 LIMIT 3",
            [name],
        ).fetchall()
    ]
    if elsewhere and read:
        return f"{'、'.join(read)} 没有这一列，{'、'.join(elsewhere)} 有：用共同的列关联"
    if re.search("[\u4e00-\u9fff]", name):
        return f"“{name}”被当成了列名：文字值用英文单引号；列名见 tiyu describe {read[0] if read else '表名'}"
    near = [
        row[0]
        for row in con.execute(
            f"SELECT column_name FROM main.catalog_columns WHERE is_available AND {among}"
            " ORDER BY jaro_winkler_similarity(column_name, lower(?)) DESC, 1 LIMIT 3",
            [read, name],
        ).fetchall()
    ]
    if near:
        return f"没有这一列。是否指：{'、'.join(dict.fromkeys(near))}？全部的列：tiyu describe {read[0]}"
    return "没有这一列（或对本受众不提供）：用 describe 表名 查看可用的列"


def _tables_of(con: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    """Catalogued tables that a query names."""
    known = {row[0] for row in con.execute("SELECT table_name FROM main.catalog_tables").fetchall()}
    return sorted(known & set(re.findall(r"\w+", query)))
