"""The one policy: grade × audience → treatment, default deny."""

from __future__ import annotations

from dataclasses import replace

import pytest

from catalog.policy import declaration
from lake.errors import TiyuError
from sharing.serving import policy
from sharing.serving.policy import Column


def column(name="c", grade="L1", pi="N", kind=None, type_="VARCHAR", table="ods_x__y"):
    return Column(table, name, type_, name, "", None, grade, pi, kind)


@pytest.fixture(scope="module")
def analyst():
    return policy.audience("analyst")


@pytest.mark.parametrize(
    ("given", "person_level", "expected"),
    [
        (column(), False, "plain"),
        (column(grade="L3", pi="P"), True, "plain"),
        (column(grade="L4"), False, "absent"),
        (column(grade="L4", kind="id_no"), True, "absent"),
        (column(grade=None), False, "absent"),
        (column(grade="L9"), False, "absent"),
        (column("person_token", "L3", "P", "id_no"), True, "token"),
        (column("phone_token", "L3", "P", "phone"), True, "token"),
        (column("athlete_token", "L3", "S"), True, "token"),
        (column("contact_name", "L3", "P", "name"), True, "absent"),
        (column("contact_phone_token", "L3", "P", "phone", table="ods_venue__register"), True, "absent"),
        (column("operator_uscc", "L1", "N", "uscc"), False, "plain"),
        (column("x", "L1", "N", "fingerprint"), False, "absent"),
        (column("birth_year", "L3", "P", type_="INTEGER"), True, "age_band"),
        (column("slot_start_at", type_="TIMESTAMPTZ"), True, "hour"),
        (column("slot_start_at", type_="TIMESTAMPTZ"), False, "plain"),
        (column("_batch_id", None, None), True, "plain"),
        (column("part_date", "L1", type_="DATE"), True, "plain"),
    ],
)
def test_analyst(analyst, given, person_level, expected):
    assert policy.decide(analyst, given, person_level=person_level) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (column(grade="L2"), "plain"),
        (column(grade="L3"), "absent"),
        (column(grade="L4"), "absent"),
        (column("person_token", "L2", "P", "id_no"), "absent"),
        (column("any_token", "L2", "P"), "absent"),
    ],
)
def test_cockpit(given, expected):
    given = replace(given, table="ads_cockpit__x")
    assert policy.decide(policy.audience("cockpit"), given, person_level=True) == expected


def test_tables_outside_the_list_are_not_allowed(analyst):
    assert policy.table_allowed(analyst, "dwd_venue__visit")
    assert not policy.table_allowed(analyst, "ops_ingest__quarantine")
    assert not policy.table_allowed(policy.audience("cockpit"), "ods_fitness__checkin")
    assert not policy.table_allowed(policy.audience("cockpit"), "ads_exchange__venue_register")


def test_an_unknown_audience_and_one_without_a_file_are_refused():
    for name in ("everyone", "audit"):
        with pytest.raises(TiyuError) as caught:
            policy.audience(name)
        assert caught.value.code == "TIYU-SRV-0002"
    assert len(policy.served()) >= 2


def test_a_table_outside_the_list_gives_nothing():
    who = policy.audience("cockpit")
    assert policy.decide(who, column(table="ads_cockpit__kpi"), person_level=False) == "plain"
    assert policy.decide(who, column(table="dwd_fitness__checkin"), person_level=False) == "absent"


def test_no_served_audience_without_a_purpose_sees_l4_or_names():
    declared = declaration.current()
    examined = 0
    for name in policy.served():
        who = declared.audiences[name]
        if not who.purpose:
            examined += 1
            assert who.grades.get("L4", "absent") == "absent", name
            assert who.kinds.get("name", "absent") == "absent", name
    assert examined >= 2
