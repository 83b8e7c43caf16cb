"""Every mask, in each of the three places it is applied, and that leaving one out is noticed."""

from __future__ import annotations

import duckdb
import polars as pl
import pytest

from catalog import policy
from lake.errors import TiyuError
from protection import masking

#: mask, value, what is shown, and the part of the value that must be gone.
CASES = [
    ("hide", "SHA000123", "***", "000123"),
    ("name", "张三丰", "张**", "三丰"),
    ("name", "诸葛\n亮", "诸**", "葛"),
    ("id_no", "990001199001010011", "9900**********0011", "19900101"),
    ("id_no", "99000119900101001X", "9900**********001X", "19900101"),
    ("id_no", "990001900101001", "9900**********1001", "900101"),
    ("id_no", "张三 990001199001010011", "***", "张三"),
    ("phone", "19900000001", "199****0001", "0000000"),
    ("phone", "+86 199 0000 0001", "+86****0001", "0000 0"),
    ("phone", "021-6400 0001", "021****0001", "6400"),
    ("phone", "123", "***", "123"),
    ("phone", "张三 19900000001", "***", "张三"),
    ("email", "zhangsan@example.cn", "z***@***", "angsan"),
    ("email", "not an address", "***", "not"),
    ("tail4", "6222020000000000008", "****0008", "622202"),
    ("tail2", "E00000012", "*******12", "E00000"),
    ("plate_no", "沪A99X23", "沪A***23", "99X"),
    ("plate_no", "99", "***", "99"),
    ("address", "上海市徐汇区天平路街道测试路9号501室", "上海市徐汇区天平路街道***", "501"),
    ("address", "上海市徐汇区测试路9号501室", "上海市徐汇区***", "501"),
    ("address", "测试路9号501室", "***", "501"),
    ("grid", "31.21987", "31.2", "1987"),
    ("grid", "121", "121", None),
    ("grid", "N31°13", "***", "31"),
    ("birth_band", "1993-05-06", "1990-1994年", "05"),
    ("birth_band", "1998-05-06", "1995-1999年", "05"),
    ("birth_band", "19930506", "1990-1994年", "0506"),
    ("age_band", "1993", "1990年代", "1993"),
    ("hour", "2026-11-19 14:23:45+08:00", "2026-11-19 14:00", "23"),
    ("hour", "2026/11/19 14:23", "***", "23"),
]  # fmt: skip


@pytest.mark.parametrize(("mask", "value", "shown", "gone"), CASES)
def test_a_mask_shows_the_same_in_python_polars_and_duckdb(mask, value, shown, gone):
    frame = pl.DataFrame({"v": [value, None, ""]})
    assert masking.mask_text(mask, value) == shown
    assert frame.select(masking.masked(mask, pl.col("v")))["v"].to_list() == [shown, None, ""]
    with duckdb.connect() as con:
        con.register("frame", frame.to_arrow())
        found = con.execute(f"SELECT {masking.masked_sql(mask, 'v')} FROM frame").fetchall()
    assert [row[0] for row in found] == [shown, None, ""]
    assert gone is None or gone not in shown


def leaking() -> set[str]:
    """Masks that show what they must not, over all cases."""
    return {mask for mask, value, _, gone in CASES if gone and gone in masking.mask_text(mask, value)}


@pytest.mark.parametrize("mask", masking.MASKS)
def test_a_mask_that_is_switched_off_is_noticed(mask, monkeypatch):
    assert leaking() == set()
    monkeypatch.setitem(masking.MASKS, mask, (masking.Form(r"(?s)^(.*)$", "{1}"),))
    assert leaking() == {mask}


def test_every_mask_of_the_policy_exists_and_every_mask_is_used():
    kinds = policy.current().kinds
    assert {kind.mask for kind in kinds.values()} == set(masking.MASKS)
    for name, kind in kinds.items():
        masking.forms(kind.mask)
        assert kind.example, name


def test_an_unknown_mask_is_an_error_and_never_the_value():
    for call in (lambda: masking.mask_text("none", "x"), lambda: masking.masked("none", pl.col("v")), lambda: masking.masked_sql("none", "v")):  # fmt: skip
        with pytest.raises(TiyuError) as caught:
            call()
        assert caught.value.code == "TIYU-MSK-0001"
