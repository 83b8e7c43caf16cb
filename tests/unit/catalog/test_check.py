"""`tiyu catalog check` finds each kind of fault, counts what it examined, and fails when there was nothing to examine."""

from __future__ import annotations

import inspect
import json
import pkgutil
import shutil
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from catalog import check, checks, columns, contracts, dictionary
from catalog.checks import Check
from catalog.columns import describe_all

ADS = {
    "ads_exchange__venue_register",
    "ads_exchange__water_reading",
    "ads_open__venue_directory",
    "ads_open__daily_visit",
}


def models_for_outputs(**changes) -> dict:
    """A dbt model file that describes exactly what the output contracts read; `changes` edit columns by name."""
    models = []
    for contract in contracts.load_all().values():
        if contract.output:
            models.append(
                {
                    "name": contract.output.table,
                    "description": contract.title,
                    "columns": [
                        {
                            "name": p.name,
                            "data_type": p.type.lower(),
                            "description": p.description,
                            "meta": {"grade": "L1", "pi_mark": "N", **({"unit": p.unit} if p.unit else {})},
                        }
                        for p in contract.root.properties
                    ],
                }
            )
    for model in models:
        for column in model["columns"]:
            column.update(changes.get(column["name"], {}))
    return {"version": 2, "models": models}


@pytest.fixture
def catalogue(tmp_path):
    """A copy of the contracts and a dbt models folder that fit together: (contracts folder, models folder)."""
    folder, models = tmp_path / "contracts", tmp_path / "models"
    shutil.copytree(contracts.FOLDER, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    models.mkdir()
    write(models, models_for_outputs())
    return folder, models


def write(models: Path, content: dict) -> None:
    (models / "outputs.yml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def run(catalogue) -> check.CheckReport:
    """The checks of contracts, columns and outputs; entries need the whole project and are tried in test_defects.py."""
    folder, models = catalogue
    return check.run(
        folder=folder, dbt_models=models, only=("contracts", "columns", "row_rules", "outputs", "declarations")
    )


#: Contract files, and tables of sources.
FILES = len(list(contracts.files()))
TABLES = sum(len(contract.objects) for contract in contracts.load_all("source").values())


def codes(report: check.CheckReport) -> set[str]:
    return {p.code for p in report.problems}


def test_clean_catalogue_passes_and_counts(catalogue):
    report = run(catalogue)
    assert report.problems == []
    assert report.ok
    expected_columns = len(describe_all(catalogue[1]))
    assert report.examined["contracts"] == FILES
    assert report.examined["columns"] == expected_columns
    assert report.examined["tables"] == TABLES + 6 + 4
    assert report.examined["rules"] >= 170
    assert report.examined["outputs"] == 4
    assert report.examined["output_columns"] == 53
    assert report.examined["kpis"] == 10


@pytest.mark.parametrize(
    ("column", "change", "code"),
    [
        ("visit_count", {"meta": {"pi_mark": "N"}}, "ungraded"),
        ("visit_count", {"meta": {"grade": "L7", "pi_mark": "N"}}, "ungraded"),
        ("visit_count", {"description": "  "}, "undescribed"),
        ("visit_count", {"meta": {"grade": "L1", "pi_mark": "N", "unit": "furlong"}}, "unknown_unit"),
        ("visit_count", {"meta": {"grade": "L1", "pi_mark": "X"}}, "pi_mark"),
        ("visit_count", {"meta": {"grade": "L1"}}, "unmarked"),
        ("visit_count", {"meta": {"grade": "L2", "pi_mark": "N"}}, "output_grade"),
        ("reading_id", {"meta": {"grade": "L3", "pi_mark": "N"}}, "output_grade"),
        ("reading_id", {"name": "reading_no"}, "output_column"),
        ("address", {"meta": {"grade": "L3", "pi_mark": "N", "identifier_kind": "name"}}, "unmarked_personal"),
        ("address", {"meta": {"grade": "L2", "pi_mark": "P", "identifier_kind": "phone"}}, "identifier_grade"),
    ],
)
def test_each_fault_of_a_column_is_found(catalogue, column, change, code):
    write(catalogue[1], models_for_outputs(**{column: change}))
    assert code in codes(run(catalogue))


def test_token_column_needs_mark_and_grade(catalogue):
    content = models_for_outputs()
    content["models"].append(
        {
            "name": "dwd_fitness__checkin",
            "columns": [{"name": "person_token", "description": "人员标记", "meta": {"grade": "L2", "pi_mark": "N"}}],
        }
    )
    write(catalogue[1], content)
    assert {"unmarked_personal", "identifier_grade"} <= codes(run(catalogue))


def test_the_limit_of_the_exchange_is_the_policys(catalogue):
    from catalog import policy
    from tests.policies import changed

    write(catalogue[1], models_for_outputs(reading_id={"meta": {"grade": "L2", "pi_mark": "N"}}))
    assert "output_grade" in {problem.code for problem in run(catalogue).problems}
    with policy.replaced(changed(("audiences.exchange.grades", {"L1": "plain", "L2": "plain"}))):
        assert "output_grade" not in {problem.code for problem in run(catalogue).problems}


def test_output_that_reads_an_undescribed_table(catalogue):
    (catalogue[1] / "outputs.yml").unlink()
    report = run(catalogue)
    assert {p.where for p in report.problems if p.code == "output_table"} == {
        "exchange.venue_register",
        "exchange.water_reading",
        "open.venue_directory",
        "open.daily_visits",
    }


def test_k_of_a_contract_is_the_one_of_the_rules_table(catalogue):
    file = catalogue[0] / "outputs" / "open" / "daily_visits.odcs.yaml"
    text = file.read_text("utf-8")
    assert "k: 20\n" in text
    file.write_text(text.replace("k: 20\n", "k: 19\n"), "utf-8")
    assert codes(run(catalogue)) == {"output_k"}


def test_broken_contract_does_not_hide_the_others(catalogue):
    file = catalogue[0] / "sources" / "venue" / "entry.odcs.yaml"
    file.write_text(
        file.read_text(encoding="utf-8").replace("classification: L2", "clasification: L2", 1), encoding="utf-8"
    )
    report = run(catalogue)
    assert report.examined["contracts"] == FILES
    assert {(p.code, p.where) for p in report.problems} >= {("contract", "entry.odcs.yaml")}


def test_column_declared_twice(catalogue):
    content = models_for_outputs()
    content["models"].append(content["models"][0])
    write(catalogue[1], content)
    assert "column_twice" in codes(run(catalogue))


def test_examining_nothing_is_a_failure(tmp_path):
    report = run((tmp_path / "none", tmp_path / "none"))
    assert not report.ok
    assert {p.where for p in report.problems if p.code == "nothing_examined"} == {
        "contracts",
        "source_tables",
        "dbt_tables",
        "rules",
        "outputs",
        "output_columns",
    }


def test_a_check_that_crashes_is_an_error_and_never_a_pass(catalogue):
    def crash(_context, found):
        found.count("things", 3)
        raise ZeroDivisionError("oh")

    report = check.run(
        folder=catalogue[0],
        dbt_models=catalogue[1],
        more=[Check("crash", "会出错", crash, {"things": "物"})],
        only=["contracts", "crash"],
    )
    assert not report.ok
    assert [(f.check, f.outcome) for f in report.checks if f.outcome != "pass"] == [("crash", "error")]
    assert codes(report) == {"check_error"}


def test_a_check_that_examines_nothing_fails(catalogue):
    idle = Check("idle", "空转", lambda _context, found: found.count("things", 0), {"things": "物"})
    report = check.run(folder=catalogue[0], dbt_models=catalogue[1], more=[idle], only=["idle"])
    assert [(p.code, p.where) for p in report.problems] == [("nothing_examined", "things")]
    assert not check.run(folder=catalogue[0], dbt_models=catalogue[1], only=[]).ok


def test_a_count_must_be_declared(catalogue):
    sloppy = Check("sloppy", "随意", lambda _context, found: found.count("other", 1), {"things": "物"})
    report = check.run(folder=catalogue[0], dbt_models=catalogue[1], more=[sloppy], only=["sloppy"])
    assert codes(report) == {"check_error"}


def test_every_module_of_checks_is_on_the_list_once_and_counts_have_unique_names():
    modules = {module.name for module in pkgutil.iter_modules(checks.__path__)} - {"base"}
    listed = [inspect.getmodule(item.run).__name__.rsplit(".", 1)[-1] for item in checks.CHECKS]
    assert sorted(listed) == sorted(modules)
    names = [name for item in checks.CHECKS for name in {**item.counts, **item.may_be_none}]
    assert len(names) == len(set(names))
    assert all(item.counts for item in checks.CHECKS)


def test_meta_may_stand_under_config(tmp_path):
    (tmp_path / "a.yml").write_text(
        yaml.safe_dump(
            {
                "models": [
                    {
                        "name": "dim_x",
                        "columns": [
                            {
                                "name": "x_name",
                                "description": "名称，全称",
                                "data_type": "varchar",
                                "config": {"meta": {"grade": "L1", "pi_mark": "N"}},
                            }
                        ],
                    }
                ],
                "sources": [
                    {
                        "name": "ops",
                        "tables": [
                            {"name": "ops_x", "columns": [{"name": "n", "description": "数", "meta": {"grade": "L2"}}]}
                        ],
                    }
                ],
            },
            allow_unicode=True,
        ),
        encoding="utf-8",
    )
    rows = {(r["table"], r["column"]): r for r in describe_all(tmp_path)}
    assert rows["dim_x", "x_name"]["grade"] == "L1"
    assert rows["dim_x", "x_name"]["title_zh"] == "名称"
    assert rows["dim_x", "x_name"]["type"] == "VARCHAR"
    assert rows["ops_x", "n"]["grade"] == "L2"
    token = rows["ods_fitness__checkin", "person_token"]
    assert (token["grade"], token["pi_mark"], token["identifier_kind"]) == ("L3", "P", "id_no")
    assert rows["ods_venue__entry", "part_date"]["grade"] == "L1"


def app() -> typer.Typer:
    from cli import catalog as command

    application = typer.Typer()
    command.register(application)
    return application


def test_command_exit_code_and_json(home, monkeypatch, tmp_path):
    """The whole command, the lineage of the compiled project included, over a copy of the declarations."""
    models = tmp_path / "models"
    shutil.copytree(columns.dbt_models_dir(), models)
    monkeypatch.setattr(columns, "dbt_models_dir", lambda: models)
    good = CliRunner().invoke(app(), ["catalog", "check", "--json"])
    assert good.exit_code == 0, json.loads(good.output)["problems"]
    examined = json.loads(good.output)["examined"]
    assert examined["contracts"] == FILES
    assert examined["models"] == len(list(models.rglob("*.sql")))
    assert examined["lineage_columns"] >= 350
    declared = models / "dws" / "fitness" / "_dws__fitness.yml"
    text = declared.read_text(encoding="utf-8")
    declared.write_text(text.replace('description: "扫码次数"', 'description: ""'), encoding="utf-8")
    bad = CliRunner().invoke(app(), ["catalog", "check"])
    assert bad.exit_code == 1
    assert "undescribed" in bad.output


def test_dictionary_holds_every_column(home, monkeypatch, catalogue):
    monkeypatch.setattr(columns, "dbt_models_dir", lambda: catalogue[1])
    page, data = dictionary.build()
    content = json.loads(data.read_text(encoding="utf-8"))
    assert len(content["columns"]) == len(describe_all())
    text = page.read_text(encoding="utf-8")
    assert all(f"## {row['table']}" in text for row in content["columns"])
    assert "演示数据" not in text
