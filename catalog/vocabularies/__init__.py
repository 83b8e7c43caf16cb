"""Code lists and business constants: one YAML file per vocabulary, `values` a list of rows.

Every row of a code list has `code` and `name` (Chinese); `spellings` lists what source systems write for it. The code,
the name and the spellings all map to the code, without regard to case or surrounding blanks.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from catalog import yamlfile
from catalog.problems import DeclarationError
from lake.errors import TiyuError
from lake.sql import quote_literal

FOLDER = Path(__file__).resolve().parent
_FILE_KEYS = {"title", "description", "source", "provenance", "values"}
_CODE = re.compile(r"^[A-Za-z0-9_./%℃·²³-]+$")


@lru_cache(maxsize=256)
def _read(path: Path, _modified: int, _size: int) -> dict[str, Any]:
    content = yamlfile.read(path)
    if problems := check_vocabulary(content):
        raise DeclarationError(
            "TIYU-CAT-0003", "代码表不合格，拒绝使用", "按列出的位置修改代码表文件", problems, file=path.name
        )
    return content


def check_vocabulary(content: Any) -> list[str]:
    """Problems of one vocabulary file: unknown keys, codes or spellings used twice, rows without code or name."""
    if not isinstance(content, dict) or set(content) - _FILE_KEYS or not {"title", "values"} <= set(content):
        return [f"keys must be title, values and optionally {sorted(_FILE_KEYS - {'title', 'values'})}"]
    problems: list[str] = []
    used: dict[str, str] = {}
    columns = set(content["values"][0]) | {"spellings"} if content["values"] else set()
    for row in content["values"]:
        code = row.get("code")
        if not isinstance(code, str) or not _CODE.match(code) or not row.get("name"):
            problems.append(f"row {row}: code (text) and name are needed")
            continue
        if set(row) - columns:
            problems.append(f"{code}: unknown keys {sorted(set(row) - columns)}")
        for text in {_normal(t) for t in (code, row["name"], *row.get("spellings", []))}:
            if used.setdefault(text, code) != code:
                problems.append(f"{code}: {text!r} already stands for {used[text]}")
    return problems or ([] if content["values"] else ["no values"])


def _normal(text: str) -> str:
    return text.strip().lower()


def names() -> list[str]:
    """Names of all vocabularies."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def exists(name: str) -> bool:
    """Whether there is a vocabulary of that name."""
    return name.isidentifier() and (FOLDER / f"{name}.yaml").is_file()


def title(name: str) -> str:
    """Chinese title of a vocabulary."""
    return _get(name)["title"]


def _get(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.yaml"
    if not exists(name):
        raise TiyuError("TIYU-CAT-0004", "没有这个代码表", f"可用的代码表：{'、'.join(names())}", 2, code_list=name)
    state = path.stat()
    return _read(path, state.st_mtime_ns, state.st_size)


def load(name: str) -> list[dict[str, Any]]:
    """Rows of a vocabulary: code, name, spellings and further columns of that list (district: population_count …).

    Raises TiyuError TIYU-CAT-0004 for an unknown name, DeclarationError TIYU-CAT-0003 for a faulty file.
    """
    return [dict(row) for row in _get(name)["values"]]


def codes(name: str) -> list[str]:
    """Codes of a vocabulary, in file order."""
    return [row["code"] for row in load(name)]


def name_of(name: str, code: str) -> str:
    """Chinese name of a code; the code itself where the list does not have it (a screen shows what it was given)."""
    return next((row["name"] for row in _get(name)["values"] if row["code"] == code), code)


def mapping(name: str) -> dict[str, str]:
    """Every accepted spelling (lower case, trimmed) with its code."""
    return {
        _normal(text): row["code"]
        for row in load(name)
        for text in (row["code"], row["name"], *row.get("spellings", []))
    }


def map_sql(name: str, expression: str) -> str:
    """DuckDB expression that turns a source spelling into its code.

    An unknown spelling stays as it is, so that the `in_list` rule refuses the row and the reason can show it.
    """
    branches: dict[str, list[str]] = {}
    for text, code in mapping(name).items():
        branches.setdefault(code, []).append(text)
    cases = " ".join(
        f"WHEN lower(trim({expression})) IN ({', '.join(quote_literal(t) for t in texts)}) THEN {quote_literal(code)}"
        for code, texts in branches.items()
    )
    return f"(CASE WHEN {expression} IS NULL THEN NULL {cases} ELSE trim({expression}) END)"
