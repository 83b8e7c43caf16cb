"""A decoder that gives plain numbers as numbers and one that gives them as text end in the same rows and the same faults."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from catalog import contracts
from ingestion import decoders, split
from ingestion.decoders import json_rows, numbers
from ingestion.decoders import lines as decoder_lines
from ingestion.typed import plain_numbers, typed_columns

SHA = "0" * 64
KINDS = {"n": "INTEGER", "x": "DOUBLE", "big": "BIGINT", "t": "VARCHAR", "b": "BOOLEAN"}
PLAIN = ["1", "0", "-7", "2147483647", "12", "null", "180"]
ODD = ["1.5", "2.0", "-0", "-0.0", "2147483648", "-2147483649", "1e2", "1E400", "-1e400", "1e-400", "1e-40", "1.00000000000000000001", "0.1", "0.30000000000000004",
       "123456789012345678", "9007199254740993", "123456789012345678901234567890", "true", "false", "NaN", "Infinity", "-inf", "nan",
       '"12"', '" 12 "', '"1_000"', '"0x1F"', '"abc"', '""', '" "', '"1e5"', '"true"', '"{"', '":1"', '"a:"', '"\\u0031"', "{}", "[1]",
       '{"x":1}', "0x1F", "1.", ".5", "+5", "01", "1_000", "-", ""]  # fmt: skip
_VALUE = st.one_of(st.sampled_from(PLAIN), st.sampled_from(ODD))
_NAME = st.sampled_from([*KINDS, *KINDS, *KINDS, "unknown", "n"])
_RECORD = st.lists(st.tuples(_NAME, _VALUE), min_size=1, max_size=6)
CELLS = ["1", "0", "-7", "", " ", " 12 ", "+5", "1.5", "2.0", "1.00", "007", "0x1F", "0X1f", "2147483648", "1e2", "1e400", "nan", "inf",
         "Infinity", "-", "1_000", "abc", "1,5", '"', "\t3", "3\t", "１２", ".5", "5.", "-0", "9007199254740993", "true", "N/A", "NULL",
         "1 2", "3\r", "null"]  # fmt: skip


def contract() -> contracts.Contract:
    """A contract whose columns are those of `KINDS`, plain and optional."""
    base = contracts.load("venue.entry")
    prop = base.root.by_name["unit_id"]
    update = {"derive": None, "code_list": None, "identifier_kind": None}
    made = [prop.model_copy(update={**update, "name": n, "source_name": n, "type": kind}) for n, kind in KINDS.items()]
    root = base.root.model_copy(update={"properties": made, "rules": [], "renames": (), "corrections": ()})
    return base.model_copy(update={"objects": [root]})


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as made:
        made.execute("SET TimeZone = 'UTC'")
        yield made


CONTRACT = contract()
WANTED = plain_numbers(CONTRACT.root)


def ended(con, kind: str, content: bytes, wanted: dict[str, str]) -> tuple[object, int]:
    """Typed rows, faults of types, unreadable records and refusals of one object; how many columns came as numbers."""
    (found,) = decoders.decode_many({"kind": kind}, [(SHA, "f", content)], CONTRACT, numbers=wanted)
    table = found.tables.get(CONTRACT.root.table)
    issues = [(issue.record_no, issue.rule_id, issue.byte_from, issue.byte_to) for issue in found.issues]
    refused = {sha: error.code for sha, error in found.refusals.items()}
    if table is None or not table.num_rows:
        return ([], [], issues, refused, found.root_counts), 0
    as_numbers = sum(pa.types.is_primitive(table.schema.field(name).type) for name in KINDS)
    typed = typed_columns(con, CONTRACT.root, table)
    columns = {name: list(map(repr, column.to_pylist())) for name, column in typed.columns.items()}
    columns["no"] = list(map(repr, table["_record_no"].to_pylist()))
    wrong = {name: where.to_pylist() for name, where in typed.type_errors.items()}
    return (columns, wrong, issues, refused, found.root_counts), as_numbers


def both(con, kind: str, content: bytes) -> int:
    """Compare the two ways; returns how many columns came as numbers."""
    quick, as_numbers = ended(con, kind, content, WANTED)
    careful, as_text = ended(con, kind, content, {})
    assert as_text == 0
    assert quick == careful
    return as_numbers


def lines(records: list[list[tuple[str, str]]], colon: str = ":") -> bytes:
    made = ["{" + ",".join(f'"{name}"{colon}{value}' for name, value in record) + "}" for record in records]
    return ("\n".join(made) + "\n").encode()


def test_which_fields_may_be_numbers():
    assert WANTED == {"n": "INTEGER", "x": "DOUBLE", "big": "BIGINT"}
    base = contracts.load("venue.entry")
    assert split.numbers_of(base) == (plain_numbers(base.root) if split._by_columns(base.root) else {})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(_RECORD, min_size=1, max_size=4), colon=st.sampled_from([":", ":", ": ", " :", ":  "]))
@example(records=[[("n", "1"), ("x", "NaN")]], colon=":")
@example(records=[[("n", "true"), ("t", '"a"')]], colon=":")
@example(records=[[("n", '"12"'), ("t", "5")]], colon=":")
@example(records=[[("n", "1"), ("unknown", "null"), ("x", "null")]], colon=": ")
@example(records=[[("n", "1"), ("n", "2")]], colon=":")
@example(records=[[("x", '"{"')], [("n", "1")]], colon=":")
@example(records=[[("n", '"1_000"'), ("b", "true")]], colon=":")
@example(records=[[("n", '"1_000"'), ("t", "[1]")]], colon=":")
@example(records=[[("n", "true"), ("t", '"a:"'), ("b", "null")]], colon=":")
@example(records=[[("t", "5"), ("unknown", "1")]], colon=":")
@example(records=[[("t", "true"), ("unknown", "1"), ("x", "0.5")]], colon=":")
@example(records=[[("n", "7"), ("unknown", '"b"'), ("t", "null")]], colon=" :")
@example(records=[[("x", "2.5"), ("x", "2.5"), ("t", '""')]], colon=":  ")
def test_json_lines(con, records, colon):
    both(con, "ndjson", lines(records, colon))


@pytest.mark.parametrize("value", [*PLAIN, *ODD])
@pytest.mark.parametrize("name", [*KINDS])
def test_json_lines_with_one_odd_value_among_plain_ones(con, name, value):
    plain = [("n", "1"), ("x", "2.5"), ("t", '"a"')]
    both(
        con,
        "ndjson",
        lines([plain] * 3 + [[*(item for item in plain if item[0] != name), (name, value)]] + [plain] * 3),
    )


def test_plain_json_does_come_as_numbers(con):
    record = [("n", "1"), ("x", "-2.5e3"), ("t", '"2026-11-01T00:00:00+08:00"'), ("b", "true")]
    assert (
        both(con, "ndjson", lines([record] * 200)) == 2
    )  # whole numbers of 64 bits go by text: a double would round them
    assert both(con, "ndjson", lines([record] * 200, ": ")) == 2
    assert (
        both(con, "ndjson", lines([record] * 50 + [[("n", "null"), ("x", "1")]] + [record] * 50)) == 2
    )  # names are listed
    assert both(con, "ndjson", lines([record] * 200 + [[("n", "1.5")]])) == 0
    assert both(con, "ndjson", lines([record] * 200)[:-1] + b" }\n") == 0


def test_the_quotes_are_enough_without_true_false_and_null(con, monkeypatch):
    counts: list[int] = []

    def noted(raw: bytes) -> object:
        counts.append(len(raw))
        return numbers.count_values(raw)

    monkeypatch.setattr("ingestion.decoders.json_rows.count_values", noted)
    record = [("n", "1"), ("x", "-2.5e3"), ("t", '"2026-11-01T00:00:00+08:00"')]
    assert both(con, "ndjson", lines([record] * 200)) == 2
    for colon in (":", ": ", " :\t"):
        assert both(con, "ndjson", lines([[("n", "7"), *record[1:]]] * 200, colon)) == 2
    assert not counts
    assert both(con, "ndjson", lines([record] * 200, ": ")) == 2  # a one behind a blank may have been true
    assert len(counts) == 1
    both(con, "ndjson", lines([record, [*record, ("b", "null")]]))
    assert len(counts) == 2


@pytest.mark.parametrize("block", [7, 16, 64])
def test_blocks_do_not_hide_what_stands_across_them(monkeypatch, block):
    record = b'{"n":1,"t":"two","b":false}\n'
    monkeypatch.setattr(numbers, "_BLOCK", block)
    assert counted(record * 9) == numbers.Values(27, 9)
    assert numbers.count_words(record * 9) == 9
    with monkeypatch.context() as patch:
        patch.setattr(decoder_lines, "_BLOCK", block)
        assert decoder_lines.count_byte(record * 9, ord('"')) == 9 * 8
    for filler in range(12):
        raw = b'{"t":"' + b"x" * filler + b'","n":-1}\n'
        assert not numbers.may_hold_words(raw * 3 + raw.replace(b"x", b"~"))
        assert numbers.may_hold_words(raw * 3 + record)
        assert numbers.may_hold_words(raw * 3 + raw.replace(b"-1", b" 1"))
    assert counted(record.replace(b":", b": ") * 9) == numbers.Values(27, 18)
    assert counted(record.replace(b"two", "二：a:b".encode()) * 9) == numbers.Values(27, 9)
    for odd in (b'{"n":1,}', b'{"n" :1}', b'{"n":  1}', b'{"n":{}}', b'{"n":[]}', b'{"n":Infinity}', b'{"n":1 }'):
        for filler in range(12):
            raw = record * 3 + b'{"t":"' + b"x" * filler + b'"}\n' + odd + b"\n" + record
            for written in (raw, raw.replace(b"\n", b"\r\n")):
                assert counted(written) is None or numbers.count_words(written) is None, odd


@given(
    parts=st.lists(
        st.sampled_from([b"1234567", b"8", b".", b"/", b":", b"-", b"e", b"\xff", b"12345678901"]), max_size=12
    ),
    ends=st.integers(0, 3),
    block=st.sampled_from([8, 64, 256 * 1024]),
)
@example(parts=[b"12345678901", b"1234567"], ends=0, block=8)
@example(parts=[b"8"] + [b"/", b"1234567"] * 3, ends=1, block=8)
def test_long_numbers_are_seen_wherever_they_stand(parts, ends, block):
    raw = b"".join(parts)[: len(b"".join(parts)) - ends]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "_BLOCK", block)
        assert json_rows.long_number(np.frombuffer(raw, np.uint8)) == bool(re.search(rb"[0-9.]{18}", raw))


def counted(raw: bytes) -> numbers.Values | None:
    ends = np.flatnonzero(np.frombuffer(raw, np.uint8) == 10) + 1
    return numbers.count_values(raw) if numbers.close_well(raw, ends) else None


def test_a_source_whose_numbers_are_not_plain_is_not_tried_for_ever(con, monkeypatch):
    tried: list[int] = []
    real = numbers.count_values

    def noted(raw: bytes, *more: object) -> object:
        tried.append(len(raw))
        return real(raw, *more)

    monkeypatch.setattr("ingestion.decoders.json_rows.count_values", noted)
    objects = [(f"{n:064x}", f"f{n}", lines([[("n", '"1"')]])) for n in range(20)]
    found = list(decoders.decode_many({"kind": "ndjson"}, objects, CONTRACT, numbers=WANTED, chunk_bytes=1))
    assert len(found) == 20
    assert 1 <= len(tried) < 10


def table_of(rows: list[dict[str, str]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(KINDS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.fixed_dictionaries({name: st.sampled_from(CELLS) for name in KINDS}), min_size=1, max_size=4),
    ragged=st.booleans(),
)
def test_csv(con, rows, ragged):
    both(con, "csv", table_of(rows) + (b"1,2\n" if ragged else b""))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", [*KINDS])
def test_csv_with_one_odd_cell_among_plain_ones(con, name, cell):
    plain = {"n": "1", "x": "2.5", "big": "9007199254740993", "t": "a", "b": "是"}
    both(con, "csv", table_of([plain] * 3 + [plain | {name: cell}] + [plain] * 3))


def test_plain_csv_does_come_as_numbers(con):
    plain = {"n": "1", "x": "-2.5e3", "big": "9007199254740993", "t": "0.5 a", "b": "是"}
    assert both(con, "csv", table_of([plain] * 200)) == 3
    assert both(con, "csv", table_of([plain | {"n": "0x1F"}])) == 0


def test_groups_of_a_chunk_are_all_numbers_or_all_text(con):
    """Objects of one chunk may have other headers; one of them holds a cell that is no plain number."""
    first = b"n,x,t\n1,2.5,a\n"
    second = b"t,n,x\na,+1,2.5\n"
    objects = [("1" * 64, "a", first), ("2" * 64, "b", second)]
    (found,) = decoders.decode_many({"kind": "csv"}, objects, _optional(), numbers=WANTED)
    table = found.tables[CONTRACT.root.table]
    typed = typed_columns(con, CONTRACT.root, table)
    assert typed.columns["n"].to_pylist() == [1, 1]
    assert typed.columns["x"].to_pylist() == [2.5, 2.5]
    assert json.dumps(sorted(found.refusals)) == "[]"


def test_entries_of_a_package_are_all_numbers_or_all_text(con):
    """A plain number in one entry, in the next one that is none: one table all the same."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for number, value in enumerate(("1", "1.5", "2")):
            target.writestr(f"{number}.ndjson", f'{{"n":{value},"x":2.5,"t":"a"}}\n')
    objects = [("1" * 64, "a.zip", packed.getvalue()), ("2" * 64, "b.ndjson", b'{"n":3,"x":0.5,"t":"b"}\n')]
    options = {"kind": "ndjson", "container": "auto"}
    (found,) = decoders.decode_many(options, objects, CONTRACT, numbers=WANTED)
    typed = typed_columns(con, CONTRACT.root, found.tables[CONTRACT.root.table])
    assert typed.columns["n"].to_pylist() == [1, None, 2, 3]
    assert typed.columns["x"].to_pylist() == [2.5, 2.5, 2.5, 0.5]
    assert typed.type_errors["n"].to_pylist() == [False, True, False, False]


def _optional() -> contracts.Contract:
    drift = CONTRACT.root.drift.model_copy(update={"missing_column": "ignore"})
    return CONTRACT.model_copy(update={"objects": [CONTRACT.root.model_copy(update={"drift": drift})]})
