"""The command line: every command there, helpful, JSON-able, with codes and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from catalog import contracts
from cli import main
from cli.output import emit, print_error, print_table
from lake.errors import TiyuError

EXPECTED = {
    "ingest", "stream", "compact", "reconcile", "archive", "status", "catalog", "contract", "policy", "grade", "build", "gate", "serve", "exchange", "open-data", "sql", "scratch", "describe", "trace", "row", "diff", "quarantine",
    "backfill", "reread", "ledger", "backup", "restore", "keys", "lineage",
}  # fmt: skip
LEAVES = {
    "ingest", "stream", "compact", "reconcile", "status", "build", "gate", "serve", "sql", "describe", "trace", "catalog check", "catalog build", "contract test", "contract draft",
    "exchange run", "exchange receive", "exchange verify", "exchange status", "open-data build", "keys init", "diff", "quarantine list", "quarantine replay",
    "quarantine withdraw", "backfill", "reread", "backup", "restore", "ledger rebuild", "grade certify", "archive check", "archive get", "archive log", "row", "quarantine show", "quarantine discard", "policy check", "policy show", "policy explain",
    "scratch create", "scratch upload", "scratch list", "scratch drop", "scratch expire",
}  # fmt: skip


def command_tree(command, prefix=""):
    if hasattr(command, "commands"):
        for name, sub in command.commands.items():
            yield from command_tree(sub, f"{prefix} {name}".strip())
    else:
        yield prefix, command


@pytest.fixture(scope="module")
def leaves():
    return dict(command_tree(typer.main.get_command(main.build_app())))


def test_all_commands_are_there(leaves):
    assert {name.split()[0] for name in leaves} == EXPECTED
    assert set(leaves) >= LEAVES


def test_every_command_explains_itself_and_speaks_json(leaves):
    examined = 0
    for name, command in leaves.items():
        assert len(command.help or "") > 20, name
        flags = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in flags, name
        for parameter in command.params:
            if parameter.opts != ["--json"] and getattr(parameter, "help", None) is not None:
                examined += 1
    assert len(leaves) >= len(LEAVES)
    assert examined > 10


def run(*arguments, env):
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        capture_output=True,
        text=True,
        env=env,
        timeout=120,
        check=False,
    )


def test_error_codes_and_exit_codes(home):
    import os

    env = dict(os.environ)
    unknown = run("ingest", "venue.parking", env=env)
    assert unknown.returncode == 2
    assert "TIYU-ING-0001" in unknown.stderr
    assert "处理办法" in unknown.stderr
    as_json = run("ingest", "venue.booking", "--json", env=env)  # no connection configured
    assert as_json.returncode in (2, 3)
    assert json.loads(as_json.stderr)["error"]["code"].startswith("TIYU-ING-01")
    status = run("status", "--json", env=env)
    assert status.returncode == 0, status.stderr
    assert len(json.loads(status.stdout)["resources"]) == len(contracts.fetched())
    nothing = run("reconcile", env=env)
    assert nothing.returncode == 1, "a reconciliation that examined nothing is no success"


def test_values_are_never_read_as_markup(capsys):
    print_table([{"a": "[red]x[/red]", "b": 1234}])
    emit({}, False, note="[orange] IN-02")
    print_error(TiyuError("TIYU-XX-0001", "[bold]坏[/bold]"))
    captured = capsys.readouterr()
    assert "[red]x[/red]" in captured.out
    assert "1,234" in captured.out
    assert "[orange] IN-02" in captured.out
    assert "[bold]坏[/bold]" in captured.err


def test_an_unforeseen_error_shows_its_type_only(monkeypatch, capsys):
    def explode():
        raise ValueError("19900000001")

    monkeypatch.delenv("TIYU_DEBUG", raising=False)
    monkeypatch.setattr(main, "build_app", lambda: explode)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 4
    error = capsys.readouterr().err
    assert "TIYU-CLI-0001" in error
    assert "ValueError" in error
    assert "19900000001" not in error


def test_help_is_english_and_starts_fast():
    result = CliRunner().invoke(main.build_app(), ["--help"])
    assert result.exit_code == 0
    code = "import sys, cli.main as m; m.build_app(); print([x for x in ('polars','duckdb','great_expectations','dbt','deltalake') if x in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()
    assert loaded == "[]", f"the command line loads heavy libraries before it is asked to: {loaded}"


def test_lineage_groups_by_table_nearest_first_and_says_where_it_ends(home, monkeypatch):
    from catalog import lineage
    from catalog.lineage import Exposure, Model
    from modeling import lineage as project

    models = [
        Model("dwd_venue__visit", "select person_token, part_date from ods_fitness__checkin where purpose = 'enter'", ("person_token", "part_date")),
        Model("ads_open__daily_visit", "select part_date, count(distinct person_token) as person_count from dwd_venue__visit group by part_date",
              ("part_date", "person_count")),
    ]  # fmt: skip
    sources = {"ods_fitness__checkin": ["person_token", "part_date", "purpose"]}
    surface = Exposure("open_daily_visits", "开放数据：各区每日到访", "application", ("ads_open__daily_visit",))
    graph = lineage.build(models, sources, exposures=[surface])
    monkeypatch.setattr(project, "load", lambda: (graph, {}))  # dbt is compiled by its own tests

    def told(*arguments: str) -> str:
        outcome = CliRunner().invoke(main.build_app(), ["lineage", *arguments])
        assert outcome.exit_code == 0, outcome.output
        return outcome.output

    edges = json.loads(told("ads_open__daily_visit.person_count", "--up", "--json"))["edges"]
    assert {
        "direction": "上游",
        "table": "ods_fitness__checkin",
        "column": "purpose",
        "edge_type": "influence",
    } in edges
    text = told("ads_open__daily_visit.person_count")
    rows = [line for line in text.splitlines() if "上游" in line]
    assert [row.split("│")[2].strip() for row in rows] == ["dwd_venue__visit", "ods_fitness__checkin"]
    assert "开放数据：各区每日到访" in text
    assert "7 项，在 2 张表中" in text
    assert [line.split("│")[2].strip() for line in told("ods_fitness__checkin.purpose", "--down").splitlines() if "下游" in line] == [
        "dwd_venue__visit", "ads_open__daily_visit",
    ]  # fmt: skip
    outcome = CliRunner().invoke(main.build_app(), ["lineage", "ads_open__daily_visit.no_such"])
    assert outcome.exit_code == 2 or "TIYU-LIN-0001" in str(outcome.exception)
