"""CSV as sources really write it: encodings, line ends, titles, unit rows, totals, ragged rows; no cell changes unseen."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion import decoders
from lake.errors import TiyuError
from tests.unit.ingestion_decoders.contracts import contract

TABLE = "ods_t__t"
WHAT = contract("编号", "名称", "值")
GOOD = "编号,名称,值\n1,徐汇,2\n"


def run(content: bytes | str, what=WHAT, encoding="utf-8", **options):
    raw = content if isinstance(content, bytes) else content.encode(encoding)
    result = decoders.decode(
        {"kind": "csv", "encoding": encoding, **options},
        raw,
        object_name="表.csv",
        object_sha256="a" * 64,
        contract=what,
    )
    assert result.root_count == result.tables[TABLE].num_rows + len(result.issues)
    return result


def rows(result) -> list[tuple]:
    return sorted((tuple(row.values()) for row in result.tables[TABLE].to_pylist()), key=lambda row: row[-1])


def refused(content, code, **options) -> TiyuError:
    with pytest.raises(TiyuError) as caught:
        run(content, **options)
    assert caught.value.code == f"TIYU-ING-{code}"
    assert caught.value.hint_zh
    return caught.value


# ------------------------------------------------------------------ encodings
@pytest.mark.parametrize(
    ("encoding", "raw"),
    [
        ("utf-8", GOOD.encode()),
        ("utf-8", GOOD.encode("utf-8-sig")),
        ("gb18030", GOOD.encode("gb18030")),
        ("gb18030", b"\x84\x31\x95\x33" + GOOD.encode("gb18030")),
        ("utf-16", GOOD.encode("utf-16")),
        ("utf-16", b"\xfe\xff" + GOOD.encode("utf-16-be")),
        ("utf-16-le", GOOD.encode("utf-16-le")),
        ("utf-16-le", b"\xff\xfe" + GOOD.encode("utf-16-le")),
        ("utf-16-be", GOOD.encode("utf-16-be")),
    ],
)
def test_every_declared_encoding_with_and_without_a_mark(encoding, raw):
    assert rows(run(raw, encoding=encoding)) == [("1", "徐汇", "2", 1)]


def test_windows_1252_and_its_five_bytes_without_a_character():
    raw = "id,name\n1,Müller €5\n2,".encode("cp1252") + b"x\x81\n3,ok\n"
    result = run(raw, contract("id", "name"), encoding="windows-1252")
    assert rows(result) == [("1", "Müller €5", 1), ("3", "ok", 3)]
    (issue,) = result.issues
    assert (issue.rule_id, raw[issue.byte_from : issue.byte_to]) == ("decode.bad_encoding", b"2,x\x81")


@pytest.mark.parametrize(
    ("encoding", "raw"),
    [("utf-8", GOOD.encode("utf-16")), ("gb18030", GOOD.encode("utf-8-sig")), ("windows-1252", GOOD.encode("utf-8-sig")),
     ("utf-16-le", GOOD.encode("utf-16-be", "strict").join([b"\xfe\xff", b""])), ("utf-16", GOOD.encode("utf-16-le"))],
)  # fmt: skip
def test_a_mark_that_contradicts_the_contract_refuses_the_object(encoding, raw):
    refused(raw, "0223", encoding=encoding)


def test_utf16_lone_surrogate_and_cut_end_cost_their_rows_with_their_place():
    start = "编号,名称,值\n1,a,b\n".encode("utf-16")
    bad = "2,".encode("utf-16-le") + b"\x00\xd8" + ",x".encode("utf-16-le")
    raw = start + bad + "\n3,𠀀,d\n4,e,f".encode("utf-16-le") + b"g"
    result = run(raw, encoding="utf-16")
    assert rows(result) == [("1", "a", "b", 1), ("3", "𠀀", "d", 3)]
    assert [issue.rule_id for issue in result.issues] == ["decode.bad_encoding"] * 2
    assert [raw[i.byte_from : i.byte_to] for i in result.issues] == [bad, "4,e,f".encode("utf-16-le") + b"g"]


def test_gb18030_with_a_delimiter_that_is_also_the_second_byte_of_a_character():
    assert "亅".encode("gb18030")[1:] == b"|"
    raw = "编号|名称|值\n1|亅亅|2\n".encode("gb18030") + b"2|\xff|3\n"
    result = run(raw, encoding="gb18030", delimiter="|")
    assert rows(result) == [("1", "亅亅", "2", 1)]
    assert [(i.record_no, raw[i.byte_from : i.byte_to]) for i in result.issues] == [(2, b"2|\xff|3")]


# ------------------------------------------------------------------ line ends
def test_lone_carriage_returns_end_lines_where_nothing_else_does():
    raw = b'\xe7\xbc\x96\xe5\x8f\xb7,b,c\r1,"x\ry\nz",2\r3,4\r5,6,7'
    result = run(raw, contract("编号", "b", "c"))
    assert rows(result) == [("1", "x\ry\nz", "2", 1), ("5", "6", "7", 3)]
    assert [(i.record_no, raw[i.byte_from : i.byte_to]) for i in result.issues] == [(2, b"3,4")]


def test_a_stray_carriage_return_in_a_file_of_line_feeds_is_told():
    result = run("编号,名称,值\n1,a\rb,2\n3,c,4\n")
    assert rows(result) == [("3", "c", "4", 2)]
    assert "回车符" in result.issues[0].reason_zh


# ------------------------------------------------------------------ around the table
PAGE = """徐汇区场馆报表,,
填报单位："某中心

编号,名称,值
,,（米）
1,a,2
小计,1,
3,b,4
合计,2,
制表人：某
"""


def test_titles_unit_row_subtotals_and_foot_are_no_records():
    result = run(PAGE, headerRow=4, unitRow={"值": "（米）"}, skipPattern="^小计", footerPattern="^(合计|制表人)")
    assert rows(result) == [("1", "a", "2", 1), ("3", "b", "4", 2)]
    assert result.issues == []


def test_without_the_settings_the_same_rows_are_told_not_swallowed():
    result = run(PAGE, headerRow=4)
    assert result.root_count == 6
    assert [i.reason_zh[:6] for i in result.issues] == ["第 10 行"]
    refused(PAGE, "0210")


def test_a_unit_row_that_changed_refuses_the_object():
    error = refused(PAGE, "0221", headerRow=4, unitRow={"值": "（千米）"})
    assert error.context["columns"] == "值"
    refused("编号,名称,值\n", "0221", unitRow={"值": "m"})


def test_a_row_like_the_foot_in_the_middle_is_a_record():
    result = run("编号,名称,值\n合计,a,1\n2,b,2\n合计,,3\n", footerPattern="^合计")
    assert [row[0] for row in rows(result)] == ["合计", "2"]
    assert [row[0] for row in rows(run("编号,名称,值\n1,a,1\n2,b,2\n", footerRows=1, skipRows=0))] == ["1"]


def test_ragged_rows_are_issues_with_their_line_or_padded():
    text = "编号,名称,值\n1,a,2\n3,b\n4,c,5,\n6,d,7,8\n"
    result = run(text)
    assert rows(result) == [("1", "a", "2", 1)]
    assert [(i.record_no, i.rule_id, i.reason_zh) for i in result.issues] == [
        (2, "decode.field_count", "第 3 行字段数不符：应有 3 个，实有 2 个"),
        (3, "decode.field_count", "第 4 行字段数不符：应有 3 个，实有 4 个"),
        (4, "decode.field_count", "第 5 行字段数不符：应有 3 个，实有 4 个"),
    ]
    result = run(text, ragged="pad")
    assert rows(result) == [("1", "a", "2", 1), ("3", "b", None, 2), ("4", "c", "5", 3)]
    assert [i.record_no for i in result.issues] == [4]  # there is text beyond the last column


def test_a_delimiter_at_every_line_end_makes_no_column_but_text_there_is_told():
    result = run("编号,名称,值,\n1,a,2,\n3,b,4\n5,c,6,x\n")
    assert rows(result) == [("1", "a", "2", 1), ("3", "b", "4", 2)]
    assert [i.record_no for i in result.issues] == [3]


def test_quote_and_escape_as_declared():
    assert rows(run("编号,名称,值\n1,'a,b',2\n", quote="'")) == [("1", "a,b", "2", 1)]
    assert rows(run('编号\t名称\t值\n1\t5" 管\t2\n', delimiter="\t", quote="")) == [("1", '5" 管', "2", 1)]
    assert rows(run('编号;名称;值\n1;"a\\"b;\\\\";2\n3;c;4\n', delimiter=";", escape="\\")) == [
        ("1", 'a"b;\\', "2", 1),
        ("3", "c", "4", 2),
    ]
    for bad in ({"quote": ","}, {"delimiter": "\n"}, {"escape": "é"}, {"skipPattern": "("}):
        with pytest.raises(TiyuError, match="TIYU-ING-0202"):
            run(GOOD, **bad)


def test_header_names_by_alias_and_by_form():
    text = "编 号,名称（全）,ＶＡＬＵＥ\n1,a,2\n"
    what = contract("编号", "名称(全)", "value")
    refused(text, "0210", what=what)
    assert rows(run(text, what, headerMatch="normalised")) == [("1", "a", "2", 1)]
    assert rows(run("no,名称,值\n1,a,2\n", headerAliases={"no": "编号"})) == [("1", "a", "2", 1)]
    refused("编号,编 号,名称,值\n1,1,a,2\n", "0214", headerMatch="normalised")


def test_an_empty_object_is_refused_unless_the_contract_accepts_it_and_a_header_alone_is_no_rows():
    refused("", "0213")
    assert run("", emptyObject="accept").root_count == 0
    assert run("编号,名称,值").root_count == 0
    refused("标题\n", "0213", headerRow=2)


def test_a_cell_that_looks_like_a_formula_is_data():
    cells = ["=1+1", "+86", "-5", "@a", "=cmd|' /C calc'!A0"]
    text = "编号,名称,值\n" + "".join(f"{n},{cell},x\n" for n, cell in enumerate(cells))
    assert [row[1] for row in rows(run(text))] == cells


# ------------------------------------------------------------------ round trip
_CELLS = st.text(alphabet="ab1,;|\t'\"\\\n\r 中𠀀亅é€", max_size=4)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lines=st.lists(st.tuples(_CELLS, _CELLS, _CELLS), max_size=5),
    encoding=st.sampled_from(["utf-8", "gb18030", "utf-16", "utf-16-be", "windows-1252"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    delimiter=st.sampled_from([",", ";", "|", "\t"]),
    quote=st.sampled_from(['"', "'"]),
    title=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_no_cell_is_changed_unseen(lines, encoding, line_end, delimiter, quote, title, quoting):
    """What a writer meant is what is read; in the rare text that two readers understand differently, the rows concerned
    are issues and the others still have the written cells."""
    if quoting == csv.QUOTE_MINIMAL:  # Python's writer leaves some line ends unquoted: nobody can tell them then
        lines = [tuple(cell.replace("\r", "").replace("\n", "") for cell in line) for line in lines]
    buffer = io.StringIO(newline="")
    if title:
        buffer.write(f"title{line_end}")
    writer = csv.writer(buffer, lineterminator=line_end, delimiter=delimiter, quotechar=quote, quoting=quoting)
    writer.writerows([("a", "b", "c"), *lines])
    try:
        raw = buffer.getvalue().encode("cp1252" if encoding == "windows-1252" else encoding)
    except UnicodeEncodeError:
        return
    result = run(
        raw,
        contract("a", "b", "c"),
        encoding=encoding,
        delimiter=delimiter,
        quote=quote,
        headerRow=2 if title else None,
    )
    expected = [(*(cell or None for cell in line), at) for at, line in enumerate(lines, start=1)]
    assert rows(result) == expected
    assert result.issues == []
