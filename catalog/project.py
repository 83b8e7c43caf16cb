"""What the dbt project declares about its models, sources and exposures, read from its files without running dbt.

Dependencies are those that SQL names by `ref()` and `source()`, those of the macros it calls included: enough for
"which tables does this come from"; columns are a matter of lineage.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from catalog import yamlfile
from lake.settings import settings

_REF = re.compile(r"\bref\(\s*['\"](\w+)['\"]\s*\)")
_SOURCE = re.compile(r"\bsource\(\s*['\"]\w+['\"]\s*,\s*['\"](\w+)['\"]\s*\)")
_MACRO = re.compile(r"{%-?\s*macro\s+(\w+)\s*\(.*?{%-?\s*endmacro\s*-?%}", re.DOTALL)
_JINJA = re.compile(r"{{.*?}}|{%.*?%}", re.DOTALL)
_CALL = re.compile(r"\b(\w+)\s*\(")


@dataclass(frozen=True)
class Table:
    """A model or a declared source table. `sql` is None when the YAML describes a model that has no SQL file."""

    name: str
    description: str
    grain: str
    meta: dict[str, Any]
    yaml: Path
    is_source: bool
    sql: Path | None = None
    depends_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Exposure:
    """A use of tables outside dbt: a dashboard, a delivery, an open dataset."""

    name: str
    label: str
    type: str
    description: str
    owner: str
    depends_on: tuple[str, ...]


@dataclass(frozen=True)
class Project:
    """Tables by name, exposures by name, models that have SQL but are described nowhere."""

    tables: dict[str, Table] = field(default_factory=dict)
    exposures: dict[str, Exposure] = field(default_factory=dict)
    undescribed: dict[str, Path] = field(default_factory=dict)


def models_dir() -> Path:
    """Folder of the dbt models."""
    return settings().repo_root / "dbt_project" / "models"


def meta_of(element: dict[str, Any]) -> dict[str, Any]:
    """`meta` of a model, source table or column, wherever dbt allows it to stand."""
    return {**((element.get("config") or {}).get("meta") or {}), **(element.get("meta") or {})}


def split_description(text: str) -> tuple[str, str]:
    """Title and grain of a description that reads "title。粒度：一行是grain。"."""
    title, _, grain = text.partition("粒度：")
    return title.strip().rstrip("。"), grain.strip().rstrip("。").removeprefix("一行是")


def named(sql: str, macros: dict[str, frozenset[str]]) -> frozenset[str]:
    """Tables that SQL names by `ref()` and `source()`, itself or through the macros it calls."""
    found = set(_REF.findall(sql)) | set(_SOURCE.findall(sql))
    for block in _JINJA.findall(sql):
        for call in _CALL.findall(block):
            found |= macros.get(call, frozenset())
    return frozenset(found)


def _macros(folder: Path) -> dict[str, frozenset[str]]:
    bodies = {
        match.group(1): match.group(0)
        for file in sorted(folder.rglob("*.sql"))
        for match in _MACRO.finditer(file.read_text(encoding="utf-8"))
    }
    found: dict[str, frozenset[str]] = {name: frozenset() for name in bodies}
    for _ in bodies:  # a macro may call another: as many rounds as it takes
        latest = {name: named(body, {k: v for k, v in found.items() if k != name}) for name, body in bodies.items()}
        if latest == found:
            break
        found = latest
    return found


@lru_cache(maxsize=4)
def _read(models: Path, _key: tuple[tuple[str, int, int], ...]) -> Project:
    macros = _macros(models.parent / "macros")
    sql = {file.stem: file for file in sorted(models.rglob("*.sql"))}
    tables: dict[str, Table] = {}
    exposures: dict[str, Exposure] = {}
    for file in sorted([*models.rglob("*.yml"), *models.rglob("*.yaml")]):
        content = yamlfile.read(file) or {}
        for model in content.get("models") or []:
            tables[model["name"]] = _table(model, model["name"], file, sql.get(model["name"]), macros)
        for source in content.get("sources") or []:
            for table in source.get("tables") or []:
                name = table.get("identifier") or table["name"]
                tables.setdefault(name, _table(table, name, file, None, macros, is_source=True))
        for item in content.get("exposures") or []:
            text = " ".join(map(str, item.get("depends_on") or []))
            exposures[item["name"]] = Exposure(
                name=item["name"],
                label=item.get("label") or item["name"],
                type=item.get("type") or "",
                description=(item.get("description") or "").strip(),
                owner=(item.get("owner") or {}).get("name") or "",
                depends_on=tuple(sorted(named(text, {}))),
            )
    return Project(tables, exposures, {name: path for name, path in sql.items() if name not in tables})


def _table(
    element: dict[str, Any],
    name: str,
    file: Path,
    sql: Path | None,
    macros: dict[str, frozenset[str]],
    *,
    is_source: bool = False,
) -> Table:
    description, grain = split_description((element.get("description") or "").strip())
    uses = named(sql.read_text(encoding="utf-8"), macros) if sql else frozenset()
    return Table(name, description, grain, meta_of(element), file, is_source, sql, uses)


def load(models: Path | None = None) -> Project:
    """The project below `models` (default: the repository's), cached until a file changes."""
    folder = models or models_dir()
    if not folder.is_dir():
        return Project()
    files = [yamlfile.fingerprint(folder, pattern) for pattern in ("*.yml", "*.yaml", "*.sql")]
    macros = yamlfile.fingerprint(folder.parent / "macros", "*.sql") if (folder.parent / "macros").is_dir() else ()
    return _read(folder, tuple(item for part in [*files, macros] for item in part))
