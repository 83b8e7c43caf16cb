"""Packed deliveries: entries are read as one object with stable numbers; what an archive may do to a reader, it may not."""

from __future__ import annotations

import gzip
import io
import itertools
import stat
import tracemalloc
import zipfile

import pytest

from ingestion import decoders
from ingestion.decoders import container
from ingestion.decoders.unpacking import ENTRY_STRIDE
from lake.errors import TiyuError
from tests.unit.ingestion_decoders.contracts import contract
from tests.unit.ingestion_decoders.test_parquet import packed

TABLE = "ods_t__t"
WHAT = contract("a", "b")


def zipped(*entries, method=zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def run(content: bytes, kind="csv", what=WHAT, **options):
    result = decoders.decode(
        {"kind": kind, **options}, content, object_name="包", object_sha256="a" * 64, contract=what
    )
    assert result.root_count == result.tables[TABLE].num_rows + len(result.issues)
    return result


def rows(result):
    return [tuple(row.values()) for row in result.tables[TABLE].to_pylist()]


def refused(content, code, **options) -> TiyuError:
    with pytest.raises(TiyuError) as caught:
        run(content, **options)
    assert caught.value.code == f"TIYU-ING-{code}"
    return caught.value


def test_a_packed_file_is_read_like_a_plain_one():
    text = b"a,b\n1,2\n"
    assert rows(run(gzip.compress(text), container="gzip")) == [("1", "2", 1)]
    assert rows(run(gzip.compress(text[:5]) + gzip.compress(text[5:]), container="gzip")) == [("1", "2", 1)]
    assert rows(run(text, container="auto")) == rows(run(gzip.compress(text), container="auto")) == [("1", "2", 1)]
    assert rows(run(gzip.compress(packed({"a": [1], "b": [2]})), "parquet", container="gzip")) == [("1", "2", 1)]


def test_entries_are_numbered_and_one_that_is_refused_costs_itself_only():
    content = zipped(
        ("x/1.csv", "a,b\n1,2\n"), ("__MACOSX/1.csv", "x"), ("x/", ""), ("2.csv", "a,c\n9,9\n"),
        ("3.csv.gz", gzip.compress(b"a,b\n3,4\n5\n")),
    )  # fmt: skip
    result = run(content, container="zip")
    assert rows(result) == [("1", "2", 1), ("3", "4", 2 * ENTRY_STRIDE + 1)]
    assert [(i.record_no, i.rule_id) for i in result.issues] == [
        (ENTRY_STRIDE, "TIYU-ING-0210"),
        (2 * ENTRY_STRIDE + 2, "decode.field_count"),
    ]
    assert "第 3 个文件" in result.issues[1].reason_zh
    assert rows(run(content, container="zip", entries=r"1\.csv$")) == [("1", "2", 1)]


def test_many_objects_packed_and_plain_stay_apart():
    objects = [("s0", "n", b"a,b\n1,2\n"), ("s1", "n", gzip.compress(b"a,b\n3,4\n")), ("s2", "n", b"\x1f\x8bxx")]
    (result,) = decoders.decode_many({"kind": "csv", "container": "auto"}, objects, WHAT)
    assert sorted(rows(result)) == [("1", "2", 1, "s0"), ("3", "4", 1, "s1")]
    assert result.root_counts == {"s0": 1, "s1": 1}
    assert {sha: error.code for sha, error in result.refusals.items()} == {"s2": "TIYU-ING-0220"}


def _encrypted() -> bytes:
    content = bytearray(zipped(("1.csv", "a,b\n1,2\n")))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def _link() -> bytes:
    info = zipfile.ZipInfo("1.csv")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped((info, "/etc/passwd"))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (_encrypted(), "加密"),
        (_link(), "链接"),
        (zipped(("../1.csv", "a,b\n")), "指向包外"),
        (zipped(("/etc/1.csv", "a,b\n")), "指向包外"),
        (zipped(("C:\\x\\1.csv", "a,b\n")), "指向包外"),
        (zipped(("x\\..\\1.csv", "a,b\n")), "指向包外"),
        (zipped(("1\n.csv", "a,b\n")), "控制字符"),
        (zipped(("1.zip", zipped(("1.csv", "a,b\n1,2\n")))), "还有压缩包"),
        (gzip.compress(gzip.compress(b"a,b\n")), "还有压缩包"),
        (zipped(("1.csv", "a,b\n1,2\n" * 100))[:-30], "损坏"),
        (gzip.compress(b"a,b\n1,2\n" * 100)[:-12], "损坏"),
        (zipped(), "没有文件"),
        (zipped((".hidden", "x")), "没有文件"),
    ],
    ids=itertools.count(),  # not the bytes: they hold the time of packing, and test workers must agree on names
)
def test_an_archive_that_is_not_plainly_readable_is_refused(content, word):
    error = refused(content, "0220", container="auto")
    assert word in error.message_zh
    assert error.hint_zh


def test_an_entry_whose_name_stands_twice_is_read_once():
    with pytest.warns(UserWarning, match="Duplicate"):
        content = zipped(("1.csv", "a,b\n1,2\n"), ("1.csv", "a,b\n3,4\n"))
    result = run(content, container="zip")
    assert rows(result) == [("1", "2", 1)]
    assert [(i.record_no, i.rule_id) for i in result.issues] == [(ENTRY_STRIDE, "TIYU-ING-0220")]


def test_the_container_must_be_the_one_that_was_agreed():
    packed_text = gzip.compress(b"a,b\n1,2\n")
    assert refused(packed_text, "0220").context["found"] == "gzip"
    refused(packed_text, "0220", container="zip")
    refused(b"a,b\n1,2\n", "0220", container="gzip")


@pytest.mark.parametrize("how", ["gzip", "zip", "ratio"])
def test_a_bomb_is_refused_in_little_memory(how, monkeypatch):
    monkeypatch.setattr(container, "RATIO_FREE_BYTES", (1 << 30) if how != "ratio" else 4 << 20)
    zeros = b"\0" * (64 << 20)
    content = gzip.compress(zeros, 1) if how != "zip" else zipped(("1.csv", zeros))
    del zeros
    tracemalloc.start()
    with pytest.raises(TiyuError, match="TIYU-ING-0216"):
        container.unpack("包", content, limit=16 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (24 << 20)


def test_too_many_entries_are_refused(monkeypatch):
    monkeypatch.setattr(container, "MAX_ENTRIES", 3)
    refused(zipped(*((f"{n}.csv", "a,b\n") for n in range(4))), "0216", container="zip")
