"""Values as sources write them: declared, they are converted exactly; anything else is null, for the type rule to tell."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import duckdb
import pytest
from pydantic import ValidationError

from catalog import contracts, units
from catalog.contracts.model import PropertySpec
from catalog.contracts.value_options import ColumnValues, ValueOptions, merged
from catalog.problems import DeclarationError
from ingestion import conversion

UTC = dt.UTC


@pytest.fixture(scope="module")
def con():
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    yield connection
    connection.close()


def read(con, kind, text, unit=None, **settings):
    prop = PropertySpec(
        name="v", source_name="v", title_zh="值", description="值", type=kind, grade="L1", pi_mark="N", unit=unit,
        read=ColumnValues.model_validate(settings),
    )  # fmt: skip
    con.execute('create or replace table r as select ?::varchar as "s::v"', [text])
    value, is_told = con.execute(
        f"select v, not {conversion.type_predicate(prop)} from (select *, {conversion.expression(prop)} as v from r)"
    ).fetchone()
    assert is_told == (value is None and text.strip() not in ("", *(settings.get("nullTokens") or ())))
    return value


@pytest.mark.parametrize(
    ("kind", "text", "settings", "value"),
    [
        ("DOUBLE", "1.234,5", {"decimalMark": ",", "thousands": "."}, 1234.5),
        ("DOUBLE", "1,234.5", {"thousands": ","}, 1234.5),
        ("DOUBLE", "1234.5", {"thousands": ","}, 1234.5),
        ("DOUBLE", "1 234,5", {"decimalMark": ",", "thousands": " "}, 1234.5),
        ("DOUBLE", "1\u00a0234,5", {"decimalMark": ",", "thousands": " "}, 1234.5),
        ("DOUBLE", "1,23,4", {"thousands": ","}, None),
        ("DOUBLE", "1.5", {"decimalMark": ","}, None),
        ("DOUBLE", "1,5", {}, None),
        ("DOUBLE", "85 %", {"suffix": "%"}, 85.0),
        ("DOUBLE", "85", {"suffix": "%"}, 85.0),
        ("DOUBLE", "85%", {}, None),
        ("DOUBLE", "nan", {}, None),
        ("DOUBLE", "Infinity", {}, None),
        ("DOUBLE", "-", {"nullTokens": ["-", "无"]}, None),
        ("BIGINT", "12,345", {"thousands": ","}, 12345),
        ("BIGINT", "12,345.0", {"thousands": ","}, 12345),
        ("BIGINT", "1.5", {}, None),
        ("BIGINT", "99999999999999999999", {}, None),
        ("DECIMAL(8,2)", "1.234,50", {"decimalMark": ",", "thousands": "."}, Decimal("1234.50")),
        ("DECIMAL(8,2)", "1.2300", {}, Decimal("1.23")),
        ("DECIMAL(8,2)", "1.235", {}, None),
        ("BOOLEAN", "有", {"trueTokens": ["有"], "falseTokens": ["无"]}, True),
        ("BOOLEAN", "无", {"trueTokens": ["有"], "falseTokens": ["无"]}, False),
        ("BOOLEAN", "是", {"trueTokens": ["有"], "falseTokens": ["无"]}, None),
        ("VARCHAR", "N/A", {"nullTokens": ["N/A"]}, None),
        ("VARCHAR", "N/A ", {}, "N/A"),
        ("DATE", "31.12.2026", {"dateFormats": ["%d.%m.%Y"]}, dt.date(2026, 12, 31)),
        ("DATE", "2026-12-31", {"dateFormats": ["%d.%m.%Y"]}, None),
        ("DATE", "31.12.2026", {}, None),
        ("DATE", "46022", {"dateFormats": ["excel_serial"]}, dt.date(2025, 12, 31)),
        ("DATE", "46022", {}, None),
        ("TIMESTAMPTZ", "2026-03-01 08:30:00.12", {}, dt.datetime(2026, 3, 1, 0, 30, 0, 120000, UTC)),
        ("TIMESTAMPTZ", "2026-03-01 08:30:00.12Z", {}, dt.datetime(2026, 3, 1, 8, 30, 0, 120000, UTC)),
        ("TIMESTAMPTZ", "2026-03-01 08:30:00", {"timeZone": "UTC"}, dt.datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        ("TIMESTAMPTZ", "2026-03-01 08:30:00", {"timeZone": "Europe/Berlin"}, dt.datetime(2026, 3, 1, 7, 30, tzinfo=UTC)),
        ("TIMESTAMPTZ", "2026-03-29 02:30:00", {"timeZone": "Europe/Berlin"}, None),  # did not exist
        ("TIMESTAMPTZ", "2026-10-25 02:30:00", {"timeZone": "Europe/Berlin"}, None),  # came twice
        ("TIMESTAMPTZ", "2026-10-25 03:30:00", {"timeZone": "Europe/Berlin"}, dt.datetime(2026, 10, 25, 2, 30, tzinfo=UTC)),
        ("TIMESTAMPTZ", "1767225600", {"dateFormats": ["epoch_s"]}, dt.datetime(2026, 1, 1, tzinfo=UTC)),
        ("TIMESTAMPTZ", "1767225600123", {"dateFormats": ["epoch_ms"]}, dt.datetime(2026, 1, 1, 0, 0, 0, 123000, UTC)),
        ("TIMESTAMPTZ", "46023.5", {"dateFormats": ["excel_serial", "%d/%m/%Y"]}, dt.datetime(2026, 1, 1, 4, tzinfo=UTC)),
        ("TIMESTAMPTZ", "99999999999999", {"dateFormats": ["epoch_s"]}, None),
        ("DATE", "99999999999999", {"dateFormats": ["excel_serial"]}, None),
    ],
)  # fmt: skip
def test_a_value_is_converted_as_declared_or_told(con, kind, text, settings, value):
    assert read(con, kind, text, **settings) == value


@pytest.mark.parametrize(
    ("kind", "text", "source", "unit", "value"),
    [
        ("DOUBLE", "1.5", "km", "m", 1500.0),
        ("DOUBLE", "90", "s", "min", 1.5),
        ("DOUBLE", "98.6", "degF", "degC", pytest.approx(37.0)),
        ("DOUBLE", "37", "degC", "degF", pytest.approx(98.6)),
        ("BIGINT", "1.5", "km", "m", 1500),
        ("BIGINT", "1.5", "m", "m", None),
        ("BIGINT", "1.5", "cm", "mm", 15),
        ("BIGINT", "1.55", "cm", "mm", None),
        ("DECIMAL(8,2)", "25", "yd", "m", Decimal("22.86")),
        ("DECIMAL(8,2)", "25.001", "yd", "m", None),  # 22.8609144 would have to be rounded
        ("DECIMAL(8,2)", "99999999999", "km", "m", None),
        ("DECIMAL(10,2)", "1250", "fen", "CNY", Decimal("12.50")),
        ("DOUBLE", "x", "km", "m", None),
    ],
)
def test_a_unit_is_converted_exactly_or_told(con, kind, text, source, unit, value):
    assert read(con, kind, text, unit, sourceUnit=source) == value


def test_units_convert_within_their_dimension_only():
    assert units.conversion("km", "s") is None
    assert units.conversion("千米", "米") == units.conversion("km", "m")
    assert units.as_decimal(units.conversion("s", "min")[1]) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"dateFormats": ["%d/%m/%Y", "%m/%d/%Y"]},
        {"dateFormats": ["%Q"]},
        {"dateFormats": ["epoch_s", "epoch_ms"]},
        {"dateFormats": ["%Y-%m-%d %z"]},
        {"timeZone": "Asia/Pudong"},
        {"thousands": "."},
        {"thousands": ",", "decimalMark": ","},
        {"trueTokens": ["是"]},
        {"trueTokens": ["是"], "falseTokens": ["是"]},
        {"nulTokens": ["-"]},
    ],
)
def test_settings_that_would_have_to_be_guessed_are_refused(settings):
    with pytest.raises(ValidationError):
        ValueOptions.model_validate(settings)


def test_a_column_says_what_its_source_does_not():
    source = ValueOptions.model_validate({"nullTokens": ["-"], "timeZone": "UTC"})
    column = ColumnValues.model_validate({"timeZone": "Asia/Tokyo"})
    both = merged(source, column)
    assert (both.null_tokens, both.time_zone, both.decimal_mark) == (["-"], "Asia/Tokyo", None)


@pytest.mark.parametrize(
    ("column", "settings", "word"),
    [
        ("场馆名称", "{dateFormats: ['%Y']}", "no use"),
        ("面积", "{sourceUnit: s}", "cannot be converted"),
        ("面积", "{sourceUnit: parsec}", "unknown unit"),
    ],
)
def test_a_contract_whose_settings_do_not_fit_is_refused(column, settings, word):
    path = contracts.load("venue.register").path
    text = path.read_text("utf-8")
    prop = next(p for p in contracts.load("venue.register").root.properties if p.source_name == column)
    at = text.index(f"name: {prop.name}")
    at = text.index("piMark:", at)
    changed = text[:at] + f"read: {settings}, " + text[at:]
    with pytest.raises(DeclarationError, match=word):
        contracts.read_contract(path, text=changed)
