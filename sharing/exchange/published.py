"""Judge a document by a published JSON Schema, in words its author can act on.

A manifest and a receipt are written by two houses: what is wrong is named by field, with what the field may hold. The
value itself is never repeated, it may be anything.
"""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema

_TYPES_ZH = {
    "object": "对象", "string": "字符串", "integer": "整数", "number": "数值", "array": "数组", "boolean": "true 或 false", "null": "null",
}  # fmt: skip
_FIELD = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")
_BOM = b"\xef\xbb\xbf"


def parse(data: bytes) -> tuple[Any, str | None]:
    """The JSON document in ``data``, or None and what keeps it from being one (encoding, or line and column)."""
    if data.startswith(_BOM):
        return None, "文件开头有 BOM，应为无 BOM 的 UTF-8"
    try:
        return json.loads(data.decode("utf-8")), None
    except UnicodeDecodeError:
        return None, "不是 UTF-8"
    except json.JSONDecodeError as error:
        return None, f"不是合法 JSON：第 {error.lineno} 行第 {error.colno} 列起读不下去"
    except (ValueError, RecursionError):  # e.g. a number of ten thousand digits, brackets without end
        return None, "不是合法 JSON"


def problems(document: Any, schema: dict[str, Any], limit: int = 5) -> list[str]:
    """What in ``document`` does not fit ``schema``, at most ``limit`` lines, each once; empty when it fits."""
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    return list(dict.fromkeys(_say(error) for error in validator.iter_errors(document)))[:limit]


def _say(error: jsonschema.ValidationError) -> str:
    where = "/".join(map(str, error.absolute_path))
    return f"{where}：{_what(error)}" if where else _what(error)


def _what(error: jsonschema.ValidationError) -> str:
    value, rule = error.validator_value, str(error.validator)
    if rule == "required":
        return "缺少字段 " + "、".join(name for name in value if name not in error.instance)
    if rule == "additionalProperties":
        extra = sorted(set(error.instance) - set(error.schema.get("properties", {})))
        return "有规范以外的字段 " + "、".join(name if _FIELD.match(name) else "（名称略）" for name in extra[:5])
    if rule == "enum":
        return "只能是 " + "、".join(map(str, value))
    if rule == "const":
        return f"只能是 {json.dumps(value, ensure_ascii=False)}"
    if rule == "type":
        kinds = [value] if isinstance(value, str) else value
        return "应为" + "或".join(_TYPES_ZH.get(kind, kind) for kind in kinds)
    if rule in ("minimum", "maximum"):
        return f"不得{'小' if rule == 'minimum' else '大'}于 {value}"
    if rule in ("minItems", "maxItems"):
        return f"{'至少' if rule == 'minItems' else '最多'} {value} 项"
    hint = error.schema.get("description") or value
    return f"格式不符（{hint}）" if isinstance(hint, str) else f"不符合规范（{rule}）"
