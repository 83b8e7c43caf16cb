"""Every kind of row rule, passing and failing at its boundary, through the compiler and DuckDB."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest

from catalog import contracts, rules
from catalog.contracts import RuleSpec
from lake.errors import TiyuError

AS_OF = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'Asia/Shanghai'")
        connection.execute("CREATE TABLE ods_venue__register (venue_id VARCHAR, unit_id VARCHAR)")
        connection.execute("INSERT INTO ods_venue__register VALUES ('V310101-001', 'V310101-001-U01'), (NULL, NULL)")
        yield connection


def rule(kind: str, columns: list[str], params: dict[str, Any] | None = None, when: str | None = None) -> RuleSpec:
    return RuleSpec(
        rule_id=f"t.{kind}",
        contract_id="t.t",
        table="ods_t__t",
        kind=kind,
        severity="quarantine",
        message_zh="不合格",
        columns=columns,
        params=params or {},
        when=when,
    )


def passes(con: duckdb.DuckDBPyConnection, spec: RuleSpec, **values: str) -> bool:
    """Evaluate the predicate over one row; each value is an SQL expression. The answer must never be NULL."""
    row = ", ".join(f'{sql} AS "{name}"' for name, sql in values.items())
    compiled = rules.compile(spec, as_of=AS_OF)
    answer = con.execute(f"SELECT {compiled.predicate} FROM (SELECT {row})").fetchone()[0]
    assert answer is not None, "a predicate must be TRUE or FALSE"
    return answer


CASES = [
    ("not_null", {}, "x", "'a'", True),
    ("not_null", {}, "x", "NULL::VARCHAR", False),
    ("range", {"min": 0.0}, "x", "0::DECIMAL(12,2)", True),
    ("range", {"min": 0.0}, "x", "-0.01::DECIMAL(12,2)", False),
    ("range", {"min": 0.0, "min_exclusive": True}, "x", "0.0::DOUBLE", False),
    ("range", {"min": 0.0, "min_exclusive": True}, "x", "0.0001::DOUBLE", True),
    ("range", {"max": 32.0}, "x", "32.0::DOUBLE", True),
    ("range", {"max": 32.0}, "x", "32.0000001::DOUBLE", False),
    ("range", {"max": 32.0, "max_exclusive": True}, "x", "32::BIGINT", False),
    ("range", {"min": 120.8, "max": 122.3}, "x", "120.8::DOUBLE", True),
    ("range", {"min": 120.8, "max": 122.3}, "x", "120.7999::DOUBLE", False),
    ("range", {"min": 0.0}, "x", "'nan'::DOUBLE", False),
    ("range", {"min": 0.0}, "x", "NULL::DOUBLE", True),
    ("in_list", {"code_list": "direction"}, "x", "'in'", True),
    ("in_list", {"code_list": "direction"}, "x", "'进'", False),
    ("in_list", {"values": ["a", "it's"]}, "x", "'it''s'", True),
    ("in_list", {"values": ["a", "it's"]}, "x", "'A'", False),
    ("in_list", {"code_list": "direction"}, "x", "NULL::VARCHAR", True),
    ("pattern", {"pattern": r"^V\d{6}-\d{3}$"}, "x", "'V310101-001'", True),
    ("pattern", {"pattern": r"^V\d{6}-\d{3}$"}, "x", "'V310101-0012'", False),
    ("pattern", {"pattern": r"^V\d{6}-\d{3}$"}, "x", "NULL::VARCHAR", True),
    ("reference", {"table": "ods_venue__register"}, "venue_id", "'V310101-001'", True),
    ("reference", {"table": "ods_venue__register"}, "venue_id", "'V310101-002'", False),
    ("reference", {"table": "ods_venue__register"}, "venue_id", "NULL::VARCHAR", True),
    ("reference", {"table": "ods_venue__register", "target_column": "unit_id"}, "pool_id", "'V310101-001-U01'", True),
    ("reference", {"table": "ods_venue__register", "target_column": "unit_id"}, "pool_id", "'V310101-001'", False),
    ("phone", {}, "x", "'13800000000'", True),
    ("phone", {}, "x", "'+86 199-0000-0000'", True),
    ("phone", {}, "x", "'12800000000'", False),
    ("phone", {}, "x", "'1380000000'", False),
    ("phone", {}, "x", "'138000000001'", False),
    ("phone", {}, "x", "NULL::VARCHAR", True),
]


@pytest.mark.parametrize(("kind", "params", "column", "value", "expected"), CASES)
def test_single_column_kinds(con, kind, params, column, value, expected):
    assert passes(con, rule(kind, [column], params), **{column: value}) is expected


@pytest.mark.parametrize(
    ("left", "op", "right", "expected"),
    [
        ("1", "<", "2", True),
        ("2", "<", "2", False),
        ("2", "<=", "2", True),
        ("3", "<=", "2", False),
        ("2", "!=", "2", False),
        ("NULL::INTEGER", "<", "2", True),
        ("1", "<", "NULL::INTEGER", True),
    ],
)
def test_compare(con, left, op, right, expected):
    spec = rule("compare", ["a", "b"], {"left": "a", "op": op, "right": "b"})
    assert passes(con, spec, a=left, b=right) is expected


def test_expression_sees_the_business_instant(con):
    spec = rule("expression", ["passed_at"], {"sql": "passed_at <= {as_of} + INTERVAL 10 MINUTE"})
    assert passes(con, spec, passed_at="TIMESTAMPTZ '2026-11-20 12:10:00+08'")
    assert not passes(con, spec, passed_at="TIMESTAMPTZ '2026-11-20 12:10:01+08'")
    assert passes(con, spec, passed_at="NULL::TIMESTAMPTZ")


def test_expression_that_becomes_null_is_not_fine(con):
    spec = rule("expression", ["a"], {"sql": "b > 1"})
    assert not passes(con, spec, a="1", b="NULL::INTEGER")


def test_an_expression_that_cannot_be_computed_refuses_its_row_and_no_other(con):
    spec = rule("expression", ["months"], {"sql": "DATE '2026-01-01' + CAST(months AS INTEGER) * INTERVAL 1 MONTH > d"})
    predicate = rules.compile(spec, as_of=AS_OF).predicate
    rows = con.execute(
        f"SELECT months, {predicate} FROM (SELECT unnest([1, 1e300, 2]) AS months, DATE '2026-01-15' AS d)"
    ).fetchall()
    assert rows == [(1, True), (1e300, False), (2, True)]


def test_when_limits_the_rule(con):
    spec = rule("range", ["value", "item"], {"max": 14.0}, when="item = 'ph'")
    assert not passes(con, spec, value="14.1", item="'ph'")
    assert passes(con, spec, value="14.0", item="'ph'")
    assert passes(con, spec, value="14.1", item="'orp'")
    assert passes(con, spec, value="14.1", item="NULL::VARCHAR")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("11010519491231002X", True),
        ("11010519491231002x", True),
        (" １１０１０５１９４９１２３１００２Ｘ ", True),
        ("110105194912310021", False),  # wrong check character
        ("110105194902310020", False),  # 31 February
        ("110105491231002", False),  # 15 digits
        ("11010519491231002XX", False),
        ("", False),
        ("abc", False),
    ],
)
def test_resident_id(con, number, expected):
    assert passes(con, rule("check_digit", ["x"], {"standard": "GB11643"}), x=f"'{number}'") is expected


def _resident_id(birth: str) -> str:
    body = f"999999{birth}001"
    return body + rules.GB11643_CHECKS[sum(int(c) * w for c, w in zip(body, rules.GB11643_WEIGHTS, strict=True)) % 11]


@pytest.mark.parametrize(
    ("birth", "expected"),
    [
        ("20261120", True),
        ("20261121", False),
        ("19061120", True),
        ("19061119", False),
        ("20240229", True),
        ("20230229", False),
    ],
)
def test_resident_id_birth_date_boundaries(con, birth, expected):
    spec = rule("check_digit", ["x"], {"standard": "GB11643"})
    assert passes(con, spec, x=f"'{_resident_id(birth)}'") is expected


@pytest.mark.parametrize(
    "code", ["91350100M000100Y43", "91110000600037341L", "91330106673959654P", "91110108551385082Q"]
)
def test_credit_code(con, code):
    spec = rule("check_digit", ["x"], {"standard": "GB32100"})
    assert passes(con, spec, x=f"'{code}'")
    assert passes(con, spec, x=f"'{code.lower()}'")
    wrong = rules.GB32100_ALPHABET[(rules.GB32100_ALPHABET.index(code[-1]) + 1) % 31]
    assert not passes(con, spec, x=f"'{code[:-1]}{wrong}'")
    assert not passes(con, spec, x=f"'{code[:8]}I{code[9:]}'"), "I is not in the alphabet"
    assert not passes(con, spec, x=f"'{code[:-1]}'")


def test_check_digit_catches_every_single_digit_error(con):
    spec = rules.compile(rule("check_digit", ["x"], {"standard": "GB11643"}), as_of=AS_OF)
    good = "11010519491231002X"
    wrong = [good[:n] + d + good[n + 1 :] for n in range(17) for d in "0123456789" if d != good[n]]
    caught = con.execute(
        f"SELECT count(*) FROM (SELECT unnest(?) AS x) WHERE NOT {spec.predicate}", [wrong]
    ).fetchone()[0]
    assert (caught, len(wrong)) == (17 * 9, 17 * 9)


def test_unknown_kind_is_an_error():
    with pytest.raises(TiyuError, match="TIYU-CAT-0005"):
        rules.compile(rule("guess", ["x"]))


def test_every_contract_rule_compiles_binds_and_is_never_null(monkeypatch):
    """All rules of all sources run over a row of NULLs and give TRUE or FALSE; only `not_null` may refuse it."""
    monkeypatch.setenv("TIYU_TODAY", "2026-11-20")
    examined = 0
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'Asia/Shanghai'")
        referenced: dict[str, set[str]] = {}
        for contract in contracts.load_all("source").values():
            for table, column in (
                pair for obj in contract.objects for r in rules.compile_object(obj) for pair in r.references
            ):
                referenced.setdefault(table, set()).add(column)
        for table, names in referenced.items():
            con.execute(f"CREATE TABLE {table} ({', '.join(f'{name} VARCHAR' for name in sorted(names))})")
        for contract in contracts.load_all("source").values():
            for obj in contract.objects:
                columns = {p.name: p.type for p in obj.properties}
                columns |= {p.raw_name: "VARCHAR" for p in obj.properties if p.protection}
                row = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns.items())
                for compiled in rules.compile_object(obj):
                    examined += 1
                    answer = con.execute(f"SELECT {compiled.predicate} FROM (SELECT {row})").fetchone()[0]
                    assert answer is (compiled.kind != "not_null"), compiled.rule_id
    assert examined >= 150


def test_rule_ids_are_stable_and_unique():
    ids = [r.rule_id for c in contracts.load_all("source").values() for o in c.objects for r in o.rules]
    assert len(ids) == len(set(ids))
    assert {
        "venue.booking.amount_cny.range",
        "venue.booking.venue_id.reference",
        "venue.register.area_m2.range",
        "venue.entry.passed_at.not_future",
        "fitness.checkin.person_token.check_digit",
        "supervision.water_reading.pool_id.reference",
        "training.activity_sample.heart_rate_bpm.range",
    } <= set(ids)
    booking = contracts.load("venue.booking").root
    assert booking.type_rule_id("amount_cny") == "venue.booking.amount_cny.type"


@pytest.mark.parametrize(
    ("contract", "rule_id", "values", "expected"),
    [
        ("venue.register", "venue.register.lng.range", {"lng": "120.8::DOUBLE"}, True),
        ("venue.register", "venue.register.lng.range", {"lng": "122.31::DOUBLE"}, False),
        ("venue.register", "venue.register.lat.range", {"lat": "32.0::DOUBLE"}, True),
        ("venue.register", "venue.register.lat.range", {"lat": "30.59::DOUBLE"}, False),
        ("venue.register", "venue.register.area_m2.range", {"area_m2": "0::DOUBLE"}, False),
        ("venue.register", "venue.register.close_time.pattern", {"close_time": "'24:00'"}, True),
        ("venue.register", "venue.register.open_time.pattern", {"open_time": "'24:00'"}, False),
        ("venue.booking", "venue.booking.amount_cny.range", {"amount_cny": "0::DECIMAL(12,2)"}, True),
        ("venue.booking", "venue.booking.amount_cny.range", {"amount_cny": "-0.01::DECIMAL(12,2)"}, False),
        (
            "venue.booking",
            "venue.booking.unit_id.in_venue",
            {"venue_id": "'V310101-001'", "unit_id": "'V310101-002-U01'"},
            False,
        ),
        (
            "venue.booking",
            "venue.booking.status.cancelled_at",
            {"status": "'cancelled'", "cancelled_at": "NULL"},
            False,
        ),
        (
            "supervision.water_reading",
            "supervision.water_reading.ph.plausible",
            {"item": "'ph'", "value": "14.0::DOUBLE"},
            True,
        ),
        (
            "supervision.water_reading",
            "supervision.water_reading.ph.plausible",
            {"item": "'ph'", "value": "14.01::DOUBLE"},
            False,
        ),
        (
            "supervision.water_reading",
            "supervision.water_reading.free_chlorine.plausible",
            {"item": "'free_chlorine'", "value": "1.4::DOUBLE"},  # over the legal limit, still a plausible reading
            True,
        ),
        (
            "fitness.checkin",
            "fitness.checkin.person_token.check_digit",
            {"id_type": "'passport'", "raw__id_no": "'E1'"},
            True,
        ),
        (
            "fitness.checkin",
            "fitness.checkin.person_token.format",
            {"id_type": "'passport'", "raw__id_no": "'E1'"},
            False,
        ),
        (
            "fitness.checkin",
            "fitness.checkin.person_token.check_digit",
            {"id_type": "'resident_id'", "raw__id_no": "'110105194912310021'"},
            False,
        ),
    ],
)
def test_contract_rules_at_their_boundaries(con, contract, rule_id, values, expected):
    obj = contracts.load(contract).root
    spec = next(r for r in obj.rules if r.rule_id == rule_id)
    assert passes(con, spec, **values) is expected


def test_raw_identifiers_are_only_read_at_ingestion():
    obj = contracts.load("venue.booking").root
    spec = next(r for r in obj.rules if r.kind == "phone")
    assert spec.needs_raw
    assert spec.columns == ["raw__phone"]
    assert not any(r.needs_raw for r in rules.compile_object(obj, with_raw=False))
