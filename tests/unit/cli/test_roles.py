"""Who may do what with `tiyu`: every command asks, and answers by the policy and the operator's file."""

from __future__ import annotations

import getpass
import pwd

import pytest
import typer

from catalog import policy
from catalog.policy import holders
from cli import main
from lake.errors import TiyuError
from tests.policies import changed
from tests.unit.cli.test_cli import command_tree

ALL = tuple(policy.current().roles)


@pytest.fixture
def give(home):
    """Writes the operator's file: which roles this account holds, and whatever else is put in."""
    home.mkdir(parents=True, exist_ok=True)

    def write(*roles: str, others: str = "", mode: int = 0o640) -> None:
        path = home / "roles.yaml"
        path.write_text(f"accounts:\n  {holders.account()}: [{', '.join(roles)}]\n{others}", "utf-8")
        path.chmod(mode)

    return write


def callbacks(app: typer.Typer, prefix: str = "") -> dict:
    found = {f"{prefix}{c.name or c.callback.__name__.replace('_', '-')}": c.callback for c in app.registered_commands}
    for group in app.registered_groups:
        found |= callbacks(group.typer_instance, f"{prefix}{group.name} ")
    return found


def code_of(call, *arguments, **options) -> str:
    with pytest.raises(TiyuError) as caught:
        call(*arguments, **options)
    return caught.value.code


def test_every_command_is_declared_and_every_declared_command_is_there():
    leaves = {name for name, _ in command_tree(typer.main.get_command(main.build_app()))}
    assert leaves == set(policy.current().commands)
    assert leaves == set(callbacks(main.build_app()))
    assert len(leaves) > 40


def test_every_command_refuses_an_account_without_a_role(give, home):
    give(others="  somebody: [analyst]\n")
    refused = {name: code_of(callback) for name, callback in callbacks(main.build_app()).items()}
    assert set(refused.values()) == {"TIYU-POL-0007"}
    assert len(refused) > 40


def test_a_command_that_nobody_declared_is_nobody_s(home):
    with policy.replaced(changed(("commands.status", None))):
        assert code_of(holders.act, "status") == "TIYU-POL-0007"
    assert holders.act("status").role == "analyst"


def test_a_command_that_does_not_ask_would_be_noticed(give):
    """The test above calls the commands themselves; one whose check was left out is called through."""
    give()
    app = typer.Typer()
    called = []
    app.command("status")(lambda: called.append(1))
    callbacks(app)["status"]()
    assert called == [1]


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("analyst", ["sql", "describe", "scratch create", "diff", "trace", "status", "lineage"], ["ingest", "quarantine list", "keys init", "gate"]),
        ("science_staff", ["sql", "describe", "status"], ["scratch create", "diff", "ingest", "quarantine list"]),
        ("catalogue_editor", ["catalog assign", "catalog check", "quarantine list", "lineage"], ["sql", "ingest", "diff", "quarantine replay"]),
        ("system_admin", ["ingest", "gate", "quarantine list", "quarantine replay", "trace"], ["sql", "describe", "scratch list", "diff"]),
        ("security_admin", ["policy show", "keys init"], ["sql", "describe", "diff", "trace", "quarantine list", "ingest"]),
        ("auditor", ["status", "reconcile", "policy check"], ["sql", "describe", "diff", "trace", "quarantine list", "ingest", "keys init"]),
        ("leader", ["status"], ["sql", "describe", "diff", "ingest"]),
        ("coach", ["status"], ["sql", "diff", "scratch create"]),
    ],
)  # fmt: skip
def test_what_a_role_may_do(give, role, may, may_not):
    give(role)
    for command in may:
        assert holders.act(command).role == role
        assert holders.act(command, role).audience == policy.current().roles[role].audience
    for command in may_not:
        assert code_of(holders.act, command) == "TIYU-POL-0007"
        assert code_of(holders.act, command, role) == "TIYU-POL-0009"


def test_the_three_administrators_read_no_data_with_any_command():
    shows = {name: rule.surface for name, rule in policy.current().commands.items() if rule.surface}
    reads_rows = {"cli_sql", "scratch", "cli_diff"}
    admins = {name for name, role in policy.current().roles.items() if role.kind == "admin"}
    assert len(admins) == 3
    assert set(shows.values()) >= reads_rows
    for command, surface in shows.items():
        if surface in reads_rows:
            assert admins.isdisjoint(holders.fitting(command)), command


def test_a_role_that_is_not_held_or_not_declared_is_refused(give, monkeypatch):
    give("analyst")
    assert code_of(holders.act, "sql", "science_staff") == "TIYU-POL-0007"
    assert code_of(holders.act, "sql", "root") == "TIYU-POL-0002"
    monkeypatch.setenv("TIYU_ROLE", "auditor")
    assert code_of(holders.act, "status") == "TIYU-POL-0007"
    monkeypatch.setenv("TIYU_ROLE", "analyst")
    assert code_of(holders.act, "ingest") == "TIYU-POL-0009"
    assert holders.act("sql").role == "analyst"


def test_of_several_roles_that_fit_one_must_be_named(give):
    give("analyst", "catalogue_editor")
    assert holders.act("sql").role == "analyst"
    assert holders.act("quarantine list").role == "catalogue_editor"
    give("leader", "analyst")
    with policy.replaced(changed(("surfaces.cli_diff.audiences", ["analyst", "cockpit"]))):
        assert code_of(holders.act, "diff") == "TIYU-POL-0010"
        assert holders.act("diff", "leader").audience == "cockpit"
    assert holders.act("status").role == "analyst", "what shows only names needs no choice"


@pytest.mark.parametrize(
    "roles", [["analyst", "system_admin"], ["coach", "leader"], ["auditor", "security_admin"], ["boss"]]
)
def test_a_file_that_breaks_the_policy_is_refused(give, roles):
    give(*roles)
    assert code_of(holders.act, "status") == "TIYU-POL-0008"
    give("analyst", others=f"  other: [{', '.join(roles)}]\n")
    assert code_of(holders.act, "status") == "TIYU-POL-0008", "another account's line counts too"


@pytest.mark.parametrize(
    "text", ["accounts: [a, b]", "people: {a: [analyst]}", "accounts: {a: analyst}", "accounts:\n  a: [", "42"]
)
def test_a_file_that_is_none_is_refused(home, text):
    home.mkdir(parents=True, exist_ok=True)
    (home / "roles.yaml").write_text(text, "utf-8")
    (home / "roles.yaml").chmod(0o600)
    assert code_of(holders.held) == "TIYU-POL-0008"


def test_an_empty_file_gives_nobody_anything(home):
    home.mkdir(parents=True, exist_ok=True)
    (home / "roles.yaml").write_text("accounts: {}\n", "utf-8")
    (home / "roles.yaml").chmod(0o600)
    assert holders.held() == ()


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o666, 0o777])
def test_a_file_that_others_may_write_is_refused(give, mode):
    give("analyst", mode=mode)
    assert code_of(holders.act, "status") == "TIYU-POL-0008"


def test_without_a_file_the_operator_acts_as_one_role_a_command(home):
    assert holders.held() == ALL
    assert holders.act("sql").role == "analyst"
    assert holders.act("ingest").role == "system_admin"
    assert holders.act("quarantine list").role in ("catalogue_editor", "system_admin")
    assert holders.act("sql", "science_staff").audience == "science"
    assert code_of(holders.act, "sql", "coach") == "TIYU-POL-0009"


def test_without_a_file_who_may_not_write_the_state_folder_holds_nothing(home, monkeypatch):
    home.mkdir(parents=True, exist_ok=True)
    # permissions do not hold root back, so the answer of the system is put in its place
    monkeypatch.setattr(holders.os, "access", lambda path, mode: False)
    assert holders.held() == ()
    assert code_of(holders.act, "status") == "TIYU-POL-0007"


def test_the_account_is_not_what_the_environment_says(monkeypatch):
    monkeypatch.setenv("LOGNAME", "leader")
    monkeypatch.setenv("USER", "leader")
    monkeypatch.setenv("TIYU_ACCOUNT", "leader")
    assert getpass.getuser() == "leader"
    assert holders.account() == pwd.getpwuid(holders.os.geteuid()).pw_name
