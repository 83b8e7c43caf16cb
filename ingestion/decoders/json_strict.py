"""What a fast JSON reader lets pass although it is no JSON, or changes: found in all records at once, mended one by one.

The reader takes NaN, Infinity and a comma before a closing bracket, and reads a number with more digits than a double
holds as the nearest double. Texts that may hold such a thing (a search over all bytes says so, in doubt yes) are read
again by a reader that takes JSON as RFC 8259 has it, gives numbers digit by digit as sent, and bounds the depth.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.decoders.json_rows import BAD_JSON, OK, REPEATED_FIELD, UNKNOWN_FIELD, Extracted, long_number

MAX_DEPTH = 64

#: Not a number, an exponent of three digits, eighteen digits in a row, a comma before a bracket.
_SUSPECT = r"(?i)(?:[:,\[]\s*[-+]?(?:nan|inf))|(?:[0-9]e[-+]?[0-9]{3})|(?:[1-9][0-9.]{17})|(?:,\s*[}\]])"
_WORDS = (b"nan", b"NaN", b"NAN", b"Nan", b"inf", b"Inf", b"INF")
_BRACKETS = (b",}", b",]", b" }", b" ]", b"\t}", b"\t]", b"\n}", b"\n]", b"\r}", b"\r]")

NOT_A_NUMBER, LONE_SURROGATE, TOO_DEEP = 10, 11, 12  # states beside those of `json_rows`
_STATES = {
    "decode.not_a_number": NOT_A_NUMBER,
    "decode.lone_surrogate": LONE_SURROGATE,
    "decode.too_deep": TOO_DEEP,
    "decode.repeated_field": REPEATED_FIELD,
    "decode.bad_json": BAD_JSON,
}
REASONS = {
    "decode.not_a_number": "该记录含有 NaN 或 Infinity，不是合法的 JSON 数",
    "decode.lone_surrogate": "该记录含有不成对的代理字符（如 \\ud800），不是合法的文本",
    "decode.too_deep": f"该记录嵌套超过 {MAX_DEPTH} 层",
}
MAX_EXPLAINED = 1_000
"""Broken records of a chunk for which the exact reason is looked for."""


class _Number(str):
    """A number as it was written."""


class _Refused(Exception):
    """The text is no JSON that may be taken; the argument is the rule."""


def worth_a_look(raw: bytes, texts: int = 1) -> bool:
    """Whether any of the texts in these bytes may hold what :func:`suspects` looks for; cheap, and in doubt yes."""
    if any(word in raw for word in _WORDS) or any(pair in raw for pair in _BRACKETS):
        return True
    data = np.frombuffer(raw, dtype=np.uint8)
    opening = np.count_nonzero((data | 32) == 123)  # [ and {
    return (
        bool(opening >= texts + MAX_DEPTH)
        or long_number(data)
        or re.search(rb"[0-9][eE][-+]?[0-9]{3}", raw) is not None
    )


def suspects(texts: pa.Array) -> npt.NDArray[np.int64]:
    """Positions of the texts that must be read again."""
    matching = pc.match_substring_regex(texts, _SUSPECT)
    brackets = pc.add(pc.count_substring(texts, "["), pc.count_substring(texts, "{"))
    mask = pc.or_(pc.fill_null(matching, False), pc.fill_null(pc.greater(brackets, MAX_DEPTH), False))
    return np.flatnonzero(mask.to_numpy(zero_copy_only=False)).astype(np.int64)


def reread(text: str, fields: tuple[str, ...]) -> tuple[dict[str, str | None] | None, str | None]:
    """One text read strictly: the fields as text, or the rule that says why it is refused (see :data:`REASONS`).

    (None, None) when it is JSON but no object.
    """
    if depth(text) > MAX_DEPTH:
        return None, "decode.too_deep"
    try:
        found = json.loads(
            text, parse_int=_Number, parse_float=_Number, parse_constant=_no_constant, object_pairs_hook=_members
        )
        if not isinstance(found, dict):
            return None, None
        values = {field: _text(found[field]) if field in found else None for field in fields}
        if not fields:  # the whole text is asked about
            _written(found)
    except _Refused as refused:
        return None, str(refused)
    except (ValueError, RecursionError):
        return None, "decode.bad_json"
    return values, None


def why(text: str) -> str:
    """The rule by which a text that no reader takes is refused."""
    return reread(text, ())[1] or "decode.bad_json"


def depth(text: str) -> int:
    """How deep brackets nest, those in texts left out."""
    level = deepest = 0
    for mark in re.findall(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        if mark in "[{":
            level += 1
            deepest = max(deepest, level)
        elif mark in "]}":
            level -= 1
    return deepest


def _no_constant(name: str) -> Any:
    raise _Refused("decode.not_a_number")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Refused("decode.repeated_field")
    return found


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, _Number):
        return None if value is None else str(value)
    if isinstance(value, str):
        return _sound(value)
    return _written(value)


def _sound(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Refused("decode.lone_surrogate") from None
    return text


def _written(value: Any) -> str:
    """JSON again, with numbers as they were written."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_written(name)}:{_written(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, str):
        _sound(value)
    return json.dumps(value, ensure_ascii=False)


def judge(texts: pa.Array, raw: bytes, found: Extracted, fields: tuple[str, ...], *, plain: bool = False) -> None:
    """Mend what :func:`extract` gave of these texts (``raw`` are their bytes): values as they were sent, and the state of
    texts that are refused after all, or for a reason that can be told better. ``plain``: nothing of the kind is in them
    (`json_rows.Looked`)."""
    if not plain and worth_a_look(raw, len(texts)):
        _mend(texts, found, fields)
    for position in np.flatnonzero(found.state == BAD_JSON)[:MAX_EXPLAINED].tolist():
        found.state[position] = _STATES[why(texts[position].as_py())]


def _mend(texts: pa.Array, found: Extracted, fields: tuple[str, ...]) -> None:
    mended: dict[int, dict[str, str | None]] = {}
    for position in suspects(texts).tolist():
        if found.state[position] not in (OK, UNKNOWN_FIELD):
            continue
        values, rule = reread(texts[position].as_py(), fields)
        if rule is not None:
            found.state[position] = _STATES[rule]
        elif values is not None:
            mended[position] = values
    if mended:
        mask = np.zeros(len(texts), dtype=bool)
        mask[np.fromiter(mended, dtype=np.int64)] = True
        columns = {}
        for field in fields:
            new = pa.array([values[field] for values in mended.values()], pa.string())
            column = pa.concat_arrays(found.rows[field].chunks).cast(pa.string())
            columns[field] = pc.replace_with_mask(column, pa.array(mask), new)
        found.rows = pa.table(columns)


def with_exact_numbers(texts: pa.Array) -> tuple[pa.Array, str | None]:
    """The same texts, those that are :func:`suspects` written again with each number as a text between marks, so that the
    fast reader keeps every digit; and the mark (None where nothing was written again). All texts are sound."""
    positions = suspects(texts)
    if not len(positions):
        return texts, None
    mark = f"x{secrets.token_hex(12)}x"

    def marked(number: str) -> str:
        return f"{mark}{number}{mark}"

    again = [
        json.dumps(json.loads(text, parse_int=marked, parse_float=marked), ensure_ascii=False)
        for text in texts.take(pa.array(positions)).to_pylist()
    ]
    mask = np.zeros(len(texts), dtype=bool)
    mask[positions] = True
    return pc.replace_with_mask(texts, pa.array(mask), pa.array(again, texts.type)), mark


def without_mark_sql(text: str, mark: str) -> str:
    """SQL of a text without the marks of :func:`with_exact_numbers`, and without the quotes that they brought into JSON."""
    return f"regexp_replace({text}, '\"?{mark}([-+0-9.eE]*){mark}\"?', '\\1', 'g')"


def items_of(text: str, path: list[str]) -> tuple[list[str] | None, str | None]:
    """The records of a page at a path of names, each as JSON with its numbers as sent; or the rule that refuses the page.

    (None, None) when there is no list at the path.
    """
    if depth(text) > MAX_DEPTH:
        return None, "decode.too_deep"
    try:
        found: Any = json.loads(
            text, parse_int=_Number, parse_float=_Number, parse_constant=_no_constant, object_pairs_hook=_members
        )
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        if not isinstance(found, list):
            return None, None
        return [_written(item) for item in found], None
    except _Refused as refused:
        return None, str(refused)
    except (ValueError, RecursionError):
        return None, "decode.bad_json"
