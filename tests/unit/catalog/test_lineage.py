"""The engine on hand-labelled SQL, and what it says when it does not understand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from catalog import lineage
from catalog.lineage import UNRESOLVED, Exposure, Kind, Model, Origin, read_query

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lineage"))
from constructs import CONSTRUCTS, TABLES, labels

SCHEMA = {table: list(columns) for table, columns in TABLES.items()}
SHORT = {Kind.VALUE: "v", Kind.INFLUENCE: "i", Kind.LINK: "l"}


@pytest.mark.parametrize("construct", CONSTRUCTS, ids=lambda c: c.name)
def test_construct_has_exactly_its_labels(construct):
    found = read_query(construct.sql, SCHEMA)
    assert found.problem is None
    assert found.complete
    got = {
        column: {(o.table, o.column): SHORT[kind] for o, kind in deps.items() if o.column != "*"}
        for column, deps in found.columns.items()
    }
    assert got == labels(construct, with_extra=True)


@pytest.mark.parametrize(
    ("sql", "column"),
    [
        ("select x from nowhere", "x"),
        ("select * from nowhere", "minutes"),
        ("select nothing from visit", "nothing"),
        ("select minutes from read_parquet('x.parquet')", "minutes"),
        ("select a.minutes from visit v", "minutes"),
        ("select my_macro(minutes) as m from visit", "m"),
        ("select minutes from visit where exists (select 1 from nowhere)", "minutes"),
        ("select minutes, (select max(x) from nowhere) as m from visit", "m"),
        ("select sum(minutes) over w as m from visit", "m"),
        ("select v.minutes from visit v join nowhere n on v.venue_id = n.venue_id", "minutes"),
        ("select minutes from visit union all select x from nowhere", "minutes"),
        ("selec minutes from", "minutes"),
    ],
)
def test_what_is_not_understood_is_unresolved_never_nothing(sql, column):
    graph = lineage.build([Model("m", sql, (column,))], SCHEMA)
    assert UNRESOLVED in graph.edges[Origin("m", column)], graph.edges
    assert Origin("m", column) in graph.unresolved


def test_a_declared_column_that_the_sql_does_not_give_is_unresolved():
    graph = lineage.build([Model("m", "select minutes from visit", ("minutes", "ghost"))], SCHEMA)
    assert graph.unresolved == [Origin("m", "ghost")]


def test_models_that_read_each_other_are_unresolved():
    models = [Model("a", "select x from b", ("x",)), Model("b", "select x from a", ("x",))]
    graph = lineage.build(models, {})
    assert set(graph.unresolved) >= {Origin("a", "x"), Origin("b", "x")}
    assert graph.problems


@pytest.fixture
def chain():
    return lineage.build(
        [
            Model("dwd_x__a", "select person_token, age, minutes from visit where age > 30", ("person_token", "age", "minutes")),
            Model(
                "dws_x__b",
                "select a.minutes, p.weight from dwd_x__a a join person p on a.person_token = p.person_token",
                ("minutes", "weight"),
            ),
            Model("ads_x__c", "select count(*) as n from dws_x__b", ("n",)),
        ],
        SCHEMA,
        exposures=[Exposure("cockpit", "驾驶舱", "dashboard", ("ads_x__c",))],
    )  # fmt: skip


def test_a_path_is_as_weak_as_its_weakest_edge(chain):
    up = chain.up(Origin("dws_x__b", "minutes"))
    assert up[Origin("visit", "minutes")] is Kind.VALUE
    assert up[Origin("visit", "age")] is Kind.INFLUENCE
    assert up[Origin("visit", "person_token")] is Kind.LINK


def test_rows_that_a_predicate_chose_carry_it_even_through_count_star(chain):
    assert chain.up(Origin("ads_x__c", "n"))[Origin("visit", "age")] is Kind.INFLUENCE


def test_down_is_up_read_backwards(chain):
    down = chain.down(Origin("visit", "age"))
    assert Origin("ads_x__c", "n") in down
    for origin in chain.edges:
        for parent, kind in chain.up(origin).items():
            assert chain.down(parent)[origin] is kind


def test_surfaces_tables_and_data(chain):
    assert [e.name for e in chain.surfaces_of("visit")] == ["cockpit"]
    assert chain.surfaces_of("closed") == []
    assert chain.models == ("dwd_x__a", "dws_x__b", "ads_x__c")
    assert chain.parents("dws_x__b") == ["dwd_x__a", "person"]
    data = chain.as_data()
    assert {table["table"] for table in data["tables"]} == {"visit", "person", *chain.models}
    assert ["visit", "age", "influence"] in data["columns"]["dwd_x__a"]["minutes"]
    assert data["surfaces"] == [{"name": "cockpit", "label": "驾驶舱", "kind": "dashboard", "reads": ["ads_x__c"]}]
