"""`tiyu` under a role: which file a query sees, for roles with a file, without one, and not held."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from catalog.policy import holders, replaced
from cli import main
from lake.errors import TiyuError
from sharing import serving
from sharing.serving import scratch
from tests.policies import changed

pytestmark = pytest.mark.policy

WHICH = "SELECT database_name AS n FROM duckdb_databases() WHERE NOT internal AND database_name <> 'memory' ORDER BY 1"


@pytest.fixture
def give(served):
    path = served.home / "roles.yaml"

    def write(*roles: str) -> None:
        path.write_text(f"accounts:\n  {holders.account()}: [{', '.join(roles)}]\n", "utf-8")
        path.chmod(0o600)

    yield write
    path.unlink(missing_ok=True)


def tiyu(*arguments: str) -> dict:
    """What a command prints as JSON; raises what it raises."""
    result = CliRunner().invoke(main.build_app(), [*arguments, "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def attached(*arguments: str) -> list[str]:
    return [row["n"] for row in tiyu("sql", WHICH, *arguments)["rows"]]


def refused(*arguments: str) -> str:
    with pytest.raises(TiyuError) as caught:
        tiyu(*arguments)
    return caught.value.code


def test_a_query_sees_the_file_of_the_role_and_nothing_else(served, give):
    give("analyst")
    assert attached() == attached("--as-role", "analyst") == ["analyst"]
    give("science_staff")
    assert attached() == attached("--as-role", "science_staff") == ["science"]
    with serving.connect("science") as con:
        own = {row[0] for row in con.execute("SELECT table_name FROM main.catalog_tables").fetchall()}
    shown = {
        row["n"] for row in tiyu("sql", "SELECT table_name AS n FROM main.catalog_tables", "--limit", "500")["rows"]
    }
    assert shown == own
    assert not [name for name in shown if "checkin" in name or "register" in name]


def test_scratch_tables_are_the_analyst_s_alone(served, give):
    give("analyst")
    scratch.create("probe", "kept", "SELECT 1 AS one")
    try:
        assert attached("--account", "probe") == ["analyst", "scratch"]
        give("science_staff")
        assert attached("--account", "probe") == ["science"]
        for command in (["create", "x", "SELECT 1 AS one"], ["list"], ["drop", "kept"]):
            assert refused("scratch", *command, "--account", "probe") == "TIYU-POL-0007"
    finally:
        scratch.drop("probe", "kept")


@pytest.mark.parametrize(
    "role", ["leader", "district_leader", "coach", "system_admin", "security_admin", "auditor", "catalogue_editor"]
)
def test_a_role_without_a_file_for_queries_is_refused(served, give, role):
    give(role)
    assert refused("sql", WHICH) == "TIYU-POL-0007"
    assert refused("sql", WHICH, "--as-role", role) == "TIYU-POL-0009"
    assert refused("sql", WHICH, "--as-role", "analyst") == "TIYU-POL-0007"
    for command in (["describe", "dim_district"], ["diff", "dim_district"], ["scratch", "list"]):
        assert refused(*command) == "TIYU-POL-0007"


def test_a_role_whose_audience_has_no_file_is_refused(served):
    """The policy may open the surface before a file is cut: then the file's absence refuses."""
    opened = changed(("surfaces.cli_sql.audiences", ["analyst", "science", "catalogue"]))
    with replaced(opened), pytest.raises(TiyuError) as caught:
        serving.connect("catalogue", surface="cli_sql")
    assert caught.value.code == "TIYU-SRV-0002"


def test_the_operator_of_a_demo_needs_no_file(served):
    assert attached() == ["analyst"]
    assert attached("--as-role", "science_staff") == ["science"]
    assert tiyu("status")["resources"]
    assert isinstance(tiyu("quarantine", "list")["records"], int)
