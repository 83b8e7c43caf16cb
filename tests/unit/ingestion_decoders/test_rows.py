"""Row formats: text exactly as sent, a broken record costs that record only, nothing is lost without a word."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import time

import openpyxl
import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion import decoders
from lake.errors import TiyuError
from tests.unit.ingestion_decoders.contracts import contract

TABLE = "ods_t__t"


def run(kind: str, content: bytes, what=None, **options):
    what = what or contract("编号", "名称", "值")
    result = decoders.decode(
        {"kind": kind, **options}, content, object_name="目录/文件", object_sha256="a" * 64, contract=what
    )
    assert result.root_count == result.tables[TABLE].num_rows + len(result.issues)
    return result


def rows(result) -> list[tuple]:
    return [tuple(row.values()) for row in result.tables[TABLE].to_pylist()]


# ------------------------------------------------------------------ csv
def test_csv_values_are_text_as_sent():
    result = run("csv", '编号,名称,值\r\n007,"a,""b""", 1.50 \r\n8,,""\r\n'.encode())
    assert rows(result) == [("007", 'a,"b"', " 1.50 ", 1), ("8", None, None, 2)]
    assert result.issues == []


def test_csv_columns_may_come_in_any_order_and_with_byte_order_mark():
    result = run("csv", "\ufeff 值 ,编号,名称\n1,2,3\n".encode())
    assert rows(result) == [("2", "3", "1", 1)]


def test_gb18030_bad_byte_costs_one_row():
    good = "编号,名称,值\n1,徐汇体育馆,2\n".encode("gb18030")
    bad = b"2,\xd0\xec\xff\xff,3\n"
    tail = "3,𠀀馆,4\n".encode("gb18030")  # a four-byte character, with digits inside
    result = run("csv", good + bad + tail, encoding="gb18030")
    assert rows(result) == [("1", "徐汇体育馆", "2", 1), ("3", "𠀀馆", "4", 3)]
    (issue,) = result.issues
    assert (issue.rule_id, issue.record_no) == ("decode.bad_encoding", 2)
    assert (good + bad + tail)[issue.byte_from : issue.byte_to] == bad.rstrip(b"\n") == issue.preview_bytes


def test_gb18030_lead_byte_before_the_line_end_does_not_swallow_the_next_row():
    content = "编号,名称,值\n".encode("gb18030") + b"1,x,\x81\n2,y,3\n"
    result = run("csv", content, encoding="gb18030")
    assert rows(result) == [("2", "y", "3", 2)]


@pytest.mark.parametrize(
    ("line", "rule"),
    [("1,2", "field_count"), ("1,2,3,4", "field_count"), ('1,"2,3', "bad_quote"), ('1,"2"x,3', "bad_quote"),
     ('x"y, z"w,1,2', "bad_quote")],
)  # fmt: skip
def test_broken_csv_line_is_quarantined_alone(line, rule):
    result = run("csv", f"编号,名称,值\n0,a,b\n{line}\n9,c,d\n".encode())
    assert ("9", "c", "d", 3) in rows(result)
    assert ("0", "a", "b", 1) in rows(result)
    assert [issue.record_no for issue in result.issues] in ([2], [])
    if result.issues:
        assert result.issues[0].rule_id == f"decode.{rule}"
    else:
        assert line == '1,"2"x,3'  # readers agree on three fields: kept as it can be read


def test_line_break_in_quotes_is_kept_beside_a_broken_line():
    result = run("csv", '编号,名称,值\n1,"两\n行",2\n3,4\n5,6,7\n'.encode())
    assert rows(result) == [("1", "两\n行", "2", 1), ("5", "6", "7", 3)]
    assert [issue.record_no for issue in result.issues] == [2]


def test_stray_quote_does_not_eat_the_file():
    body = "".join(f"{n},n{n},{n}\n" for n in range(50))
    result = run("csv", ('编号,名称,值\n1,"坏,2\n' + body).encode())
    assert len(rows(result)) == 50
    assert [issue.record_no for issue in result.issues] == [1]


@pytest.mark.parametrize(
    ("header", "code", "word"),
    [("编号,名称", "TIYU-ING-0210", "值"), ("编号,名称,值,身份证", "TIYU-ING-0211", "身份证"),
     ("编号,名称,值,值", "TIYU-ING-0214", "值"), ("", "TIYU-ING-0213", "表头"), ('编号,"名称', "TIYU-ING-0213", "表头")],
)  # fmt: skip
def test_csv_header_is_checked(header, code, word):
    with pytest.raises(TiyuError, match=word) as caught:
        run("csv", f"{header}\n1,2,3,4\n".encode() if header else b"")
    assert caught.value.code == code
    assert caught.value.context["object"] == "目录/文件"
    assert caught.value.hint_zh


def test_drift_of_the_contract_lets_columns_pass():
    content = "编号,名称,备注\n1,2,3\n".encode()
    result = run("csv", content, contract("编号", "名称", "值", unknown="warn", missing="warn"))
    assert rows(result) == [("1", "2", None, 1)]


def test_unknown_decoder_and_option_are_refused():
    for options, code in (({"kind": "pdf"}, "0201"), ({"kind": "csv", "sep": ";"}, "0202"),
                          ({"kind": "csv", "encoding": "latin-1"}, "0202")):  # fmt: skip
        with pytest.raises(TiyuError) as caught:
            decoders.decode(options, b"", object_name="x", object_sha256="x", contract=contract("a"))
        assert caught.value.code == f"TIYU-ING-{code}"


# ------------------------------------------------------------------ ndjson, json_items
def test_ndjson_scalars_become_text_and_broken_lines_are_quarantined():
    lines = [
        b'{"a":12,"b":null}',
        b"",
        b'{"a":true,"b":{"c":[1]}}',
        b'{"a":1',
        b"[1]",
        b'{"a":1,"b":"\xff"}',
        b'{"a":1,"a":2}',
        b'{"a":1,"zz":2}',
        b'{"b":"x\\u4e2d"}',
    ]
    content = b"\r\n".join(lines)
    result = run("ndjson", content, contract("a", "b"))
    assert rows(result) == [("12", None, 1), ("true", '{"c":[1]}', 3), (None, "x中", 9)]
    found = {issue.record_no: issue for issue in result.issues}
    assert {no: issue.rule_id for no, issue in found.items()} == {
        4: "decode.bad_json",
        5: "decode.not_object",
        6: "decode.bad_encoding",
        7: "decode.repeated_field",
        8: "decode.unknown_field",
    }
    for number, issue in found.items():
        assert content[issue.byte_from : issue.byte_to] == lines[number - 1]


def test_ndjson_field_of_every_record_that_is_unknown_refuses_the_object():
    with pytest.raises(TiyuError, match="zz") as caught:
        run("ndjson", b'{"a":1,"zz":2}\n{"a":3,"zz":4}\n', contract("a"))
    assert caught.value.code == "TIYU-ING-0211"


def test_json_items_pages():
    page = {"items": [{"a": 1.5, "b": None}, 3, {"a": "x", "b": "y"}], "next_cursor": None}
    result = run("json_items", json.dumps(page).encode(), contract("a", "b"), itemsPath="items")
    assert rows(result) == [("1.5", None, 1), ("x", "y", 3)]
    assert [(issue.record_no, issue.preview_bytes) for issue in result.issues] == [(2, b"3")]


def test_cut_page_is_one_unreadable_record_with_its_range():
    result = run("json_items", b'{"items":[{"a":1},{"a"', contract("a"))
    (issue,) = result.issues
    assert (issue.byte_from, issue.byte_to, result.root_count) == (0, 22, 1)


def test_page_without_list_is_refused():
    with pytest.raises(TiyuError) as caught:
        run("json_items", b'{"error":"x"}', contract("a"))
    assert caught.value.code == "TIYU-ING-0212"


# ------------------------------------------------------------------ xlsx
def workbook(*lines, sheet="赛事填报") -> bytes:
    book = openpyxl.Workbook()
    book.active.title = sheet
    for line in lines:
        book.active.append(line)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def test_xlsx_title_dates_numbers_and_blank_rows():
    content = workbook(
        ["填报表（演示）"],
        ["编号", "名称", "值"],
        ["001", dt.date(2026, 3, 1), 12],
        [],
        ["002", dt.datetime(2026, 3, 1, 8, 30), 12.5],  # noqa: DTZ001 - Excel knows no zone
        ["", " ", None],
        [],
    )
    result = run("xlsx", content, sheet="赛事填报", headerRow=2)
    assert rows(result) == [("001", "2026-03-01", "12", 3), ("002", "2026-03-01 08:30:00", "12.5", 5)]


def test_xlsx_rows_are_counted_from_the_top_of_the_sheet():
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer)
    sheet = book.add_worksheet("赛事填报")
    sheet.write_row(2, 1, ["编号", "名称", "值"])  # two empty rows and an empty column first
    sheet.write_row(4, 1, ["1", "a", "2"])
    book.close()
    assert rows(run("xlsx", buffer.getvalue(), headerRow=3)) == [("1", "a", "2", 5)]


def test_xlsx_error_value_quarantines_its_row():
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer)
    sheet = book.add_worksheet("赛事填报")
    for number, line in enumerate([["编号", "名称", "值"], ["1", "a", "2"], ["2", "b", None], ["3", "c", "4"]]):
        sheet.write_row(number, 0, line)
    sheet.write_formula(2, 2, "=1/0", None, "#DIV/0!")
    book.close()
    result = run("xlsx", buffer.getvalue())
    assert rows(result) == [("1", "a", "2", 2), ("3", "c", "4", 4)]
    assert [(i.record_no, i.rule_id) for i in result.issues] == [(3, "decode.cell_error")]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (workbook(["标题"], ["编号", "名称"], ["1", "2"]), "TIYU-ING-0210"),
        (workbook(["标题"], ["编号", "名称", "值", "证件"], ["1", "2"]), "TIYU-ING-0211"),
        (workbook(["标题"]), "TIYU-ING-0213"),
        (workbook(["标题"], ["编号", "名称", "值"], sheet="别的"), "TIYU-ING-0217"),
        (b"not a workbook", "TIYU-ING-0215"),
        (workbook(["标题"], ["编号", "名称", "值"])[:-200], "TIYU-ING-0215"),
    ],
)
def test_bad_workbook_is_refused_as_a_whole(content, code):
    with pytest.raises(TiyuError) as caught:
        run("xlsx", content, sheet="赛事填报", headerRow=2)
    assert caught.value.code == code


# ------------------------------------------------------------------ many objects
def test_many_objects_keep_apart_and_one_bad_object_disturbs_none():
    what = contract("a", "b")
    objects = [
        ("s0", "n0", b"a,b\n1,2\n"),
        ("s1", "n1", b""),
        ("s2", "n2", b"a,b\n3,4\n5\n"),
        ("s3", "n3", b"b,a\n6,7"),
        ("s4", "n4", b"a,c\n6,7"),
        ("s5", "n5", b"a,b\n"),
    ]
    for size in (1, 10, 1 << 20):
        results = list(decoders.decode_many({"kind": "csv"}, objects, what, chunk_bytes=size))
        found = [tuple(r.values()) for result in results for r in result.tables[TABLE].to_pylist()]
        assert sorted(found) == [("1", "2", 1, "s0"), ("3", "4", 1, "s2"), ("7", "6", 1, "s3")]
        counts = {sha: count for result in results for sha, count in result.root_counts.items()}
        assert counts == {"s0": 1, "s2": 2, "s3": 1, "s5": 0}
        refused = {sha: error.code for result in results for sha, error in result.refusals.items()}
        assert refused == {"s1": "TIYU-ING-0213", "s4": "TIYU-ING-0210"}
        issues = [(i.object_sha256, i.record_no, i.byte_from) for r in results for i in r.issues]
        assert issues == [("s2", 2, 8)]


def test_many_ndjson_objects_with_empty_ones():
    objects = [
        ("s0", "n", b""),
        ("s1", "n", b'{"a":1}'),
        ("s2", "n", b""),
        ("s3", "n", b'\n{"a":2}\n{'),
        ("s4", "n", b""),
    ]
    (result,) = decoders.decode_many({"kind": "ndjson"}, objects, contract("a"))
    assert rows(result) == [("1", 1, "s1"), ("2", 2, "s3")]
    assert [(i.object_sha256, i.record_no) for i in result.issues] == [("s3", 3)]
    assert result.root_counts == {"s0": 0, "s1": 1, "s2": 0, "s3": 2, "s4": 0}


def test_two_thousand_hourly_files_are_read_together_quickly():
    line = b'{"device_id":"D%d","seq_no":%d,"passed_at":"2026-08-23T09:00:00+08:00"}\n'
    objects = [(f"{k:064d}", "n", b"".join(line % (k % 60, i) for i in range(50))) for k in range(2000)]
    began = time.process_time()
    total = sum(
        r.root_count
        for r in decoders.decode_many({"kind": "ndjson"}, objects, contract("device_id", "seq_no", "passed_at"))
    )
    assert total == 100_000
    assert time.process_time() - began < 10  # about 0.3 s; per-file work would take a minute


_CELLS = st.text(alphabet='ab1,"\n 中𠀀é|\\；', max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    files=st.lists(st.lists(st.tuples(_CELLS, _CELLS, _CELLS), max_size=5), min_size=1, max_size=4),
    encoding=st.sampled_from(["utf-8", "gb18030"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    ended=st.booleans(),
)
def test_sound_csv_is_read_as_its_writer_meant_it(files, encoding, line_end, ended):
    objects, expected = [], []
    for number, lines in enumerate(files):
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator=line_end).writerows([("编号", "名称", "值"), *lines])
        text = buffer.getvalue() if ended else buffer.getvalue().removesuffix(line_end)
        objects.append((str(number), "x", text.encode(encoding)))
        expected += [(*(cell or None for cell in line), at, str(number)) for at, line in enumerate(lines, start=1)]
    (result,) = decoders.decode_many({"kind": "csv", "encoding": encoding}, objects, contract("编号", "名称", "值"))
    assert rows(result) == expected
    assert (result.issues, result.refusals) == ([], {})


# ------------------------------------------------------------------ damage
_CSV = "编号,名称,值\n".encode() + b"".join(b'%d,"n, %d",%d.5\n' % (n, n, n) for n in range(12))
_NDJSON = b"".join(b'{"a":%d,"b":"x"}\n' % n for n in range(12))


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    which=st.sampled_from(["csv", "gb", "ndjson", "json_items"]),
    cut=st.integers(0, 400),
    flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
)
def test_damage_never_raises_anything_else_and_the_balance_holds(which, cut, flips):
    original = {
        "csv": _CSV,
        "gb": _CSV.decode().encode("gb18030"),
        "ndjson": _NDJSON,
        "json_items": b'{"items":[' + _NDJSON.strip().replace(b"\n", b",") + b"]}",
    }[which]
    content = bytearray(original)
    for position, value in flips:
        content[position % len(content)] = value
    content = content[: max(0, len(content) - cut)]
    options = {"kind": "csv", "encoding": "gb18030"} if which == "gb" else {"kind": which}
    what = contract("编号", "名称", "值") if which in ("csv", "gb") else contract("a", "b")
    try:
        result = decoders.decode(options, bytes(content), object_name="x", object_sha256="y", contract=what)
    except TiyuError as error:
        if not error.code.startswith("TIYU-ING-021"):
            raise
        return
    assert result.root_count == result.tables[TABLE].num_rows + len(result.issues)
    assert all(0 <= (i.byte_from or 0) <= (i.byte_to or 0) <= len(content) for i in result.issues)
    lines = [line for line in bytes(content).split(b"\n") if line.strip(b" \t\r")]
    if which == "ndjson":
        assert result.root_count == len(lines)
    elif which in ("csv", "gb"):  # no line can vanish: it is the header, (part of) a row, or (part of) an issue
        in_rows = sum(1 + "".join(map(str, row)).count("\n") for row in rows(result))
        in_issues = sum(1 + content[i.byte_from : i.byte_to].count(b"\n") for i in result.issues)
        assert 1 + in_rows + in_issues >= len(lines)
