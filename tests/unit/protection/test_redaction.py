"""Texts that are read later: what is replaced, that the policy decides it, and that a process is guarded."""

from __future__ import annotations

import logging

import pytest

from catalog import policy
from lake.errors import TiyuError
from protection import redaction
from tests.policies import changed, denied

ID, PHONE, CARD = "990001199001010011", "19900005544", "6222020000000000000"
TOKEN = "phone_k1_" + "a" * 26


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"证件{ID}重复", "证件9900**********0011重复"),
        (f"手机 {PHONE}。", "手机 199****5544。"),
        ("手机 １９９００００５５４４", "手机 199****5544"),
        (f"+86 {PHONE}", "+86****5544"),
        (f"卡号 {CARD}", "卡号 ****0000"),
        ("卡号 6222020000000000001", "卡号 6222020000000000001"),  # its check digit is wrong: an order number
        ("信箱 li.si@example.cn", "信箱 l***@***"),
        ("车牌 沪A99X23", "车牌 沪A***23"),
        ("postgresql://tiyu:s3cret@db:5432/x", f"postgresql://{redaction.GONE}@db:5432/x"),
        (f"athlete_{TOKEN}.fit 与 {TOKEN}", f"athlete_{redaction.GONE}.fit 与 {redaction.GONE}"),
        ("TIYU-ING-0012 2026-11-19 14:23 行 13812 sha256 a13812345678f 1763600000000", None),
        ("V310112-001-U01 91310000775785552L", None),
        ("", None),
    ],
)
def test_what_is_replaced_in_a_message(text, shown):
    assert redaction.redact(text) == (text if shown is None else shown)


def test_each_surface_asks_the_policy():
    text = f"电话 {PHONE}"
    assert redaction.redact(text, "error_message") == "电话 199****5544"
    assert redaction.redact(text, "airflow_log") == f"电话 {redaction.GONE}"
    assert redaction.redact(text, "nowhere") == f"电话 {redaction.GONE}"
    with policy.replaced(denied("error_message")):
        assert redaction.redact(text, "error_message") == f"电话 {redaction.GONE}"
    loose = changed(("surfaces.error_message.limit", "audience"), ("audiences.operations.kinds.phone", "plain"),
                    ("audiences.operations.marks.S", "plain"), ("audiences.operations.grades.L4", "plain"))  # fmt: skip
    with policy.replaced(loose):
        assert redaction.redact(text, "error_message") == text


def test_values_that_an_engine_quotes_are_gone_where_no_data_is_shown():
    text = "Conversion Error: Could not convert string '张三' to INT32\nLINE 1: SELECT 'L1' AS x"
    assert redaction.redact(text, "dbt_artifact") == f"Conversion Error: Could not convert string {redaction.GONE} to INT32\nLINE 1: SELECT 'L1' AS x"  # fmt: skip
    assert redaction.redact("模型 'dwd_x' 失败", "dbt_artifact") == "模型 'dwd_x' 失败"


@pytest.mark.parametrize("kind", [kind for kind, _, _ in redaction.PATTERNS])
def test_a_pattern_that_is_switched_off_is_noticed(kind, monkeypatch):
    samples = {
        "credential": "s3://a:b@host/x", "person_token": TOKEN, "id_no": ID, "bank_card": CARD, "phone": PHONE,
        "email": "li@example.cn", "plate_no": "沪A99X23",
    }  # fmt: skip
    assert samples[kind] not in redaction.redact(samples[kind], "airflow_log")
    monkeypatch.setattr(redaction, "PATTERNS", [entry for entry in redaction.PATTERNS if entry[0] != kind])
    assert samples[kind] == redaction.redact(samples[kind], "airflow_log")


def test_an_installed_guard_covers_errors_logs_and_tracebacks(caplog, capsys):
    import sys

    error = TiyuError("TIYU-TST-0001", f"电话 {PHONE} 有误", f"核对 {ID}", rows=[{"phone": PHONE, "row": 3}])
    assert PHONE in str(error)
    with redaction.guarding("error_message"):
        assert PHONE not in str(error)
        assert ID not in str(error.as_dict())
        assert error.as_dict()["context"]["rows"][0]["row"] == 3
        with caplog.at_level(logging.INFO):
            logging.getLogger("tiyu.test").info("电话 %s", PHONE)
            try:
                raise ValueError(f"bad {ID}")
            except ValueError as caught:
                logging.getLogger("tiyu.test").exception("失败 %s", "x")
                sys.excepthook(type(caught), caught, caught.__traceback__)
        assert "199****5544" in caplog.text
        assert PHONE not in caplog.text
        assert ID not in caplog.text
        assert "ValueError" in caplog.text
        assert ID not in capsys.readouterr().err
    assert PHONE in str(error)
    redaction.install("airflow_log")
    try:
        assert redaction.GONE in str(error)
    finally:
        redaction.remove()
    assert PHONE in str(error)
