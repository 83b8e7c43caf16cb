"""Which file an account reads, from its roles alone."""

from __future__ import annotations

import pytest
import yaml

from dashboards import access

CODES = access.scopes("district")
SQUADS = access.scopes("coach")


def test_every_role_reads_one_file_and_every_district_has_its_own():
    assert len(CODES) == 16
    roles = access.roles()
    assert {roles[f"district_leader_{code}"].file for code in CODES} == {f"district_{code}.duckdb" for code in CODES}
    assert roles["leader"].file == "cockpit.duckdb"
    assert len(access.labels()) == 16 + 3 + len(SQUADS)


@pytest.mark.parametrize("code", CODES)
def test_a_district_leader_reads_the_own_file_through_the_cockpit_only(code):
    held = [f"district_leader_{code}"]
    assert access.through("cockpit", held).file == f"district_{code}.duckdb"
    assert access.of([*held, "Public", "no_such_role"]).scope == code
    with pytest.raises(access.Refused, match="TIYU-COCKPIT-0016"):
        access.through("analyst", held)


@pytest.mark.parametrize("held", [[], ["Public"], ["Gamma", "sql_lab"], ["district_leader"], ["district_leader_310000"],
                                  ["district_leader_320500"], ["district_leader_310104 "]])  # fmt: skip
def test_a_user_without_a_declared_role_is_refused(held):
    with pytest.raises(access.Refused, match="TIYU-COCKPIT-0014"):
        access.of(held)


def test_two_districts_have_no_common_file():
    with pytest.raises(access.Refused, match="TIYU-COCKPIT-0015"):
        access.of(["district_leader_310104", "district_leader_310101"])


@pytest.mark.parametrize("squad", SQUADS)
def test_a_coach_reads_the_own_squad_s_file_and_nothing_besides(squad):
    held = [f"coach_{squad}"]
    found = access.through("cockpit", held)
    assert (found.file, found.scope) == (f"coach_{squad}.duckdb", squad)
    assert access.home_of(held) == "coach"
    for door in access.WINDOWS:
        with pytest.raises(access.Refused, match="TIYU-COCKPIT-0016"):
            access.through(door, held)
    others = [
        "leader",
        "analyst",
        "science_staff",
        "district_leader_310104",
        *(f"coach_{s}" for s in SQUADS if s != squad),
    ]
    for other in others:
        with pytest.raises(
            access.Refused, match="TIYU-COCKPIT-0015" if other.startswith("coach_") else "TIYU-COCKPIT-0017"
        ):
            access.of([*held, other])


def test_no_squad_no_rows():
    for held in (["coach"], ["coach_SQ99"], ["coach_sq01"], ["coach_310104"]):
        with pytest.raises(access.Refused, match="TIYU-COCKPIT-0014"):
            access.of(held)


def test_every_scoped_audience_has_a_home_a_placeholder_and_a_column():
    scoped = {found.audience for found in access.roles().values() if found.scope}
    assert scoped == {"district", "coach"} == set(access.PLACEHOLDERS)
    assert {access.scope_column(name) for name in scoped} == {"district_code", "squad_code"}
    assert scoped <= set(access.HOMES)
    assert access.scope_column("analyst") is None
    assert [name for name in (*access.HOMES, *access.WINDOWS) if access.is_named(name)] == ["coach"]


def test_science_staff_reads_the_own_window_alone():
    assert access.through("science", ["science_staff"]).file == "science.duckdb"
    for door in ("analyst", "cockpit"):
        with pytest.raises(access.Refused, match="TIYU-COCKPIT-0016"):
            access.through(door, ["science_staff"])
    with pytest.raises(access.Refused, match="TIYU-COCKPIT-0016"):
        access.through("science", ["analyst"])
    for other in ("analyst", "leader", "district_leader_310104", "Admin"):
        with pytest.raises(access.Refused, match="TIYU-COCKPIT-0017"):
            access.of(["science_staff", other])


def test_every_audience_of_sql_lab_with_a_file_has_a_window_of_its_own():
    declared = yaml.safe_load(access.POLICY.read_text("utf8"))
    asking = [name for name in declared["surfaces"]["sql_lab"]["audiences"] if declared["audiences"][name].get("file")]
    assert sorted(access.WINDOWS) == sorted(asking)
    assert all(access.DOORS[name] == {name} for name in asking)


def test_more_roles_never_read_less():
    assert access.of(["leader", "district_leader_310104"]).label == "cockpit"
    assert access.of(["leader", "analyst"]).label == "analyst"


@pytest.mark.parametrize("door", ["district_310104", "../cockpit", "cockpit.duckdb", ""])
def test_an_undeclared_door_is_refused(door):
    with pytest.raises(access.Refused, match="TIYU-COCKPIT-0002"):
        access.through(door, ["analyst"])


def test_the_first_page_is_the_own_dashboard():
    assert access.home_of(["district_leader_310104"]) == "district"
    assert access.home_of(["leader"]) == "cockpit"
    assert access.home_of(["analyst"]) is None
    assert access.home_of([]) is None
