"""A large object read in pieces gives what the same object read as one gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion import decoders
from ingestion.decoders.base import LostObject, Pieces
from ingestion.decoders.lines import MAX_LINE_BYTES, cut_at_lines
from lake.errors import TiyuError
from tests.unit.ingestion_decoders.contracts import contract

TABLE = "ods_t__t"


def given_in(content: bytes, size: int) -> Pieces:
    """The content as the archive gives it: cut anywhere."""
    return Pieces(len(content), lambda _: (content[i : i + size] for i in range(0, len(content), size)))


def everything(results):
    rows = [row for r in results for row in r.tables[TABLE].to_pylist()] if results else []
    issues = [
        (i.object_sha256, i.record_no, i.byte_from, i.byte_to, i.rule_id, i.reason_zh)
        for r in results
        for i in r.issues
    ]
    counts: dict[str, int] = {}
    for result in results:
        for sha, count in result.root_counts.items():
            counts[sha] = counts.get(sha, 0) + count
    refusals = {sha: error.code for r in results for sha, error in r.refusals.items()}
    return rows, issues, counts, refusals


def both(options, content, size, *fields):
    what = contract(*fields)
    whole = list(decoders.decode_many(options, [("s", "n", content)], what))
    parts = list(decoders.decode_many(options, [("s", "n", given_in(content, size))], what, chunk_bytes=size))
    return whole, parts


_LINES = st.sampled_from(
    [
        '{"a":"1","b":2}',
        '{"b":null,"a":"x\\n"}',
        "",
        "  ",
        '{"a":1',
        "[1]",
        '{"a":"1","a":"2"}',
        '{"a":"é","b":":"}',
        "\udc00",
    ]
)


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(_LINES, min_size=1, max_size=12), size=st.integers(1, 60), end=st.sampled_from(["\n", "\r\n"]))
def test_ndjson(lines, size, end):
    content = (end.join(lines) or "{}").encode("utf-8", "surrogatepass")
    whole, parts = both({"kind": "ndjson"}, content, size, "a", "b")
    assert everything(parts) == everything(whole)


_CELL = st.sampled_from(["1", "", "a b", '"q,1"', '"two\nlines"', '"""x"""', "é"])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=12),
    broken=st.sampled_from([None, "only", "1,2,3"]),
    size=st.integers(1, 40),
    encoding=st.sampled_from(["utf-8", "gb18030", "utf-8-sig"]),
)
def test_csv(rows, broken, size, encoding):
    lines = ["", "a,b", *(",".join(row) for row in rows), *([broken] if broken else []), "7,8"]
    content = "\n".join(lines).encode(encoding)
    whole, parts = both({"kind": "csv", "encoding": encoding}, content, size, "a", "b")
    assert everything(parts) == everything(whole)


def test_a_refusal_of_a_later_piece_is_one_of_the_object():
    content = b'{"a":"1"}\n' * 4 + b'{"c":"1"}\n' * 4
    results = list(
        decoders.decode_many({"kind": "ndjson"}, [("s", "n", given_in(content, 20))], contract("a"), chunk_bytes=20)
    )
    assert results[-1].refusals["s"].code == "TIYU-ING-0211"
    assert results[0].root_counts == {"s": 2}


def test_an_object_that_turns_out_to_be_damaged_is_refused_and_the_next_one_is_read():
    def lost(_):
        yield b'{"a":"1"}\n'
        raise LostObject(TiyuError("TIYU-ARC-0002", "坏", "…"))

    objects = [("s", "n", Pieces(99, lost)), ("t", "n", b'{"a":"2"}\n')]
    results = list(decoders.decode_many({"kind": "ndjson"}, objects, contract("a"), chunk_bytes=10))
    assert [sorted(r.refusals) for r in results][-2:] == [["s"], []]
    assert results[-2].refusals["s"].code == "TIYU-ARC-0002"
    assert results[-1].root_counts == {"t": 1}


def test_an_option_about_places_in_a_file_needs_the_whole_file():
    assert decoders.reads_pieces({"kind": "csv"})
    assert not decoders.reads_pieces({"kind": "csv", "footer_rows": 1})
    assert not decoders.reads_pieces({"kind": "csv", "encoding": "utf-16"})
    assert not decoders.reads_pieces({"kind": "xlsx"})


@pytest.mark.parametrize("size", [1, 7, 50])
def test_a_line_is_never_cut(size):
    content = b'a,"x\ny"\n' * 9 + b"tail"
    parts = [
        b"".join(part) for part in cut_at_lines((content[i : i + size] for i in range(0, len(content), size)), b'"')
    ]
    assert b"".join(parts) == content
    assert all(part.count(b'"') % 2 == 0 for part in parts)
    assert all(part.endswith(b"\n") for part in parts[:-1])


@pytest.mark.parametrize("size", [1, 7, 50, 60])
def test_pieces_are_about_as_large_as_wanted(size):
    content = b'a,"x\ny"\n' * 30 + b"tail"
    for step in (1, 3, 8, 11):
        pieces = (content[i : i + step] for i in range(0, len(content), step))
        parts = [b"".join(part) for part in cut_at_lines(pieces, b'"', size)]
        assert b"".join(parts) == content
        assert all(size - 8 - step < len(part) < size + 8 + step for part in parts[:-1])
        assert all(part.endswith(b'"\n') and part.count(b'"') % 2 == 0 for part in parts[:-1])


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_a_line_of_ten_gigabytes_is_refused_after_the_first_of_them(kind):
    """Endless text without a line end: what has been read when it is refused is what was held, a fixed amount."""
    read = 0

    def endless(size: int):
        nonlocal read
        first = b'{"a":"1"}\n{"a":"' if kind == "ndjson" else b"a\n1\n"
        yield first
        block = b"x" * (1 << 20)
        for _ in range(10 * 1024):
            read += len(block)
            yield block

    good = b'{"a":"2"}\n' if kind == "ndjson" else b"a\n2\n"
    objects = [("s", "长行.txt", Pieces(10 << 30, endless)), ("t", "n", good)]
    results = list(decoders.decode_many({"kind": kind}, objects, contract("a")))
    refused = next(r.refusals["s"] for r in results if r.refusals)
    assert refused.code == "TIYU-ING-0224"
    assert refused.context["object"] == "长行.txt"
    assert read <= MAX_LINE_BYTES + (1 << 20)
    assert results[-1].root_counts == {"t": 1}
