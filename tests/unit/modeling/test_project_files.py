"""The dbt project's own conventions: names, grain, grades, portable SQL, thresholds from the rules table."""

from __future__ import annotations

import re

import pytest
import yaml

from catalog import contracts, publish, rules_table
from lake.settings import settings
from modeling import project

MODELS = settings().repo_root / "dbt_project" / "models"
DOMAINS = "venue|event|training|fitness|supervision|reference"
GRAMMAR = re.compile(
    rf"^(?:dim_[a-z]+(?:_[a-z]+)*"
    rf"|(?:ods|dwd|dws)_(?:{DOMAINS})__[a-z]+(?:_[a-z]+)*"
    rf"|(?:ads|ops)_(?:{DOMAINS}|cockpit|open|exchange|ingest|quality|access)__[a-z]+(?:_[a-z]+)*)$"
)


def declared(kind: str) -> dict[str, dict]:
    found = {}
    for file in sorted(MODELS.rglob("*.yml")):
        content = yaml.safe_load(file.read_text("utf-8"))
        if kind == "models":
            found |= {model["name"]: model for model in content.get("models", [])}
        for source in content.get("sources", []) if kind == "sources" else []:
            found |= {table["name"]: table for table in source["tables"]}
    return found


def test_every_table_name_follows_the_grammar():
    names = {path.stem for path in MODELS.rglob("*.sql")} | set(declared("sources"))
    names |= {obj.table for contract in contracts.load_all().values() for obj in contract.objects}
    names |= {table.name for table in publish.TABLES}
    assert len(names) > 40
    assert [name for name in sorted(names) if not GRAMMAR.match(name)] == []


@pytest.mark.parametrize(
    "name", ["dwd_visit", "dws_cockpit__x", "ads_sports__kpi", "ods_venue_booking", "dim_Venue", "tmp_x"]
)
def test_grammar_refuses(name):
    assert not GRAMMAR.match(name)


def test_every_model_file_is_declared_with_grain_description_and_grades():
    models = declared("models")
    assert set(models) == {path.stem for path in MODELS.rglob("*.sql")}
    problems, columns = [], 0
    for name, model in models.items():
        if "粒度：" not in model["description"]:
            problems.append(f"{name}: no grain in description")
        if not any("unique_grain" in test for test in model["data_tests"]):
            problems.append(f"{name}: grain not tested")
        for column in model["columns"]:
            columns += 1
            meta = column.get("meta") or {}
            if (
                not column.get("description")
                or meta.get("grade") not in ("L1", "L2", "L3", "L4")
                or meta.get("pi_mark") not in ("N", "P", "S")
            ):
                problems.append(f"{name}.{column['name']}: not described or graded")
    assert columns > 300
    assert problems == []


def test_model_sql_is_portable_in_the_ways_we_know():
    """Dialect functions live in macros; every order states its nulls; no cast by ``::``."""
    dialect = re.compile(
        r"\b(strftime|epoch\w*|date_trunc|datediff|printf|generate_series|to_seconds|interval|qualify|unnest|string_agg)\b",
        re.I,
    )
    problems, files = [], 0
    for path in sorted(MODELS.rglob("*.sql")):
        files += 1
        sql = re.sub(r"--[^\n]*|\{#.*?#\}", "", path.read_text("utf-8"), flags=re.S)
        code = re.sub(r"\{\{.*?\}\}", "", sql, flags=re.S)
        problems += [f"{path.name}: {match}" for match in dialect.findall(code)]
        problems += [f"{path.name}: ::" for _ in re.findall("::", code)]
        for clause in re.findall(
            r"order by\s+(.*?)(?=\brows between\b|\)\s*(?:as\b|over\b|,|\n|$)|\Z)", sql, flags=re.S | re.I
        ):
            for item in re.findall(r"\b(?:asc|desc)\b(?!\s+nulls)", clause, flags=re.I):
                problems.append(f"{path.name}: {item} without nulls first/last")
            if not re.search(r"\b(asc|desc)\b", clause, flags=re.I):
                problems.append(f"{path.name}: order without direction: {clause[:40]}")
    assert files > 25
    assert problems == []


def test_every_rule_a_model_uses_exists_and_the_models_hold_no_threshold():
    known = {row.rule_id for row in rules_table.load_all()}
    used = {rule for path in MODELS.rglob("*.sql") for rule in re.findall(project._RULE_USE, path.read_text("utf-8"))}
    assert len(used) >= 15
    assert used - known == set()
