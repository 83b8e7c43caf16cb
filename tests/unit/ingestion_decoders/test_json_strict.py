"""JSON as RFC 8259 has it, numbers digit by digit, bounded depth; what the fast reader lets pass is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion import decoders
from ingestion.decoders import json_strict
from tests.unit.ingestion_decoders.contracts import contract

TABLE = "ods_t__t"


def run(content: bytes, kind="ndjson", **options):
    what = contract("a")
    result = decoders.decode(
        {"kind": kind, **options}, content, object_name="页.json", object_sha256="a" * 64, contract=what
    )
    assert result.root_count == result.tables[TABLE].num_rows + len(result.issues)
    return result


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"12345678901234567890123", "12345678901234567890123"),
        (b"9007199254740993", "9007199254740993"),
        (b"0.1234567890123456789", "0.1234567890123456789"),
        (b"1234567890.12345678901", "1234567890.12345678901"),
        (b"1e400", "1e400"),
        (b'{"b":0.1234567890123456789}', '{"b":0.1234567890123456789}'),
        (b'[1.5,{"c":"NaN, Infinity"}]', '[1.5,{"c":"NaN, Infinity"}]'),
        (b'"x ,} nan"', "x ,} nan"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b"[" * 60 + b"]" * 60, "[" * 60 + "]" * 60),
    ],
)
def test_values_are_as_sent(value, text):
    record = b'{"a":' + value + b"}"
    for content, options in (
        (record + b'\n{"a":1}', {}),
        (b'{"items":[' + record + b',{"a":1}]}', {"kind": "json_items"}),
    ):
        result = run(content, **options)
        assert result.tables[TABLE]["a"].to_pylist() == [text, "1"]


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (b"NaN", "not_a_number"),
        (b"-Infinity", "not_a_number"),
        (b"[1,{\"b\":NaN}]", "not_a_number"),
        (b"nan", "bad_json"),
        (b"[1,]", "bad_json"),
        (b'{"b":1 , }', "bad_json"),
        (b'"\\ud800"', "lone_surrogate"),
        (b'"\\udc00\\ud800"', "lone_surrogate"),
        (b"[" * 65 + b"]" * 65, "too_deep"),
        (b"[" * 200_000, "too_deep"),
        (b'1,"a":2', "repeated_field"),
    ],
)  # fmt: skip
def test_what_is_no_json_costs_its_record_and_says_why(value, rule):
    record = b'{"a":' + value + b"}"
    result = run(b'{"a":1}\n' + record + b'\n{"a":3}')
    assert result.tables[TABLE]["a"].to_pylist() == ["1", "3"]
    assert [(i.record_no, i.rule_id) for i in result.issues] == [(2, f"decode.{rule}")]


def test_a_page_that_is_no_json_is_one_unreadable_record():
    (issue,) = run(b'{"items":[{"a":NaN}]}', "json_items").issues
    assert (issue.rule_id, issue.byte_from, issue.byte_to) == ("decode.not_a_number", 0, 21)
    assert "整页" in issue.reason_zh


def test_a_document_that_is_a_list():
    assert run(b'[{"a":1},{"a":2}]', "json_items", itemsPath="$").tables[TABLE]["a"].to_pylist() == ["1", "2"]


@settings(max_examples=300, deadline=None)
@given(st.text('0123456789.,:[]{} -+eE"naif\n', min_size=1, max_size=60))
def test_the_cheap_look_misses_nothing_that_the_exact_one_finds(text):
    import pyarrow as pa

    if len(json_strict.suspects(pa.array([text]))):
        assert json_strict.worth_a_look(text.encode())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.integers(), st.decimals(allow_nan=False, allow_infinity=False).map(str)), max_size=6))
def test_no_digit_of_a_number_is_lost(numbers):
    from decimal import Decimal

    texts = [f"{Decimal(str(n)):f}" for n in numbers if abs(Decimal(str(n)).adjusted()) < 60]
    content = "\n".join(f'{{"a":{text}}}' for text in texts)
    found = run(content.encode()).tables[TABLE]["a"].to_pylist()
    for sent, read in zip(texts, found, strict=True):
        assert Decimal(read) == Decimal(sent) or (
            len(sent.replace(".", "").strip("-0")) < 18 and float(read) == float(sent)
        )
