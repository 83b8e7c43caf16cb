"""Entries from what is declared elsewhere: contracts, reference tables, dbt models, exposures; and the defaults.

Nothing is copied per table. A model that differs from the defaults says so in its own YAML under `meta: {catalog: …}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from catalog import project, vocabularies
from catalog.columns import ColumnRow
from catalog.contracts import Contract
from catalog.entries import codes, declared
from catalog.entries.declared import Defaults, Sensitivity
from catalog.entries.model import (
    Binding,
    BindingKind,
    ClassLevel,
    Entry,
    EntryColumn,
    EntryTable,
    OpenTerms,
    ShareTerms,
)
from catalog.problems import DeclarationError
from lake.settings import settings

LETTERS = {"VARCHAR": "C", "BIGINT": "I", "INTEGER": "I", "DOUBLE": "B", "BOOLEAN": "L", "DATE": "D"}
"""字符型C 数值型N 货币型Y 日期型D 日期时间型T 逻辑型L 整型I 双精度型B (reference §1.3, K-H)."""

DECODER_FORMAT = {
    "csv": ("sheet", "CSV"),
    "xlsx": ("sheet", "XLSX"),
    "ndjson": ("self_describing", "NDJSON"),
    "json_items": ("service", "REST 接口（JSON）"),
    "activity": ("self_describing", "FIT、TCX、GPX、苹果健康导出"),
}
_OUTPUT_FORMAT = {"exchange": ("sheet", "CSV（压缩）"), "open": ("sheet", "CSV、XLSX、JSON、XML")}
_MARKS = ("N", "P", "S")
_OVERRIDES = {
    "title", "owner", "share", "open", "retention", "update_cycle", "legal_basis", "crs", "related", "keywords", "theme",
    "on_demand",
}  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """What entries are made of: contracts by id, the dbt project, described columns, keys, reference tables."""

    contracts: Mapping[str, Contract]
    project: project.Project
    columns: Iterable[ColumnRow]
    keys: Mapping[str, tuple[str, ...]]
    folder: Path = declared.FOLDER


def letter(type_: str | None, unit: str | None) -> str | None:
    """The guide's data type letter of a DuckDB type; money is 货币型."""
    if type_ is None:
        return None
    if unit == "CNY":
        return "Y"
    kind = type_.upper()
    if kind.startswith("DECIMAL"):
        return "N"
    return "T" if kind.startswith("TIMESTAMP") else LETTERS.get(kind, "G")


def sensitivity(grade: str | None, pi_mark: str | None) -> Sensitivity:
    """Which defaults of sharing and opening apply; what is not graded or marked counts as the most sensitive."""
    if grade in (None, "L4") or pi_mark in (None, "S"):
        return "sensitive"
    if grade == "L3" or pi_mark == "P":
        return "personal"
    return "internal" if grade == "L2" else "public"


def _highest(values: Iterable[str | None], order: tuple[str, ...]) -> str | None:
    """The highest of the values; None when one is missing or unknown, or when there is none."""
    known = list(values)
    if not known or any(value not in order for value in known):
        return None
    return max((str(value) for value in known), key=order.index)


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))


class Builder:
    """Makes all entries of one state of the declarations."""

    def __init__(self, inputs: Inputs):
        self.inputs = inputs
        self.provider = declared.provider(inputs.folder)
        self.defaults: Defaults = declared.defaults(inputs.folder)
        self.register = codes.register(inputs.folder).by_entry()
        self.tables: dict[str, list[EntryColumn]] = {}
        code_lists = {
            (obj.table, prop.name): prop.code_list
            for contract in inputs.contracts.values()
            for obj in contract.objects
            for prop in obj.properties
        }
        for row in inputs.columns:
            self.tables.setdefault(row["table"], []).append(
                EntryColumn(
                    name=row["column"],
                    title_zh=row["title_zh"] or row["column"],
                    description=row["description"],
                    type=row["type"],
                    letter=letter(row["type"], row["unit"]),
                    unit=row["unit"],
                    code_list=row["code_list"] or code_lists.get((row["table"], row["column"])),
                    grade=row["grade"],
                    pi_mark=row["pi_mark"],
                    identifier_kind=row["identifier_kind"],
                )
            )
        self.owner_of: dict[str, str] = {}  # table → entry id
        self.parts: dict[str, dict[str, Any]] = {}  # entry id → fields that do not depend on other entries
        self.upstream: dict[str, set[str]] = {}  # entry id → tables or entry ids it rests on

    def build(self) -> dict[str, Entry]:
        """All entries by id, sources first, outputs last."""
        self._sources()
        self._references()
        self._models()
        self._outputs()
        self._dashboards()
        edges = {
            name: sorted({self.owner_of.get(table, table) for table in tables} & set(self.parts) - {name})
            for name, tables in self.upstream.items()
        }
        entries: dict[str, Entry] = {}
        for name, part in self.parts.items():
            origins = self._origins(name, edges)
            entries[name] = self._entry(name, part, edges, origins)
        return entries

    # ------------------------------------------------------------------ one method a kind
    def _sources(self) -> None:
        for contract in self.inputs.contracts.values():
            if contract.kind != "source" or contract.server is None:
                continue
            category, name = DECODER_FORMAT.get(contract.server.decoder, ("file", contract.server.decoder))
            options = contract.server.options
            where = options.get("pattern") or options.get("path") or ", ".join(options.get("topics") or ())
            self._contract(
                contract,
                kind="source",
                layer="ods",
                format=(category, name),
                tables=tuple(
                    EntryTable(
                        name=obj.table,
                        title_zh=obj.title_zh,
                        grain=obj.grain,
                        key=tuple(obj.dedup),
                        columns=tuple(self.tables.get(obj.table, ())),
                    )
                    for obj in contract.objects
                ),
                bindings=(
                    Binding(kind="connection", target=f"{contract.server.connection}:{where}"),
                    *(Binding(kind="table", target=obj.table) for obj in contract.objects),
                ),
                origin_zh=str(
                    (contract.raw.get("servers") or [{}])[0].get("description") or contract.server.connection
                ),
                upstream=set(),
            )
            for obj in contract.objects:
                self.owner_of[obj.table] = contract.id

    def _outputs(self) -> None:
        for contract in self.inputs.contracts.values():
            if contract.output is None:
                continue
            kind: BindingKind = "delivery" if contract.kind == "exchange" else "dataset"
            obj = contract.root
            columns = tuple(
                EntryColumn(
                    name=p.name,
                    title_zh=p.title_zh,
                    description=p.description,
                    type=p.type,
                    letter=letter(p.type, p.unit),
                    unit=p.unit,
                    code_list=p.code_list,
                    grade=p.grade,
                    pi_mark=p.pi_mark,
                    identifier_kind=p.identifier_kind,
                )
                for p in obj.properties
            )
            self._contract(
                contract,
                kind=contract.kind,
                layer="out",
                format=_OUTPUT_FORMAT[contract.kind],
                tables=(
                    EntryTable(
                        name=contract.output.table,
                        title_zh=obj.title_zh,
                        grain=obj.grain,
                        key=tuple(contract.output.key),
                        columns=columns,
                    ),
                ),
                bindings=(
                    Binding(kind=kind, target=contract.id),
                    Binding(kind="table", target=contract.output.table),
                ),
                origin_zh="",
                upstream={contract.output.table},
            )

    def _contract(self, contract: Contract, **part: Any) -> None:
        limits = contract.raw.get("description", {}).get("limitations")
        self.upstream[contract.id] = part.pop("upstream")
        output = contract.output
        self.parts[contract.id] = {
            "domain": contract.domain,
            "title_zh": contract.title,
            "summary": "；".join(_unique(text.rstrip("。") for text in (contract.description, limits) if text)) + "。",
            "share": ShareTerms(**contract.share.model_dump()),
            "open": OpenTerms(**contract.open.model_dump()),
            "update_cycle": contract.update_cycle,
            "owner_name": contract.owner_name,
            "legal_basis": contract.legal_basis,
            "retention": contract.retention,
            "crs": contract.crs,
            "keywords": tuple(output.keywords) if output else (),
            "theme": (output.theme if output else None) or self._theme(contract.domain),
            "version": contract.version,
            "declared_in": _relative(contract.path),
            **part,
        }

    def _references(self) -> None:
        from catalog.publish import TABLES

        for table in TABLES:
            self._table(
                table.name,
                kind="reference",
                layer="ods",
                domain="reference",
                description=table.title_zh,
                grain=table.grain,
                key=(),
                meta={},
                declared_in="catalog/publish.py",
                upstream=set(),
                origin_zh="目录声明（catalog/）",
            )

    def _models(self) -> None:
        for name, table in self.inputs.project.tables.items():
            if name in self.owner_of or (table.is_source and not name.startswith("ops_")):
                continue
            layer, _, rest = name.partition("_")
            self._table(
                name,
                kind="platform" if layer == "ops" else "table",
                layer=layer,
                domain="reference" if layer == "dim" else rest.partition("__")[0],
                description=table.description,
                grain=table.grain,
                key=self.inputs.keys.get(name, ()),
                meta=table.meta.get("catalog") or {},
                declared_in=_relative(table.yaml),
                upstream=set(table.depends_on),
                origin_zh="平台运行台账" if layer == "ops" else "",
            )

    def _table(
        self, name: str, *, description: str, grain: str, key: tuple[str, ...], meta: dict[str, Any], **part: Any
    ) -> None:
        if unknown := set(meta) - _OVERRIDES:
            raise _refused(f"{name}.meta.catalog: unknown keys {sorted(unknown)}")
        columns = tuple(self.tables.get(name, ()))
        grade = _highest([c.grade for c in columns], ("L1", "L2", "L3", "L4"))
        mark = _highest([c.pi_mark for c in columns], _MARKS)
        terms = self.defaults.terms[sensitivity(grade, mark)]
        title = description.partition("：")[0] if part["domain"] not in ("exchange", "open") else description
        titles = [c.title_zh for c in columns if not c.name.startswith("_")]
        shown = "、".join(titles[:6]) + ("等" if len(titles) > 6 else "")
        summary = [description, f"一行代表{grain}" if grain else "", f"主要信息项：{shown}" if shown else ""]
        domain, layer = part["domain"], part["layer"]
        self.owner_of[name] = name
        self.upstream[name] = part.pop("upstream")
        try:
            share = ShareTerms(**meta["share"]) if "share" in meta else terms.share
            opening = OpenTerms(**meta["open"]) if "open" in meta else terms.open
        except (ValidationError, TypeError) as error:
            raise _refused(f"{name}.meta.catalog: {error}") from None
        self.parts[name] = {
            "title_zh": meta.get("title") or title or name,
            "summary": "。".join(text for text in summary if text) + "。" if description else "",
            "format": ("database", "Delta Lake（Parquet）"),
            "tables": (EntryTable(name=name, title_zh=description, grain=grain, key=key, columns=columns),),
            "share": share,
            "open": opening,
            "update_cycle": meta.get("update_cycle") or self.defaults.update_cycle.get(layer, ""),
            "owner_name": meta.get("owner") or self.defaults.owners.get(domain, ""),
            "legal_basis": meta.get("legal_basis") or "",
            "retention": meta.get("retention") or "",
            "crs": meta.get("crs"),
            "keywords": tuple(meta.get("keywords") or ()),
            "theme": meta.get("theme") or self._theme(domain),
            "bindings": (Binding(kind="table", target=name, on_demand=bool(meta.get("on_demand"))),),
            "version": None,
            "related": tuple(meta.get("related") or ()),
            **part,
        }

    def _dashboards(self) -> None:
        for exposure in self.inputs.project.exposures.values():
            if exposure.type != "dashboard":
                continue
            name = f"dashboard.{exposure.name}"
            self.upstream[name] = set(exposure.depends_on)
            seen = [c for table in exposure.depends_on for c in self.tables.get(table, ())]
            grade = _highest([c.grade for c in seen], ("L1", "L2", "L3", "L4"))
            mark = _highest([c.pi_mark for c in seen], _MARKS)
            sensitive = sensitivity(grade, mark)
            terms = self.defaults.terms["internal" if sensitive == "public" else sensitive]  # a page is for the house
            self.parts[name] = {
                "kind": "dashboard",
                "layer": "out",
                "domain": "cockpit",
                "title_zh": exposure.label,
                "summary": exposure.description,
                "format": ("service", "网页"),
                "tables": (),
                "grade": grade,
                "pi_mark": mark,
                "share": terms.share,
                "open": terms.open,
                "update_cycle": self.defaults.update_cycle.get("out", ""),
                "owner_name": vocabularies.mapping("department").get(exposure.owner, exposure.owner),
                "legal_basis": "",
                "retention": "",
                "crs": None,
                "keywords": (),
                "theme": self._theme("cockpit"),
                "bindings": (Binding(kind="page", target=exposure.name),),
                "origin_zh": "",
                "version": None,
                "declared_in": "dbt_project/models/exposures.yml",
            }
            owner = self.parts[name]["owner_name"]
            self.parts[name]["owner_name"] = vocabularies.name_of("department", owner)

    # ------------------------------------------------------------------ what depends on other entries
    def _origins(self, name: str, edges: dict[str, list[str]]) -> list[str]:
        """The sources an entry comes from, directly or through other tables; a source comes from itself."""
        found, open_, seen = [], [name], set()
        while open_:
            current = open_.pop(0)
            if current in seen:
                continue
            seen.add(current)
            if self.parts[current]["kind"] == "source":
                found.append(current)
            open_ += edges.get(current, [])
        return sorted(found)

    def _entry(self, name: str, part: dict[str, Any], edges: dict[str, list[str]], origins: list[str]) -> Entry:
        part = dict(part)
        columns = [c for table in part["tables"] for c in table.columns]
        category, format_name = part.pop("format")
        line = self.register.get(name)
        sources = [self.parts[origin] for origin in origins]
        grade = part.pop("grade", None) or _highest([c.grade for c in columns], ("L1", "L2", "L3", "L4"))
        mark = part.pop("pi_mark", None) or _highest([c.pi_mark for c in columns], _MARKS)
        downstream = sorted(other for other, ups in edges.items() if name in ups)
        part["origin_zh"] = part["origin_zh"] or "、".join(source["title_zh"] for source in sources) or "平台声明"
        part["legal_basis"] = part["legal_basis"] or "；".join(
            _unique([s["legal_basis"] for s in sources]) or [self.defaults.legal_basis.get(part["layer"], "")]
        )
        part["retention"] = part["retention"] or self._retention(mark, sources)
        part["crs"] = part["crs"] or self._crs(columns, sources)
        related = part.pop("related", ())
        return Entry(
            id=name,
            classes=self._classes(part["domain"]),
            code=codes.full(line.code, self.provider) if line else None,
            former_codes=codes.former(line.code, self.provider) if line else (),
            published_on=line.published_on if line else None,
            provider_name=self.provider.name,
            provider_uscc=self.provider.uscc,
            format_category=category,
            format_name=format_name,
            related=tuple(_unique([*related, *edges.get(name, []), *downstream])),
            grade=grade,
            pi_mark=mark,
            upstream=tuple(edges.get(name, [])),
            downstream=tuple(downstream),
            **part,
        )

    def _retention(self, mark: str | None, sources: list[dict[str, Any]]) -> str:
        if mark == "N":
            return self.defaults.retention_public
        each = "；".join(f"{s['title_zh']} {s['retention']}" for s in sources)
        return f"{self.defaults.retention_personal}：{each}" if each else ""

    @staticmethod
    def _crs(columns: list[EntryColumn], sources: list[dict[str, Any]]) -> str | None:
        """Coordinate system of a table with coordinates: the column that tells it, else that of its sources."""
        if not any(c.unit == "deg" for c in columns):
            return None
        if any(c.name == "crs" for c in columns):
            return "见坐标系列"
        return "、".join(_unique(s["crs"] or "" for s in sources)) or None

    def _classes(self, domain: str) -> tuple[ClassLevel, ...]:
        prefix, detail = self.provider.prefix, self.provider.domains.get(domain)
        levels = [("类", prefix.category), ("项", prefix.item), ("目", prefix.catalogue)]
        if detail is not None:
            levels.append(("细目", detail))
        return tuple(ClassLevel(level=level, digits=node.digits, name=node.name) for level, node in levels)  # type: ignore[arg-type]

    def _theme(self, domain: str) -> str:
        return self.defaults.theme.get(domain) or self.defaults.theme["default"]


def _relative(path: Path) -> str:
    root = settings().repo_root
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _refused(problem: str) -> DeclarationError:
    return DeclarationError(
        "TIYU-CAT-0011", "目录声明不合格，拒绝使用", "按列出的位置修改 catalog/entries 下的文件", [problem]
    )
