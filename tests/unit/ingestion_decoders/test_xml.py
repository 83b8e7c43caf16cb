"""XML: paths of elements and attributes, and nothing that a document brings along is obeyed."""

from __future__ import annotations

import tracemalloc

import pytest

from ingestion import decoders
from lake.errors import TiyuError
from tests.unit.ingestion_decoders.contracts import contract

TABLE = "ods_t__t"


def run(content: bytes | str, what, path="/r/rows/row", **options):
    raw = content if isinstance(content, bytes) else content.encode()
    result = decoders.decode(
        {"kind": "xml", "recordPath": path, **options}, raw, object_name="表.xml", object_sha256="a" * 64, contract=what
    )
    assert result.root_count == result.tables[TABLE].num_rows + len(result.issues)
    return result


def rows(result):
    return [tuple(row.values()) for row in result.tables[TABLE].to_pylist()]


def test_attributes_children_deeper_elements_and_text():
    text = """<?xml version="1.0" encoding="UTF-8"?><r xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><head/><rows>
      <row id="1"><名称> 徐汇 </名称><地点 码="310104"><路>漕溪北路</路></地点><值 单位="m">1.50</值></row><!-- x -->
      <row id="2"><名称><![CDATA[a<b]]></名称><值 xsi:nil="true"/></row>
      <row id="3"/></rows></r>"""
    what = contract("@id", "名称", "地点/@码", "地点/路", "值", "值/@单位")
    assert rows(run(text, what)) == [
        ("1", "徐汇", "310104", "漕溪北路", "1.50", "m", 1),
        ("2", "a<b", None, None, None, None, 2),
        ("3", None, None, None, None, None, 3),
    ]


def test_the_declared_encoding_of_the_document_is_read():
    text = '<?xml version="1.0" encoding="GB18030"?><r><rows><row><a>徐汇𠀀</a></row></rows></r>'
    assert rows(run(text.encode("gb18030"), contract("a"))) == [("徐汇𠀀", 1)]


def test_namespaces_by_prefix_or_by_name_alone():
    text = '<r xmlns="urn:x" xmlns:y="urn:y"><rows><row><y:a>1</y:a><b>2</b></row></rows></r>'
    assert rows(run(text, contract("a", "b"))) == [("1", "2", 1)]
    options = {"path": "/p:r/p:rows/p:row", "namespaces": {"p": "urn:x", "q": "urn:y"}}
    assert rows(run(text, contract("q:a", "p:b"), **options)) == [("1", "2", 1)]


def test_unknown_and_repeated_fields():
    text = "<r><rows><row><a>1</a></row><row><a>1</a><z>2</z></row><row><a>1</a><a>2</a></row></rows></r>"
    result = run(text, contract("a"))
    assert rows(result) == [("1", 1)]
    assert [(i.record_no, i.rule_id) for i in result.issues] == [
        (2, "decode.unknown_field"),
        (3, "decode.repeated_field"),
    ]
    assert len(rows(run(text, contract("a", unknown="warn")))) == 2
    with pytest.raises(TiyuError, match="TIYU-ING-0211"):
        run("<r><rows><row><z>1</z></row></rows></r>", contract("a", missing="warn"))


def test_no_rows_is_not_the_same_as_no_place_for_rows():
    assert run("<r><rows/></r>", contract("a")).root_count == 0
    with pytest.raises(TiyuError, match="TIYU-ING-0212"):
        run("<r><other/></r>", contract("a"))


_BOMB = "<!DOCTYPE r [" + '<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{("&" + chr(97 + n) + ";") * 10}">' for n in range(9)
) + "]><r><rows><row><a>&j;</a></row></rows></r>"  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        _BOMB,
        '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]><r><rows><row><a>&x;</a></row></rows></r>',
        '<!DOCTYPE r SYSTEM "http://192.0.2.1/x.dtd"><r><rows><row><a>1</a></row></rows></r>',
        "<r><rows><row><a>1</a></row>",
        "<r><rows><row><a>1</b></row></rows></r>",
        "<r><rows><row><a>&undefined;</a></row></rows></r>",
        "",
        "<r><rows><row>" + "<a>" * 300,
        b"<r><rows><row><a>\xff</a></row></rows></r>",
        "<r><rows><row><a>" + "x" * 10_000_001 + "</a></row></rows></r>",
    ],
    ids=["bomb", "file", "address", "cut", "crossed", "entity", "empty", "deep", "bytes", "long"],
)
def test_what_is_no_plain_document_is_refused_in_little_memory(text):
    raw = text if isinstance(text, bytes) else text.encode()
    tracemalloc.start()
    with pytest.raises(TiyuError, match="TIYU-ING-0222") as caught:
        run(raw, contract("a"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert caught.value.hint_zh


def test_records_are_let_go_as_they_are_read(monkeypatch):
    from ingestion.decoders import xml_rows

    monkeypatch.setattr(xml_rows, "_ROWS", 100)
    many = "".join(f"<row><a>{n}</a></row>" for n in range(1000))
    assert rows(run(f"<r><rows>{many}</rows></r>", contract("a")))[::333] == [
        ("0", 1), ("333", 334), ("666", 667), ("999", 1000),
    ]  # fmt: skip
