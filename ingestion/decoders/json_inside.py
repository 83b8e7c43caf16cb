"""Columns and rows taken from inside JSON records, at the places the contract points to (RFC 6901), all records at once.

What nobody points to is not read. A record in which a place is of another shape than the contract says (a text where an
object should be, a member named twice, a list that is none) is refused with that place: read on, its columns would be
empty and nobody would know. Absent and null are the same at every depth, and a list of either has no rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.contracts import pointer
from ingestion.decoders import json_strict
from ingestion.decoders.base import ITEM_NO, ItemList, Layout
from ingestion.decoders.json_rows import (
    NOT_A_LIST,
    NOT_AN_ITEM,
    NOT_NESTED,
    OK,
    REPEATED_INSIDE,
    UNKNOWN_FIELD,
    Extracted,
    Looked,
    connection,
    extract,
)
from lake.sql import quote_literal, quote_whole

REASONS = {
    REPEATED_INSIDE: ("decode.repeated_field", "该记录的 {place} 处同一字段出现多次"),
    NOT_NESTED: ("decode.not_nested", "该记录的 {place} 处不是契约所说的结构（应为对象，或按序号取值的列表）"),
    NOT_A_LIST: ("decode.not_a_list", "该记录的 {place} 处不是列表"),
    NOT_AN_ITEM: ("decode.not_an_item", "该记录的列表项 {place} 不是契约所说的结构"),
}
"""State → rule and reason; ``{place}`` is a JSON Pointer."""
TEXT_NO = "::text"
"""Column of elements: the position of the text that they stand in. No field of a source is called so."""
_WRONG, _NO_ITEM = "::wrong", "::no_item"


def read(texts: pa.Array, raw: bytes, layout: Layout, looked: Looked | None = None) -> Extracted:
    """Read JSON objects into the text columns of a layout (see `json_rows.extract`), with what lies inside them.

    ``raw`` are the bytes of the texts, ``looked`` what a look at them found.
    """
    fields = tuple(field for field in layout.fields if field not in layout.paths)
    into = [pointer.first(path) for path in layout.paths.values()]
    into += [pointer.first(item.items) for item in layout.lists]
    members = fields or tuple(dict.fromkeys(into))[:1]
    found = extract(texts, members, looked, frozenset(into))
    plain = looked is not None and looked.plain
    json_strict.judge(texts, raw, found, members, plain=plain)
    if not layout.is_nested:
        return found
    at = np.flatnonzero(np.isin(found.state, (OK, UNKNOWN_FIELD))).astype(np.int64)
    inside = texts if len(at) == len(texts) else texts.take(pa.array(at))
    mark = None
    if not plain and json_strict.worth_a_look(raw, len(texts)):
        inside, mark = json_strict.with_exact_numbers(inside)
    con = connection()
    con.register("_inside", pa.table({"n": pa.array(at, pa.int64()), "text": inside}))
    try:
        columns = _columns(con, found, layout.paths, mark)
        for item in layout.lists:
            found.lists[item.table] = _items(con, found, item, mark)
    finally:
        con.unregister("_inside")
    rows = {name: found.rows[name] for name in fields}
    for name, values in columns.items():
        rows[name] = _spread(values, at, len(texts))
    found.rows = pa.table({name: rows[name] for name in layout.fields})
    return found


def reason_of(found: Extracted, position: int) -> tuple[str, str]:
    """Rule and reason of a text that was refused for what lies inside it."""
    rule, reason = REASONS[int(found.state[position])]
    return rule, reason.format(place=found.places.get(position, ""))


def _spread(values: pa.Array, at: npt.NDArray[np.int64], total: int) -> pa.Array:
    """Values of some texts as a column of all, null for the others."""
    if len(values) == total:
        return values
    position = np.full(total, -1, dtype=np.int64)
    position[at] = np.arange(len(at))
    return values.take(pa.array(position, mask=position < 0))


def _columns(
    con: duckdb.DuckDBPyConnection, found: Extracted, paths: dict[str, str], mark: str | None
) -> dict[str, pa.Array]:
    if not paths:
        return {}
    test, places = _shape_test("text", paths.values())
    read = con.execute(
        f"select n as {quote_whole(TEXT_NO)}, {_selected(paths, mark)}, wrong as {quote_whole(_WRONG)} from"
        f" (select n, json_extract_string(text, {_list(paths.values())}) as v, {test} as wrong from _inside)"
    ).to_arrow_table()
    _refuse(found, read[TEXT_NO], read[_WRONG], places)
    return {name: read[name].combine_chunks() for name in paths}


def _items(con: duckdb.DuckDBPyConnection, found: Extracted, item: ItemList, mark: str | None) -> pa.Table:
    """The elements of one list in all texts: `TEXT_NO`, ``_item_no`` and the fields."""
    where = quote_literal(item.items)
    test, places = _shape_test("text", [item.items])
    lists = con.execute(
        f"select n, {test} as wrong, json_type(text, {where}) not in ('ARRAY', 'NULL') as is_no_list from _inside"
    ).to_arrow_table()
    _refuse(found, lists["n"], lists["wrong"], places)
    for position in lists["n"].filter(lists["is_no_list"]).to_pylist():
        _mark(found, position, NOT_A_LIST, item.items)
    test, places = _shape_test("item", item.paths.values())
    rows = con.execute(
        f"select n as {quote_whole(TEXT_NO)}, {ITEM_NO}, {_selected(item.paths, mark)}, wrong as {quote_whole(_WRONG)},"
        f" not ({_is_item(item)}) as {quote_whole(_NO_ITEM)} from"
        f" (select n, {ITEM_NO}, json_extract_string(item, {_list(item.paths.values())}) as v, {test} as wrong,"
        f" json_type(item) as kind from"
        f" (select n, unnest(range(1, len(items) + 1)) as {ITEM_NO}, unnest(items) as item from"
        f" (select n, json_extract(json_extract(text, {where}), '$[*]') as items from _inside"
        f" where json_type(text, {where}) = 'ARRAY')))"
    ).to_arrow_table()
    odd = rows.filter(pc.or_(rows[_NO_ITEM], pc.is_valid(rows[_WRONG]))).select([TEXT_NO, ITEM_NO, _WRONG])
    for position, number, wrong in zip(*(column.to_pylist() for column in odd.columns), strict=True):
        element = f"{item.items}/{number - 1}"
        if wrong is None:
            _mark(found, position, NOT_AN_ITEM, element)
        else:
            state, inner = places[wrong]
            _mark(found, position, state, element + inner)
    return rows.drop_columns([_WRONG, _NO_ITEM])


def _is_item(item: ItemList) -> str:
    """SQL: whether an element (of type ``kind``) is what its fields are taken from. One that is a value by itself may be
    anything."""
    firsts = [pointer.tokens(path)[:1] for path in item.paths.values()]
    if not all(firsts):
        return "true"
    numbered = all(token.isdecimal() for (token,) in firsts)
    return "kind in ('OBJECT', 'ARRAY')" if numbered else "kind = 'OBJECT'"


def _shape_test(column: str, pointers: Iterable[str]) -> tuple[str, list[tuple[int, str]]]:
    """SQL that gives, for what the pointers go through, the number of the first thing that is wrong (null when nothing
    is), and for each number the state and the place."""
    next_steps: dict[str, set[str]] = defaultdict(set)
    for path in pointers:
        steps = pointer.tokens(path)
        for depth, place in enumerate(pointer.above(path), 1):
            next_steps[place].add(steps[depth])
    cases: list[str] = []
    places: list[tuple[int, str]] = []
    for place, steps_of in sorted(next_steps.items()):
        at = quote_literal(place)
        kinds = "'OBJECT', 'NULL'" + (", 'ARRAY'" if all(step.isdecimal() for step in steps_of) else "")
        names = f"json_keys({column}, {at})"
        for test, state in (
            (f"json_type({column}, {at}) not in ({kinds})", NOT_NESTED),
            (f"len({names}) > len(list_distinct({names}))", REPEATED_INSIDE),
        ):
            cases.append(f"when {test} then {len(places)}")
            places.append((state, place))
    if column == "item":
        cases.append(f"when len(json_keys(item)) > len(list_distinct(json_keys(item))) then {len(places)}")
        places.append((REPEATED_INSIDE, ""))
    return (f"case {' '.join(cases)} end" if cases else "null::integer"), places


def _refuse(found: Extracted, n: pa.ChunkedArray, wrong: pa.ChunkedArray, places: list[tuple[int, str]]) -> None:
    there = pc.is_valid(wrong)
    for position, number in zip(n.filter(there).to_pylist(), wrong.filter(there).to_pylist(), strict=True):
        _mark(found, position, *places[number])


def _mark(found: Extracted, position: int, state: int, place: str) -> None:
    """The first thing that is wrong with a text is told."""
    if position not in found.places:
        found.state[position] = state
        found.places[position] = place


def _list(pointers: Iterable[str]) -> str:
    return "[" + ", ".join(quote_literal(path or "$") for path in pointers) + "]"


def _selected(paths: dict[str, str], mark: str | None) -> str:
    return ", ".join(
        f"{json_strict.without_mark_sql(f'v[{number}]', mark) if mark else f'v[{number}]'} as {quote_whole(name)}"
        for number, name in enumerate(paths, 1)
    )


__all__ = ["REASONS", "TEXT_NO", "read", "reason_of"]
