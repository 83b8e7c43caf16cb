"""The look at all bytes of JSON texts saves work and changes nothing: in doubt it says so."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingestion import decoders
from ingestion.decoders import json_rows, ndjson
from tests.unit.ingestion_decoders.contracts import contract

TABLE = "ods_t__t"
_VALUE = st.one_of(
    st.text('0123456789.,: -+eE"naiflrus{}[]\\\t', min_size=1, max_size=14),
    st.sampled_from(["1", '"x"', "null", "true", "-1.5", "1e5", "NaN", "-Infinity", "nan", "-nan", "1e100", "1E-300", '":a"', '"a:"',
                     "123456789012345678", "0.1234567890123456789", '{"a":1}', '{"c":null}', "[1]", '"\\u0061"', " 1", "  1", "1 "]),
)  # fmt: skip
_NAME = st.sampled_from(["a", "b", "a", "b", "c", "\\u0061"])
_RECORD = st.lists(st.tuples(_NAME, _VALUE), min_size=1, max_size=3)


def decoded(content: bytes):
    (result,) = decoders.decode_many({"kind": "ndjson"}, [("s", "n", content)], contract("a", "b"))
    rows = result.tables[TABLE].to_pylist() if TABLE in result.tables else []
    issues = [(i.record_no, i.rule_id) for i in result.issues]
    return rows, issues, result.root_counts, {sha: error.code for sha, error in result.refusals.items()}


@settings(max_examples=150, deadline=None)
@given(records=st.lists(_RECORD, min_size=1, max_size=4), colon=st.sampled_from([":", ": ", " :", ":  "]))
@example(records=[[("a", "1"), ("b", "NaN")]], colon=": ")
@example(records=[[("a", '"x"'), ("a", "null")], [("a", "1"), ("b", '"y"')]], colon=":")
def test_what_is_decoded_does_not_depend_on_the_look(records, colon):
    lines = ["{" + ",".join(f'"{name}"{colon}{value}' for name, value in record) + "}" for record in records]
    content = "\n".join(lines).encode()
    quick = decoded(content)
    real, ndjson.look = ndjson.look, lambda raw: json_rows.Looked(None, False)
    try:
        careful = decoded(content)
    finally:
        ndjson.look = real
    assert quick == careful


@pytest.mark.parametrize("block", [7, 16, 64])
def test_blocks_do_not_hide_what_stands_across_them(monkeypatch, block):
    record = b'{"a":1,"b":"two"}\n'
    monkeypatch.setattr(json_rows, "_BLOCK", block)
    assert json_rows.look(record * 9) == json_rows.Looked(18, True)
    for odd in (
        b'{"a":NaN}',
        b'{"a":1,}',
        b'{"a":1e100}',
        b'{"a": -inf}',
        b'{"a":{}}',
        b'{"a":nan}',
        b'{"a":123456789012345678}',
    ):
        for filler in range(12):
            assert not json_rows.look(b" " * filler + b'{"b":"' + b"x" * filler + b'"}\n' + odd).plain, (odd, filler)


def test_a_usual_delivery_needs_no_second_look():
    record = b'{"athlete_no":"SHA000001","sampled_at":"2026-11-01T00:00:00+08:00","lng":121.5, "ok": true, "n": null}\n'
    assert json_rows.look(record * 5) == json_rows.Looked(25, True)
