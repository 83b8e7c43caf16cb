"""Every column the platform stores, with meaning, unit and grade: contracts, reference tables and dbt models.

dbt declares grade and mark in the column's `meta` (`grade`, `pi_mark`, `unit`, `title`); `config.meta` counts too.
Tables of the platform about itself (`ops_*`) are described where dbt declares them as sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict, cast

import pyarrow as pa

from catalog import contracts, schemas, yamlfile
from catalog.contracts import Contract
from lake.settings import settings

TECHNICAL: dict[str, tuple[str, str]] = {
    "_batch_id": ("批次编号", "该行所属的接入批次"),
    "_record_no": ("记录号", "该行在来源对象中的记录号"),
    "_source_object": ("来源对象", "该行来自的归档对象编号"),
    "_ingested_at": ("接入时间", "该行写入湖仓的时刻"),
    "part_date": ("分区日期", "业务发生的上海日历日期，分区列"),
    "_deleted_at": ("删除时刻", "来源表明该记录已删除的时刻；未删除为空"),
    "_deleted_by": ("删除批次", "带来删除信息的接入批次；未删除为空"),
}
_DUCKDB_NAMES = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}


class ColumnRow(TypedDict):
    """One described column. `grade`, `pi_mark` and `description` are None when the declaration lacks them."""

    table: str
    column: str
    type: str | None
    title_zh: str | None
    description: str | None
    unit: str | None
    grade: str | None
    pi_mark: str | None
    identifier_kind: str | None
    code_list: str | None
    origin: str


def _row(table: str, column: str, origin: str, **values: Any) -> ColumnRow:
    empty: dict[str, Any] = dict.fromkeys(
        ("type", "title_zh", "description", "unit", "grade", "pi_mark", "identifier_kind", "code_list")
    )
    return cast(ColumnRow, {"table": table, "column": column, **empty, **values, "origin": origin})


def _contract_rows(sources: Iterable[Contract]) -> list[ColumnRow]:
    rows = []
    for contract in sources:
        for obj in contract.objects:
            for prop in obj.properties:
                rows.append(
                    _row(
                        obj.table,
                        prop.name,
                        contract.id,
                        type=prop.type,
                        title_zh=prop.title_zh,
                        description=prop.description,
                        unit=prop.unit,
                        grade=prop.grade,
                        pi_mark=prop.pi_mark,
                        identifier_kind=prop.identifier_kind,
                        code_list=prop.code_list,
                    )
                )
            for field in schemas.technical_fields(obj):
                title, text = TECHNICAL[field.name]
                rows.append(
                    _row(
                        obj.table,
                        field.name,
                        contract.id,
                        type=_DUCKDB_NAMES[field.type],
                        title_zh=title,
                        description=text,
                        grade="L1",
                        pi_mark="N",
                    )
                )
    return rows


def _reference_rows() -> list[ColumnRow]:
    from catalog.publish import TABLES

    return [
        _row(
            table.name,
            column.name,
            "reference",
            type=_DUCKDB_NAMES[column.type],
            title_zh=column.title_zh,
            description=column.title_zh,
            unit=column.unit,
            grade="L1",
            pi_mark="N",
        )
        for table in TABLES
        for column in table.columns
    ]


def _meta(element: dict[str, Any]) -> dict[str, Any]:
    return {**((element.get("config") or {}).get("meta") or {}), **(element.get("meta") or {})}


def _dbt_tables(content: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [(model["name"], model) for model in content.get("models") or []]
    for source in content.get("sources") or []:
        found += [(table.get("identifier") or table["name"], table) for table in source.get("tables") or []]
    return found


def dbt_models_dir() -> Path:
    """Folder of the dbt models."""
    return settings().repo_root / "dbt_project" / "models"


@lru_cache(maxsize=16)
def _dbt_rows(key: tuple[tuple[str, int, int], ...], skip: frozenset[str]) -> tuple[ColumnRow, ...]:
    rows: list[ColumnRow] = []
    for file, _, _ in key:
        for table, element in _dbt_tables(yamlfile.read(Path(file)) or {}):
            if table in skip:
                continue
            for column in element.get("columns") or []:
                meta = _meta(column)
                description = (column.get("description") or "").strip() or None
                rows.append(
                    _row(
                        table,
                        column["name"],
                        Path(file).name,
                        type=(column.get("data_type") or "").upper() or None,
                        title_zh=meta.get("title") or meta.get("title_zh") or _short(description),
                        description=description,
                        unit=meta.get("unit"),
                        grade=meta.get("grade"),
                        pi_mark=meta.get("pi_mark"),
                        identifier_kind=meta.get("identifier_kind"),
                        code_list=meta.get("code_list"),
                    )
                )
    return tuple(rows)


def _short(description: str | None) -> str | None:
    """The part of a description before its first stop: a title where none is declared."""
    if not description:
        return None
    cut = min((at for mark in "，。；：（(\n" if (at := description.find(mark)) > 0), default=len(description))
    return description[:cut].strip()


def describe_all(dbt_models: Path | None = None, sources: Iterable[Contract] | None = None) -> list[ColumnRow]:
    """Rows (table, column, type, title_zh, description, unit, grade, pi_mark, identifier_kind, origin) of every table.

    Order: contracts, reference tables, dbt models and dbt-declared sources that no contract describes.
    `sources`: the source contracts, where the caller has read them already.
    Raises DeclarationError when a contract is not acceptable.
    """
    rows = _contract_rows(contracts.load_all("source").values() if sources is None else sources) + _reference_rows()
    known = frozenset(row["table"] for row in rows)
    folder = dbt_models or dbt_models_dir()
    files = yamlfile.fingerprint(folder, "*.yml") + yamlfile.fingerprint(folder, "*.yaml") if folder.is_dir() else ()
    return [*rows, *(ColumnRow(**row) for row in _dbt_rows(files, known))]


def describe(table: str) -> list[ColumnRow]:
    """The rows of :func:`describe_all` for one table, without reading what is said of others in the dbt project."""
    own = [c for c in contracts.load_all("source").values() if any(obj.table == table for obj in c.objects)]
    rows = [row for row in [*_contract_rows(own), *_reference_rows()] if row["table"] == table]
    folder = dbt_models_dir()
    if rows or not folder.is_dir():
        return rows
    files = yamlfile.fingerprint(folder, "*.yml") + yamlfile.fingerprint(folder, "*.yaml")
    naming = tuple(item for item in files if table in Path(item[0]).read_text(encoding="utf-8"))
    return [ColumnRow(**row) for row in _dbt_rows(naming, frozenset()) if row["table"] == table]


def dbt_column_meta(dbt_models: Path | None = None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(table, column, meta) of every column that the dbt project describes."""
    folder = dbt_models or dbt_models_dir()
    for file in sorted([*folder.rglob("*.yml"), *folder.rglob("*.yaml")]) if folder.is_dir() else []:
        for table, element in _dbt_tables(yamlfile.read(file) or {}):
            for column in element.get("columns") or []:
                yield table, column["name"], _meta(column)


def table_titles(dbt_models: Path | None = None) -> dict[str, str]:
    """Table name → Chinese title or description."""
    from catalog.publish import TABLES

    titles = {
        o.table: f"{o.title_zh}：{o.description}" for c in contracts.load_all("source").values() for o in c.objects
    }
    titles |= {table.name: table.title_zh for table in TABLES}
    folder = dbt_models or dbt_models_dir()
    if folder.is_dir():
        for file in sorted([*folder.rglob("*.yml"), *folder.rglob("*.yaml")]):
            for table, element in _dbt_tables(yamlfile.read(file) or {}):
                if element.get("description"):
                    titles.setdefault(table, element["description"].strip())
    return titles


def table_keys(dbt_models: Path | None = None, sources: Iterable[Contract] | None = None) -> dict[str, tuple[str, ...]]:
    """Table name → the columns that identify a row: a contract's dedup key, a model's tested grain.

    A table that declares neither is left out. `sources`: the source contracts, where the caller has read them already.
    """
    found = contracts.load_all("source").values() if sources is None else sources
    keys = {o.table: tuple(o.dedup) for c in found for o in c.objects if o.dedup}
    folder = dbt_models or dbt_models_dir()
    for file in sorted([*folder.rglob("*.yml"), *folder.rglob("*.yaml")]) if folder.is_dir() else []:
        for table, element in _dbt_tables(yamlfile.read(file) or {}):
            for test in [*(element.get("data_tests") or []), *(element.get("tests") or [])]:
                if isinstance(test, dict) and "unique_grain" in test:
                    grain = test["unique_grain"]
                    keys.setdefault(table, tuple((grain.get("arguments") or grain)["columns"]))
    return keys
