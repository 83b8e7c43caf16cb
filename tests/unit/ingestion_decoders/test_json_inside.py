"""Inside JSON records: what pointers find, what lists give, and the shapes that are refused with their place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from catalog.contracts import pointer
from ingestion import decoders
from ingestion.decoders.base import Layout, layout_of
from tests.unit.ingestion_decoders.contracts import contract


def nested(paths: dict[str, str] | None = None, lists: dict[str, dict[str, str]] | None = None, *fields: str) -> Any:
    """A contract in miniature: pointed fields, and lists (pointer → field → pointer in the element) as tables of that name."""
    made = contract(*fields, *(paths or {}))
    root = made.objects[0]
    for prop in root.properties:
        prop.path = (paths or {}).get(prop.source_name)
    for items, inner in (lists or {}).items():
        child = contract(*inner).objects[0]
        child.table, child.items, child.is_root = items, items, False
        for prop in child.properties:
            prop.path = inner.get(prop.source_name)
        made.objects.append(child)
    return made


def run(made: Any, *records: str | dict[str, Any], kind: str = "ndjson") -> Any:
    texts = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
    content = "\n".join(texts) if kind == "ndjson" else f'{{"items":[{",".join(texts)}]}}'
    return decoders.decode({"kind": kind}, content.encode(), object_name="o", object_sha256="a" * 64, contract=made)


def column(result: Any, name: str, table: str = "ods_t__t") -> list[str | None]:
    return result.tables[table][name].to_pylist()


def issues(result: Any) -> list[tuple[int, str, str]]:
    return [
        (issue.record_no, issue.rule_id, issue.reason_zh) for issue in sorted(result.issues, key=lambda i: i.record_no)
    ]


BOTH = pytest.mark.parametrize("kind", ["ndjson", "json_items"])


# ------------------------------------------------------------------ pointers
@pytest.mark.parametrize(
    ("path", "record", "value"),
    [
        ("/a/b", {"a": {"b": "x"}}, "x"),
        ("/a~1b/m~0n", {"a/b": {"m~n": 1.5}}, "1.5"),
        ("/a~01", {"a~1": "escaped once"}, "escaped once"),
        ("/a/1/b", {"a": [{"b": 1}, {"b": 2}]}, "2"),
        ("/a/1", {"a": {"1": "a member, not a place"}}, "a member, not a place"),
        ("/a/9", {"a": [1]}, None),
        ("/a/01", {"a": ["no leading zero", "x"]}, None),
        ("/a/b", {"a": {"b": None}}, None),
        ("/a/b", {"a": None}, None),
        ("/a/b", {}, None),
        ("/a/b", {"a": {"b": {"c": [1]}}}, '{"c":[1]}'),
        ("/a/\"b'", {"a": {"\"b'": "quotes"}}, "quotes"),
        ("/a/面积", {"a": {"面积": 3}}, "3"),
    ],
)
@BOTH
def test_a_pointer_finds_what_the_standard_says(path, record, value, kind):
    assert column(run(nested({"v": path}), record, kind=kind), "v") == [value]


def test_the_examples_of_the_standard():
    document = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8}  # fmt: skip
    found = {"/foo/0": "bar", "/a~1b": "1", "/c%d": "2", "/e^f": "3", "/g|h": "4", "/i\\j": "5", '/k"l': "6", "/ ": "7", "/m~0n": "8", "/": "0"}  # fmt: skip
    result = run(nested({f"c{n}": path for n, path in enumerate(found)} | {"rest": "/foo/1"}), document)
    assert [column(result, f"c{n}")[0] for n in range(len(found))] == list(found.values())


def test_pointers_are_taken_apart_and_put_together():
    assert pointer.tokens("/a~1b/~01/0") == ["a/b", "~1", "0"]
    assert pointer.tokens("") == []
    assert pointer.to_member("a/~b") == "/a~1~0b"
    assert pointer.above("/a/b/c") == ["/a", "/a/b"]
    assert pointer.above("/a") == []


def test_a_member_beside_a_pointer_keeps_its_own_value():
    result = run(
        nested({"city": "/address/city"}, None, "id", "address"), {"id": 1, "address": {"city": "沪", "no": 5}}
    )
    assert column(result, "address") == ['{"city":"沪","no":5}']
    assert column(result, "city") == ["沪"]


# ------------------------------------------------------------------ lists
@BOTH
def test_elements_are_rows_with_the_number_of_record_and_place(kind):
    made = nested(None, {"/laps": {"no": "/no", "speed": "/v/0"}, "/t/tags": {"tag": ""}}, "id")
    result = run(
        made,
        {"id": 1, "laps": [{"no": 1, "v": [2.5]}, {"no": 2}], "t": {"tags": ["a", 3, None, True]}},
        {"id": 2, "laps": [], "t": None},
        {"id": 3, "laps": None},
        {"id": 4},
        {"id": 5, "laps": [{"other": "not read"}]},
        kind=kind,
    )
    assert (result.issues, result.root_count) == ([], 5)
    assert column(result, "id") == ["1", "2", "3", "4", "5"]
    laps = result.tables["/laps"].select(["_record_no", "_item_no", "no", "speed"]).to_pylist()
    assert [tuple(row.values()) for row in laps] == [(1, 1, "1", "2.5"), (1, 2, "2", None), (5, 1, None, None)]
    assert column(result, "tag", "/t/tags") == ["a", "3", None, "true"]
    assert column(result, "_item_no", "/t/tags") == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("record", "rule", "place"),
    [
        ({"laps": 5}, "decode.not_a_list", "/laps"),
        ({"laps": {"no": 1}}, "decode.not_a_list", "/laps"),
        ({"laps": ""}, "decode.not_a_list", "/laps"),
        ({"laps": [{"no": 1}, 7]}, "decode.not_an_item", "/laps/1"),
        ({"laps": [None]}, "decode.not_an_item", "/laps/0"),
        ({"laps": [[1]]}, "decode.not_an_item", "/laps/0"),
        ({"laps": [{"no": 1}, {"v": 3}]}, "decode.not_nested", "/laps/1/v"),
        ('{"laps":[{"no":1},{"no":1,"no":2}]}', "decode.repeated_field", "/laps/1"),
        ('{"laps":[{"v":{"w":1,"w":2}}]}', "decode.repeated_field", "/laps/0/v"),
        ({"a": "text"}, "decode.not_nested", "/a"),
        ({"a": [1]}, "decode.not_nested", "/a"),
        ({"a": {"b": 1}}, "decode.not_nested", "/a/b"),
        ('{"a":{"b":{},"b":{}}}', "decode.repeated_field", "/a"),
        ({"t": 5}, "decode.not_nested", "/t"),
        ({"t": {"tags": "x"}}, "decode.not_a_list", "/t/tags"),
    ],
)
@BOTH
def test_another_shape_refuses_the_record_and_names_the_place(record, rule, place, kind):
    made = nested({"c": "/a/b/c"}, {"/laps": {"no": "/no", "w": "/v/w"}, "/t/tags": {"tag": ""}}, "id")
    result = run(made, {"id": 1, "laps": [{"no": 1}]}, record, {"id": 3, "t": {"tags": ["x"]}}, kind=kind)
    (issue,) = issues(result)
    assert issue[:2] == (2, rule)
    assert f" {place} " in issue[2]
    assert column(result, "id") == ["1", "3"]
    assert column(result, "_record_no", "/laps") == [1], "nothing of a refused record is a row"
    assert column(result, "_record_no", "/t/tags") == [3]
    assert result.root_count == 3


def test_numbers_inside_keep_every_digit_and_nothing_else_changes():
    made = nested({"n": "/a/n", "all": "/a"}, {"/laps": {"no": "/no", "all": "/v"}}, "id")
    long = "12345678901234567890123"
    record = f'{{"id":"x","a":{{"n":{long},"m":[{long},"{long}"]}},"laps":[{{"no":{long},"v":{{"q":-{long}.5e1}}}}]}}'
    result = run(made, record, '{"id":"y","a":{"n":1}}')
    assert column(result, "n") == [long, "1"]
    assert column(result, "all")[0] == f'{{"n":{long},"m":[{long},"{long}"]}}'
    assert column(result, "no", "/laps") == [long]
    assert column(result, "all", "/laps") == [f'{{"q":-{long}.5e1}}']


def test_what_is_no_json_inside_is_refused_as_everywhere():
    made = nested(None, {"/laps": {"no": "/no"}}, "id")
    deep = '{"laps":' + "[" * 70 + "]" * 70 + "}"
    result = run(made, '{"laps":[{"no":NaN}]}', '{"laps":[{"no":1},]}', deep, '{"laps":[{"no":"\\ud800"}]}')
    assert [rule for _, rule, _ in issues(result)][:3] == ["decode.not_a_number", "decode.bad_json", "decode.too_deep"]
    assert result.tables["/laps"].num_rows == 0


# ------------------------------------------------------------------ drift
def test_members_that_are_gone_into_are_known_and_others_are_not():
    made = nested({"c": "/a/c"}, {"/t/tags": {"tag": ""}}, "id")
    result = run(made, {"id": 1, "a": {"c": 1, "unnamed": 2}, "t": {"tags": [], "unnamed": 3}}, {"id": 2, "z": 1})
    assert issues(result) == [(2, "decode.unknown_field", "该记录含有契约未登记的字段")]


def test_the_layout_says_what_is_inside():
    layout = layout_of(nested({"c": "/a/c"}, {"/laps": {"no": "/no"}}, "id"))
    assert (layout.fields, layout.paths, layout.is_nested) == (("id", "c"), {"c": "/a/c"}, True)
    (laps,) = layout.lists
    assert (laps.items, laps.paths) == ("/laps", {"no": "/no"})
    assert not Layout("t", ("a",), frozenset(), allow_extra=False).is_nested


def test_a_long_list_is_read_whole():
    made = nested(None, {"/v": {"x": ""}}, "id")
    result = run(made, {"id": 1, "v": list(range(100_000))}, {"id": 2, "v": [7]})
    found = result.tables["/v"]
    assert found.num_rows == 100_001
    assert found["_item_no"][99_999].as_py() == 100_000
    assert found["x"][99_999].as_py() == "99999"
