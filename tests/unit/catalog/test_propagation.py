"""Grades and marks along the lineage: what raises, what does not, and what the check says about a planted fault."""

from __future__ import annotations

import pytest

from catalog import lineage, propagation
from catalog.checks import Context
from catalog.checks.base import execute
from catalog.lineage import Model, Origin
from modeling import propagation_check

SOURCE = {
    "ods_x__visit": {
        "visit_id": ("L2", "N"), "person_token": ("L3", "P"), "venue_id": ("L1", "N"), "heart_rate": ("L4", "S"),
        "birth_year": ("L3", "P"), "minutes": ("L2", "N"), "day": ("L1", "N"),
    }
}  # fmt: skip


def row(table, column, grade, mark, origin="x.yml"):
    return {
        "table": table, "column": column, "grade": grade, "pi_mark": mark, "origin": origin, "type": None,
        "title_zh": None, "description": "d", "unit": None, "identifier_kind": None,
    }  # fmt: skip


def declared(models):
    rows = [row(t, c, g, m, "x.source") for t, columns in SOURCE.items() for c, (g, m) in columns.items()]
    rows += [row(model, column, *grade) for model, columns in models.items() for column, grade in columns.items()]
    tables: dict = {}
    for r in rows:
        tables.setdefault(r["table"], {})[r["column"]] = r
    return rows, tables


def graph_of(sqls, models):
    return lineage.build([Model(n, sqls[n], tuple(models[n])) for n in sqls], {t: list(c) for t, c in SOURCE.items()})


def computed(sql, breakers=(), **columns):
    models = {"dwd_x__m": columns}
    _, tables = declared(models)
    found = propagation.compute(graph_of({"dwd_x__m": sql}, models), tables, breakers)
    return {c.column: (c.computed_grade, c.computed_mark) for c in found}


LOW = ("L1", "N")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select minutes as x from ods_x__visit", ("L2", "N")),
        ("select birth_year as x from ods_x__visit", ("L3", "P")),
        ("select day as x from ods_x__visit", ("L1", "N")),
        ("select day as x from ods_x__visit where heart_rate > 180", ("L4", "S")),
        ("select day as x from ods_x__visit where person_token is not null", ("L1", "N")),
        ("select day as x from ods_x__visit where person_token = 'p'", ("L3", "P")),
        ("select a.day as x from ods_x__visit a join ods_x__visit b on a.person_token = b.person_token", ("L1", "N")),
        ("select a.day as x from ods_x__visit a join ods_x__visit b on a.birth_year = b.birth_year", ("L3", "P")),
        ("select max(day) as x from ods_x__visit group by person_token", ("L1", "N")),
        ("select max(day) as x from ods_x__visit group by birth_year", ("L3", "P")),
        ("select count(*) as x from ods_x__visit", ("L1", "N")),
        ("select count(*) as x from ods_x__visit group by birth_year", ("L3", "P")),
        ("select count(distinct person_token) as x from ods_x__visit", ("L3", "P")),
        ("select case when heart_rate > 180 then 1 end as x from ods_x__visit", ("L4", "S")),
        ("select md5(person_token) as x from ods_x__visit", ("L3", "P")),
        ("select 1 as x from ods_x__visit order by heart_rate limit 1", ("L4", "S")),
        ("select day as x from (select *, row_number() over (partition by person_token order by visit_id) as n from ods_x__visit) where n = 1", ("L1", "N")),
        ("select day as x from (select *, row_number() over (partition by day order by heart_rate) as n from ods_x__visit) where n = 1", ("L4", "S")),
        ("select ghost as x from ods_x__visit", ("L4", "S")),
        ("select x from unknown_table", ("L4", "S")),
        ("select person_token as x from ods_x__visit union all select day from ods_x__visit", ("L3", "P")),
    ],
)  # fmt: skip
def test_computed_grade_and_mark(sql, expected):
    assert computed(sql, x=LOW) == {"x": expected}


def test_an_undeclared_or_ungraded_source_column_counts_as_the_highest():
    models = {"dwd_x__m": {"x": LOW}}
    _, tables = declared(models)
    tables["ods_x__visit"]["day"]["grade"] = None
    found = propagation.compute(graph_of({"dwd_x__m": "select day as x from ods_x__visit"}, models), tables)
    assert (found[0].computed_grade, found[0].computed_mark) == ("L4", "S")


def test_a_breaker_ends_the_grade_there_and_nowhere_else():
    models = {"dws_x__a": {"n": LOW, "m": LOW}, "ads_x__b": {"n": LOW, "m": LOW}}
    sqls = {
        "dws_x__a": "select count(distinct person_token) as n, max(heart_rate) as m from ods_x__visit",
        "ads_x__b": "select n, m from dws_x__a",
    }
    _, tables = declared(models)
    found = propagation.compute(graph_of(sqls, models), tables, [Origin("dws_x__a", "n")])
    by = {(c.table, c.column): c for c in found}
    assert (by["dws_x__a", "n"].computed_grade, by["dws_x__a", "n"].effective_grade) == ("L3", "L1")
    assert by["ads_x__b", "n"].computed_grade == "L1"
    assert by["ads_x__b", "m"].computed_grade == "L4"


def test_a_predicate_on_a_graded_attribute_follows_the_rows_into_later_models():
    models = {"dwd_x__a": {"day": ("L4", "S")}, "ads_x__b": {"n": LOW}}
    sqls = {
        "dwd_x__a": "select day from ods_x__visit where heart_rate > 180",
        "ads_x__b": "select count(*) as n from dwd_x__a",
    }
    _, tables = declared(models)
    found = propagation.compute(graph_of(sqls, models), tables)
    assert {c.table: c.computed_grade for c in found} == {"dwd_x__a": "L4", "ads_x__b": "L4"}


# ---------------------------------------------------------------------- the check

GOOD = """
    kind: count
    subject: person_token
    reason: 每日人数
    approver: 数据安全管理岗
    approved: "2026-11-20"
    expires: "2027-11-19"
"""


def run_check(tmp_path, sql, columns, breaker=None, target="n"):
    """The findings of the propagation check over one model with the given declarations."""
    lines = ["models:", "  - name: dws_x__m", "    columns:"]
    for name, (grade, mark) in columns.items():
        lines += [
            f"      - name: {name}",
            "        description: d",
            f"        meta: {{grade: {grade}, pi_mark: {mark}}}",
        ]
        if breaker is not None and name == target:
            lines[-1] = f"        meta:\n          grade: {grade}\n          pi_mark: {mark}\n          breaker:"
            lines += ["            " + text.strip() for text in breaker.strip().splitlines()]
    (tmp_path / "m.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    models = {"dws_x__m": columns}
    rows, _ = declared(models)
    context = Context(dbt_models=tmp_path)
    context.__dict__["columns"] = rows
    graph = graph_of({"dws_x__m": sql}, models)
    return execute(propagation_check.check(lambda: (graph, {"dws_x__m": sql})), context)


COUNT = "select day, count(distinct person_token) as n from ods_x__visit group by day"


def test_a_clean_model_passes_and_says_what_it_looked_at(tmp_path):
    found = run_check(tmp_path, COUNT, {"day": LOW, "n": ("L3", "P")})
    assert found.problems == []
    assert found.examined["models"] == 1
    assert found.examined["lineage_columns"] == 2
    assert found.examined["lineage_edges"] > 2
    assert found.examined["breakers"] == 0


def test_a_column_without_grade_is_one_finding_not_one_for_each_column_after_it(tmp_path):
    declarations = {"dws_x__a": {"n": LOW, "h": LOW}, "ads_x__b": {"n": LOW, "day": LOW, "h": LOW}}
    sqls = {
        "dws_x__a": "select day as n, heart_rate as h from ods_x__visit",
        "ads_x__b": "select n, n as day, h from dws_x__a",
    }
    rows, tables = declared(declarations)
    tables["dws_x__a"]["n"]["grade"] = None
    context = Context(dbt_models=tmp_path)
    context.__dict__["columns"] = rows
    found = execute(propagation_check.check(lambda: (graph_of(sqls, declarations), sqls)), context)
    by_code = {code: [p for p in found.problems if p.code == code] for code in {p.code for p in found.problems}}
    assert set(by_code) == {"grade_unknown", "grade_lowered"}
    assert [p.where for p in by_code["grade_unknown"]] == ["ads_x__b.n"]
    assert "2 列" in by_code["grade_unknown"][0].message_zh
    # what is too low for a reason of its own is still told, with that reason
    assert [p.where for p in by_code["grade_lowered"]] == ["dws_x__a.h", "ads_x__b.h"]
    assert all("heart_rate" in p.message_zh or "dws_x__a.h" in p.message_zh for p in by_code["grade_lowered"])


def test_a_good_breaker_lets_the_grade_fall(tmp_path):
    found = run_check(tmp_path, COUNT, {"day": LOW, "n": ("L2", "N")}, GOOD)
    assert found.problems == []
    assert found.examined["breakers"] == 1


@pytest.mark.parametrize(
    ("sql", "columns", "breaker", "codes"),
    [
        (COUNT, {"day": LOW, "n": ("L2", "P")}, None, {"grade_lowered"}),
        (COUNT, {"day": LOW, "n": ("L3", "N")}, None, {"grade_lowered"}),
        ("select ghost as n from ods_x__visit", {"n": ("L4", "S")}, None, {"lineage_unresolved"}),
        ("select n from elsewhere", {"n": ("L1", "N")}, None, {"lineage_unresolved", "grade_lowered"}),
        ("selec", {"n": ("L1", "N")}, None, {"lineage_model", "lineage_unresolved", "grade_lowered"}),
        (COUNT, {"day": LOW, "n": ("L2", "N")}, GOOD.replace("kind: count", "kind: magic"), {"breaker", "grade_lowered"}),
        (COUNT, {"day": LOW, "n": ("L2", "N")}, GOOD.replace("2027-11-19", "2026-01-01"), {"breaker", "grade_lowered"}),
        (COUNT, {"day": LOW, "n": ("L2", "N")}, GOOD.replace("2027-11-19", "2036-01-01"), {"breaker", "grade_lowered"}),
        (COUNT, {"day": LOW, "n": ("L2", "N")}, GOOD.replace("approver: 数据安全管理岗", ""), {"breaker", "grade_lowered"}),
        (COUNT, {"day": LOW, "n": ("L2", "N")}, GOOD.replace("kind: count", "kind: total"), {"breaker", "grade_lowered"}),
        (COUNT, {"day": LOW, "n": ("L3", "P")}, GOOD, {"breaker_idle"}),
    ],
)  # fmt: skip
def test_planted_faults(tmp_path, sql, columns, breaker, codes):
    found = run_check(tmp_path, sql, columns, breaker)
    assert {problem.code for problem in found.problems} == codes


def test_no_model_at_all_is_a_failure(tmp_path):
    context = Context(dbt_models=tmp_path)
    context.__dict__["columns"] = []
    found = execute(propagation_check.check(lambda: (lineage.build([], {}), {})), context)
    assert {p.code for p in found.problems} == {"nothing_examined"}
