"""Superset's roles for those who read no data, generated from the policy; and who may be given which."""

from __future__ import annotations

import sqlite3
from itertools import combinations

import pytest

from catalog import policy
from dashboards import access, assignment, bootstrap, roles

DATA_VIEWS = {
    "Api", "Chart", "Dashboard", "Database", "Datasource", "EmbeddedDashboard", "Explore", "ExploreFormDataRestApi",
    "ExplorePermalinkRestApi", "ImportExportRestApi", "Query", "SQL Lab", "SQLLab", "SavedQuery", "TabStateView",
    "TableSchemaView", "all_database_access", "all_datasource_access", "all_query_access",
}  # fmt: skip
"""Views of Superset that answer with rows, or with a way to them."""

DATA_PERMISSIONS = {
    "can_csv", "can_explore", "can_explore_json", "can_export", "can_fetch_datasource_metadata", "can_samples", "can_slice",
    "can_sqllab", "can_warm_up_cache", "can_view_query", "can_drill", "database_access", "schema_access", "catalog_access",
    "can_execute_sql_query", "can_export_csv", "can_grant_guest_token",
}  # fmt: skip
DUTY_ROLES = ("security_admin", "auditor", "system_admin", "catalogue_editor")


def test_every_role_of_the_policy_reads_a_file_or_is_generated_or_has_none_yet():
    declared = policy.current().roles
    reading = {access.policy_role(name) for name in access.roles()}
    without = {
        name
        for name, role in declared.items()
        if role.kind == "external" or not policy.current().audiences[role.audience].file
    }
    assert set(roles.generated()) == set(DUTY_ROLES)
    assert reading.isdisjoint(roles.generated())
    assert set(declared) == reading | set(roles.generated()) | (without - set(DUTY_ROLES))


@pytest.mark.parametrize("name", DUTY_ROLES)
def test_no_generated_role_holds_a_permission_that_answers_with_data(name):
    held = roles.generated()[name]
    assert len(held) > len(roles.SIGNED_IN)
    assert not [pair for pair in held if pair[1] in DATA_VIEWS or pair[0] in DATA_PERMISSIONS]
    assert [pair for pair in held if pair[1] == "Dataset"] == (
        [("can_read", "Dataset")] if name == "catalogue_editor" else []
    )


def test_the_three_administrators_share_no_power():
    common = set(roles.SIGNED_IN) | set(roles._WHO_HOLDS_WHAT)
    own = {duty: set(listed) - common for duty, listed in roles.DUTIES.items()}
    assert sorted(own) == ["audit", "security", "system"]
    assert all(own.values())
    for one, other in combinations(own, 2):
        assert own[one].isdisjoint(own[other]), (one, other)
    writing = {"can_post", "can_put", "can_write", "can_delete", "can_invalidate", "can_add", "can_edit"}
    assert {duty for duty, listed in own.items() if {name for name, _ in listed} & writing} == {"security", "system"}
    changes_roles = {
        ("can_put", "Role"),
        ("can_post", "Role"),
        ("can_add_role_permissions", "Role"),
        ("can_update_role_users", "Role"),
    }
    assert not [name for name, held in roles.generated().items() if changes_roles & set(held)]


@pytest.mark.parametrize("door", access.DOORS)
@pytest.mark.parametrize("name", [*DUTY_ROLES, access.ADMIN])
def test_no_connection_opens_for_who_reads_no_data(name, door):
    with pytest.raises(access.Refused, match="TIYU-COCKPIT-0014"):
        access.through(door, [name])


def test_what_may_be_held_together_is_what_the_policy_says():
    """Over every subset of roles, the rule for Superset's environment and the policy's own agree."""
    names = list(policy.current().roles)
    superset = {name: next((n for n in access.roles() if access.policy_role(n) == name), name) for name in names}
    examined = refused = 0
    for size in range(len(names) + 1):
        for held in combinations(names, size):
            examined += 1
            reason = access.conflict(superset[name] for name in held)
            assert (reason is not None) == bool(policy.conflicts(held)), held
            refused += reason is not None
    assert examined == 1 << len(names)
    assert 0 < refused < examined


@pytest.mark.parametrize("held", [["system_admin", "analyst"], ["auditor", "leader"], ["Admin", "analyst"],
                                  ["Admin", "district_leader_310104"], ["security_admin", "auditor", "analyst"]])  # fmt: skip
def test_an_administrator_who_also_reads_reads_nothing(held):
    with pytest.raises(access.Refused, match="TIYU-COCKPIT-0017"):
        access.of(held)


@pytest.mark.parametrize(
    ("held", "more", "word"),
    [
        (["Admin"], {}, "不是展示策略中的角色"),
        (["analyst", "sql_lab"], {}, "不是展示策略中的角色"),
        (["99"], {}, "不是展示策略中的角色"),
        (["auditor", "security_admin"], {}, "不得兼任"),
        (["analyst"], {"groups": True}, "用户组"),
        (["analyst"], {"own": True}, "自己的角色"),
    ],
)
def test_a_role_that_the_policy_does_not_let_one_hold_is_not_given(held, more, word):
    found = assignment.objection(held, **more)
    assert found is not None
    assert found.startswith("TIYU-COCKPIT-0018")
    assert word in found


def test_a_role_of_the_policy_is_given():
    for name in (*roles.generated(), *access.roles()):
        assert assignment.objection([name]) is None
    assert assignment.objection([]) is None
    assert len(roles.assignable()) >= 4 + 18


def test_a_duty_that_superset_has_no_words_for_stops(monkeypatch):
    monkeypatch.setattr(roles, "DUTIES", {k: v for k, v in roles.DUTIES.items() if k != "audit"})
    with pytest.raises(KeyError):
        roles.generated()


def test_first_pages():
    assert {name: roles.home_of([name]) for name in DUTY_ROLES} == {
        "security_admin": "/users/", "auditor": "/actionlog/list", "system_admin": "/user_info/",
        "catalogue_editor": "/tablemodelview/list/",
    }  # fmt: skip
    assert roles.home_of(["analyst", "Public"]) is None


@pytest.fixture
def metadata(tmp_path):
    path = tmp_path / "superset.db"
    with sqlite3.connect(path) as db:
        db.executescript("""
            CREATE TABLE ab_role (id INTEGER, name TEXT);
            CREATE TABLE ab_user (id INTEGER, username TEXT, active BOOLEAN);
            CREATE TABLE ab_user_role (id INTEGER, user_id INTEGER, role_id INTEGER);
            CREATE TABLE ab_group_role (id INTEGER, group_id INTEGER, role_id INTEGER);
            INSERT INTO ab_role VALUES (1, 'Admin'), (2, 'leader');
            INSERT INTO ab_user VALUES (1, 'admin', 1), (2, 'leader', 1), (3, 'both', 1);
            INSERT INTO ab_user_role VALUES (1, 1, 1), (2, 2, 2), (3, 3, 1), (4, 3, 2);
            INSERT INTO ab_group_role VALUES (1, 1, 1);
        """)
    return path


def test_superset_s_admin_role_is_taken_from_whoever_holds_it(metadata):
    uri = f"sqlite:///{metadata}"
    assert bootstrap.withdraw_admin(uri) == ["admin", "both"]
    with sqlite3.connect(metadata) as db:
        assert db.execute("SELECT username, active FROM ab_user ORDER BY id").fetchall() == [
            ("admin", 0), ("leader", 1), ("both", 1),
        ]  # fmt: skip
        assert db.execute("SELECT user_id, role_id FROM ab_user_role ORDER BY id").fetchall() == [(2, 2), (3, 2)]
        assert db.execute("SELECT * FROM ab_group_role").fetchall() == []
    assert bootstrap.withdraw_admin(uri) == []


def test_no_account_of_the_product_holds_superset_s_admin_role():
    given = {role for role, *_ in bootstrap.ACCOUNTS.values()}
    assert access.ADMIN not in given
    assert given <= roles.assignable()
    assert {"security_admin", "auditor", "system_admin", "catalogue_editor"} <= given
