"""Checks are built from declarations that fit the tables they judge."""

from __future__ import annotations

import duckdb
import pytest

from catalog import columns, contracts, rules
from lake import tables
from lake.errors import TiyuError
from quality import checks, engine, gate


def _ads() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for row in columns.describe_all():
        if row["table"].startswith("ads_"):
            found.setdefault(row["table"], []).append((row["column"], row["type"] or "VARCHAR"))
    return found


def test_every_ads_model_has_declared_rules_and_no_declaration_is_orphaned():
    modelled = set(_ads())
    assert len(modelled) >= 8
    assert set(checks.load_declarations()) == modelled


def test_every_declared_rule_binds_to_the_columns_of_its_model():
    examined = 0
    for table, declared in _ads().items():
        con = duckdb.connect()
        listed = ", ".join(f'"{name}" {kind}' for name, kind in declared)
        con.execute(f"CREATE TABLE judged ({listed})")
        names = {name for name, _ in declared}
        found = checks.ads_checks(table, sorted(names))
        for check in found.checks:
            examined += 1
            assert set(check.columns) <= names, (table, check.rule_id)
            if check.kind == "row":
                con.execute(f"SELECT ({check.expression}) IS NOT TRUE FROM judged")
            elif check.kind == "table":
                con.execute(
                    f"SELECT 1 FROM judged GROUP BY {', '.join(check.columns)} HAVING ({check.expression}) IS NOT TRUE"
                )
        con.close()
    assert examined > 60


def test_every_source_table_has_checks_and_says_what_it_skips():
    examined = 0
    for contract in contracts.load_all("source").values():
        for obj in contract.objects:
            found = gate.ods_checks(contract, obj.table)
            examined += len(found.checks)
            kept = {check.rule_id for check in found.checks}
            wanted = {rule.rule_id for rule in obj.rules if rule.severity == "quarantine"}
            assert wanted <= kept | set(found.skipped), "no quarantine rule is lost without a word"
            assert found.may_be_empty == (not obj.is_root)
            assert any(check.kind == "key" for check in found.checks)
            raw = {rule.rule_id for rule in obj.rules if rule.needs_raw}
            assert raw.isdisjoint(kept), "raw identifiers are gone once stored"
    assert examined > 100


def test_the_same_compiler_serves_the_row_split_and_the_gate():
    contract = contracts.load("supervision.water_reading")
    found = {check.rule_id: check.expression for check in gate.ods_checks(contract, contract.root.table).checks}
    rule = next(rule for rule in contract.root.rules if rule.kind == "range" and rule.severity == "quarantine")
    assert found[rule.rule_id] == rules.compile(rule).predicate


def test_a_typo_in_the_declaration_is_refused(tmp_path):
    file = tmp_path / "ads.yaml"
    for text in ("tables: {ads_x__y: {grain: g, key: [a], not_nul: [a]}}", "tables: {ads_x__y: {key: [a]}}"):
        file.write_text(text, "utf-8")
        with pytest.raises(TiyuError) as caught:
            checks.load_declarations(file)
        assert caught.value.code == "TIYU-QG-0004"


def test_queries_survive_braces_and_colons():
    """Great Expectations formats braces and SQLAlchemy binds `:name`; neither may happen to a rule's text."""
    check = checks.Check("x", "table", "x", "max(a) <> '{b} :c'")
    target = engine.Target(checks.TableChecks("ads_x__y", (check,), part_column=None), 0, None)
    sql = engine._expectation_sql(target, 0, check)
    assert "{{b}} \\:c" in sql
    row = checks.Check("x", "row", "x", "regexp_matches(a, '^[0-9]{6}$')")
    assert engine._expectation_sql(target, 3, row) == "SELECT 1 AS broken FROM {batch} WHERE _broken_3"


def test_layers_of_gated_tables():
    for table in checks.load_declarations():
        assert tables.layer_of(table) == "ads"
