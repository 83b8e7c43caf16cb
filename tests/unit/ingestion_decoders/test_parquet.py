"""Parquet: each type has one text, damage refuses the file, a small file that unfolds to much is refused unread."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion import decoders
from ingestion.decoders import parquet
from lake.errors import TiyuError
from tests.unit.ingestion_decoders.contracts import contract

TABLE = "ods_t__t"


def packed(columns: dict, **options) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def run(content: bytes, what):
    return decoders.decode(
        {"kind": "parquet"}, content, object_name="目录/文件.parquet", object_sha256="a" * 64, contract=what
    )


def test_each_type_has_one_text():
    moment = dt.datetime(2026, 3, 1, 8, 30, 0, 120000)  # noqa: DTZ001 - the file knows no zone
    columns = {
        "整数": pa.array([2**63 - 1, None]),
        "大整数": pa.array([2**64 - 1, 0], pa.uint64()),
        "浮点": pa.array([0.1, 12.0]),
        "坏浮点": pa.array([float("nan"), float("inf")]),
        "小数": pa.array([decimal.Decimal("12345678901234567890.10"), None]),
        "是否": pa.array([True, False]),
        "日期": pa.array([dt.date(2026, 3, 1), None]),
        "时刻": pa.array([dt.time(8, 30), dt.time(8, 30, 0, 500000)]),
        "当地": pa.array([moment, None], pa.timestamp("us")),
        "时点": pa.array([moment, None], pa.timestamp("ns", "Asia/Shanghai")),
        "文本": pa.array(["徐汇", ""]),
        "字典": pa.array(["a", "b"]).dictionary_encode(),
        "空": pa.nulls(2),
    }
    result = run(packed(columns), contract(*columns))
    first, second = (tuple(row.values()) for row in result.tables[TABLE].to_pylist())
    assert first == (
        "9223372036854775807", "18446744073709551615", "0.1", "nan", "12345678901234567890.10", "true", "2026-03-01",
        "08:30:00", "2026-03-01 08:30:00.12", "2026-03-01 08:30:00.12Z", "徐汇", "a", None, 1,
    )  # fmt: skip
    assert second == (
        None, "0", "12", "inf", None, "false", None, "08:30:00.5", None, None, None, "b", None, 2,
    )  # fmt: skip
    assert result.root_count == 2


def test_rows_are_counted_over_row_groups_and_columns_may_come_in_any_order(monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_ROWS", 3)
    content = packed({"b": list(range(10)), "a": [str(n) for n in range(10)]}, row_group_size=4)
    table = run(content, contract("a", "b")).tables[TABLE]
    assert table.column_names == ["a", "b", "_record_no"]
    assert table["a"].to_pylist() == table["b"].to_pylist() == [str(n) for n in range(10)]
    assert table["_record_no"].to_pylist() == list(range(1, 11))


def test_a_file_without_rows_is_accepted():
    assert run(packed({"a": pa.array([], pa.int64())}), contract("a")).root_count == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "TIYU-ING-0218"),
        (b"PAR1 not a file PAR1", "TIYU-ING-0218"),
        (packed({"a": [1]})[:-9], "TIYU-ING-0218"),
        (packed({"a": [1]})[:-4] + b"PARE", "TIYU-ING-0218"),
        (packed({"b": [1]}), "TIYU-ING-0210"),
        (packed({"a": [1], "证件": ["x"]}), "TIYU-ING-0211"),
        (packed({"a": [{"x": 1}]}), "TIYU-ING-0219"),
        (packed({"a": [b"\x00"]}), "TIYU-ING-0219"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_as_a_whole(content, code):
    with pytest.raises(TiyuError) as caught:
        run(content, contract("a"))
    assert caught.value.code == code
    assert caught.value.context["object"] == "目录/文件.parquet"
    assert caught.value.hint_zh


def test_a_flipped_byte_never_raises_anything_but_a_refusal():
    content = packed({"a": [str(n) for n in range(300)]})
    refused = set()
    for position in range(0, len(content), max(1, len(content) // 150)):
        broken = bytearray(content)
        broken[position] ^= 0x5A
        try:
            result = run(bytes(broken), contract("a"))
        except TiyuError as error:
            refused.add(error.code)
        else:
            assert result.root_count == result.tables[TABLE].num_rows
    assert "TIYU-ING-0218" in refused
    assert refused <= {f"TIYU-ING-{code}" for code in ("0210", "0211", "0216", "0218", "0219")}


def test_a_long_text_repeated_very_often_is_refused_in_little_memory():
    """A few kilobytes in the file, 2 GB when unfolded."""
    folded = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 100_000]))
    content = packed({"a": folded})
    assert len(content) < 200_000
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    with pytest.raises(TiyuError, match="TIYU-ING-0216"):
        run(content, contract("a"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert pa.total_allocated_bytes() - before < 50_000_000
