"""The policy: what is decided, how a lawyer's file that is wrong is refused, and that each proved property can fail."""

from __future__ import annotations

import pytest

from catalog import policy
from catalog.check import run as run_catalog_check
from catalog.detectors import content as content_detectors
from catalog.detectors import names as name_detectors
from catalog.policy import Facet, declaration, exhaustion
from catalog.policy import explain as explaining
from catalog.policy.explain import CatalogColumn
from catalog.problems import DeclarationError
from lake.errors import TiyuError
from tests.policies import changed, content


def column(name="c", grade="L1", mark="N", kind=None, type_="VARCHAR", table="dwd_x__y"):
    return CatalogColumn(table, name, type_, name, grade, mark, kind)


@pytest.mark.parametrize(
    ("audience", "surface", "facet", "treatment", "mask"),
    [
        ("analyst", "sql_lab", Facet("L3", "P", None), "plain", None),
        ("analyst", "sql_lab", Facet("L4", "S", None), "absent", None),
        ("analyst", "sql_lab", Facet("L3", "P", "id_no"), "token", None),
        ("analyst", "sql_lab", Facet("L3", "P", "name"), "absent", None),
        ("analyst", "sql_lab", Facet("L3", "P", "birth_year"), "masked", "age_band"),
        ("analyst", "sql_lab", Facet("L3", None, None), "absent", None),
        ("analyst", "cockpit", Facet("L1", "N", None), "absent", None),
        ("analyst", "cli_diff", Facet("L3", "P", "id_no"), "absent", None),
        ("science", "sql_lab", Facet("L4", "S", None), "plain", None),
        ("science", "sql_lab", Facet("L4", "S", "athlete_no"), "token", None),
        ("science", "sql_lab", Facet("L4", "S", "coordinate"), "absent", None),
        ("coach", "cockpit", Facet("L4", "S", "name"), "plain", None),
        ("public", "open_data", Facet("L1", "N", None), "plain", None),
        ("public", "open_data", Facet("L1", "P", None), "absent", None),
        ("exchange", "exchange", Facet("L2", "N", None), "absent", None),
        ("operations", "error_message", Facet("L4", "S", "phone"), "masked", "phone"),
        ("operations", "airflow_log", Facet("L1", "N", "phone"), "absent", None),
        ("operations", "quality_result", Facet("L1", "N", None), "absent", None),
        ("operations", "quarantine", Facet("L3", "P", None), "masked", "hide"),
        ("audit", "quarantine", Facet("L1", "N", None), "absent", None),
        ("nobody", "sql_lab", Facet("L1", "N", None), "absent", None),
        ("analyst", "nowhere", Facet("L1", "N", None), "absent", None),
    ],
)
def test_decisions(audience, surface, facet, treatment, mask):
    decision = policy.decide(audience, surface, facet)
    assert (decision.treatment, decision.mask) == (treatment, mask)
    assert decision.why
    assert all(step.basis for step in decision.why)


def test_kinds_of_undeclared_columns():
    kinds = [
        policy.kind_of(column("person_token"), person_level=True),
        policy.kind_of(column("birth_year", mark="P"), person_level=True),
        policy.kind_of(column("lng", mark="S"), person_level=True),
        policy.kind_of(column("lng", mark="N"), person_level=False),  # a venue's place is public
        policy.kind_of(column("at", type_="TIMESTAMP WITH TIME ZONE"), person_level=True),
        policy.kind_of(column("at", type_="TIMESTAMP WITH TIME ZONE"), person_level=False),
        policy.kind_of(column("birth_year", kind="uscc", mark="P"), person_level=True),
        policy.kind_of(column("c"), person_level=True),
    ]
    assert kinds == ["person_token", "birth_year", "coordinate", None, "person_time", None, "uscc", None]


def test_an_exception_can_only_be_stricter():
    phone = column("contact_phone_token", "L3", "P", "phone", table="ods_venue__register")
    assert policy.decide_file("analyst", phone, person_level=True).treatment == "absent"
    name = column("contact_name", "L3", "P", "name", table="ods_venue__register")
    rule = {"table": "ods_venue__register", "column": "contact_name", "treatment": "masked", "reason": "x"}
    wider = changed(("audiences.analyst.columns", [rule]))
    assert policy.decide_file("analyst", name, person_level=True, policy=wider).treatment == "absent"


def test_a_file_is_cut_to_the_strictest_surface_that_reads_it():
    given = column("visit_count", "L2")
    assert policy.decide_file("analyst", given, person_level=False).treatment == "plain"
    limit = {"grades": {"L1": "plain"}, "marks": {"N": "plain"}, "kinds": {}}
    assert policy.decide_file("analyst", given, person_level=False, policy=changed(("surfaces.sql_lab.limit", limit))).treatment == "absent"  # fmt: skip
    unread = changed(*((f"surfaces.{name}.audiences", []) for name in ("sql_lab", "cli_sql", "scratch")))
    assert policy.decide_file("analyst", given, person_level=False, policy=unread).treatment == "absent"


def test_tables_and_row_scopes():
    allowed = [
        policy.table_allowed("analyst", "dwd_venue__visit"),
        policy.table_allowed("district", "ads_cockpit__kpi"),
        policy.table_allowed("analyst", "ops_ingest__quarantine"),
        policy.table_allowed("district", "ads_cockpit__new"),  # in its list, but nobody said whose rows it holds
        policy.table_allowed("coach", "dwd_training__session"),  # no column says whose squad a row is
        policy.table_allowed("nobody", "dim_sport"),
    ]
    assert allowed == [True, True, False, False, False, False]
    scope = policy.current().row_scopes["own_district"]
    assert len(scope.codes()) == 16
    assert "310000" not in scope.codes()


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("audiences.analyst.grades.L4", "hidden", "grades.L4"),
        ("audiences.analyst.kinds.fingerprint", "token", "没有声明的标识种类 fingerprint"),
        ("audiences.analyst.rows", "own_street", "没有声明的行范围 own_street"),
        ("audiences.analyst.at_least", ["everybody"], "没有声明的受众 everybody"),
        ("audiences.analyst.basis", "", "basis"),
        ("surfaces.sql_lab.audiences", ["everybody"], "没有声明的受众 everybody"),
        ("surfaces.sql_lab.limits", {}, "limits"),
        ("roles.leader.audience", "everybody", "没有声明的受众 everybody"),
        ("roles.auditor.duty", None, "duty"),
        ("row_scopes.own_district.tables.dim_sport", {"all": True}, "须写理由"),
        ("audiences.district.file", "district.duckdb", "{scope}"),
    ],
)
def test_a_faulty_declaration_is_refused_with_the_place(path, value, text, tmp_path):
    import yaml

    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(content((path, value)), allow_unicode=True), "utf-8")
    with pytest.raises(DeclarationError) as caught:
        declaration.load(file)
    assert caught.value.code == "TIYU-POL-0001"
    assert text in "；".join(caught.value.problems)


# --- proof ------------------------------------------------------------------------------------------------------------


def test_the_policy_is_proved_and_says_what_it_examined():
    proof = exhaustion.prove()
    assert proof.ok, proof.violations
    declared = policy.current()
    assert set(proof.properties) == set(exhaustion.PROPERTY_ZH) - {"roles"}
    assert min(proof.properties.values()) > 0
    assert proof.examined["role_subsets"] == 2 ** len(declared.roles) == 1024
    assert proof.examined["cells"] == (len(declared.audiences) + 1) * (len(declared.surfaces) + 1) * 6 * 5 * (len(declared.kinds) + 2)  # fmt: skip
    assert 10 < proof.examined["role_subsets_allowed"] < 100


DEFECTS = {
    "grade_monotone": [("audiences.cockpit.grades", {"L1": "absent", "L2": "plain"})],
    "mark_monotone": [("audiences.analyst.marks", {"N": "plain", "P": "absent", "S": "plain"})],
    "clearance": [("audiences.analyst.grades", {"L1": "plain"})],
    "named_bound": [("audiences.analyst.kinds.phone", "plain")],
    "counts_only": [("surfaces.quality_result.limit", "audience")],
    "text_masked": [("audiences.operations.kinds.phone", "plain"), ("surfaces.error_message.limit", "audience")],
    "public_open": [("audiences.public.grades", {"L1": "plain", "L2": "plain"})],
    "file_audience": [("surfaces.cockpit.audiences", ["cockpit", "district", "coach", "audit"])],
    "admins_apart": [("combination.admin_alone", False), ("roles.auditor.duty", "system")],
    "admin_alone": [("combination.admin_alone", False)],
    "union_maximum": [("roles.coach.alone", False)],
    "admin_ceiling": [
        ("surfaces.cli_sql.audiences", ["analyst", "operations"]),
        ("audiences.operations.grades.L4", "plain"),
    ],
}
WORDS = {
    "grade_monotone": "级别 L2",
    "mark_monotone": "个人信息标识 S",
    "clearance": "「数据分析师」权限不小于",
    "named_bound": "电话号码",
    "counts_only": "质量结果",
    "text_masked": "出错信息",
    "public_open": "社会公众",
    "file_audience": "没有为其裁切的文件",
    "admins_apart": "系统、系统",
    "admin_alone": "允许由一人兼任",
    "union_maximum": "兼任 ",
    "admin_ceiling": "系统管理员",
}


@pytest.mark.parametrize("code", DEFECTS)
def test_each_property_fails_on_a_planted_defect_with_a_counter_example(code):
    if code == "admins_apart":
        WORDS[code] = "三员应恰为"
    proof = exhaustion.prove(changed(*DEFECTS[code]))
    assert not proof.ok
    found = {violation.code: violation for violation in proof.violations}
    assert code in found, [v.code for v in proof.violations]
    assert found[code].count > 0
    assert WORDS[code] in found[code].example_zh


@pytest.mark.parametrize(
    ("code", "name", "wrong"),
    [
        # an engine that is wrong, with a declaration that is right: the proof asks the engine, not the file
        ("default_deny", "decide", lambda a, s, f: f.kind == exhaustion._STRANGE and a == "analyst" and s == "sql_lab"),
        ("kind_monotone", "decide", lambda a, s, f: f.kind == "uscc" and a == "analyst" and s == "cli_sql"),
    ],
)
def test_an_engine_that_shows_too_much_is_caught(code, name, wrong, monkeypatch):
    real = exhaustion.decide

    def generous(audience, surface, facet, declared=None):
        decision = real(audience, surface, facet, declared)
        return type(decision)("plain", None, decision.steps) if wrong(audience, surface, facet) else decision

    monkeypatch.setattr(exhaustion, name, generous)
    found = {violation.code for violation in exhaustion.prove().violations}
    assert code in found


@pytest.mark.parametrize(
    ("code", "lenient"),
    [
        ("admins_apart", ("auditor", "system_admin")),
        ("sole_roles", ("coach", "leader")),
        ("admin_alone", ("auditor", "analyst")),
    ],
)
def test_role_rules_that_are_not_enforced_are_caught(code, lenient, monkeypatch):
    real = exhaustion.conflicts
    monkeypatch.setattr(exhaustion, "conflicts", lambda roles, declared=None: [] if set(roles) == set(lenient) else real(roles, declared))  # fmt: skip
    found = {violation.code: violation for violation in exhaustion.prove().violations}
    assert code in found
    assert found[code].example_zh.startswith("允许由一人兼任：")


def test_too_many_roles_are_not_called_proved(monkeypatch):
    monkeypatch.setattr(exhaustion, "_MAX_ROLES", 3)
    assert not exhaustion.prove().ok


def test_the_catalogue_check_reports_a_policy_that_does_not_hold():
    with policy.replaced(changed(*DEFECTS["public_open"])):
        report = run_catalog_check(only=["policy"])
    assert {(problem.code, problem.where) for problem in report.problems} == {
        ("policy", "clearance"),
        ("policy", "public_open"),
    }
    assert any("社会公众" in problem.message_zh for problem in report.problems)
    with policy.replaced(changed(("kinds.uscc", None), *((f"{place}.kinds.uscc", None) for place in _limits()))):
        report = run_catalog_check(only=["policy"])
    assert {problem.code for problem in report.problems} == {"policy_kind", "policy_detector"}
    clean = run_catalog_check(only=["policy"])
    assert clean.ok
    assert clean.examined["policy_columns"] > 600


def detector_kinds() -> set[str]:
    return {*content_detectors.kinds(), *(kind.kind for kind in name_detectors.kinds())}


def test_every_kind_a_detector_recognises_is_known_to_the_policy():
    declared = policy.current()
    found = {name: declared.detected_kind(name) for name in detector_kinds()}
    assert len(found) > 20
    assert {name: kind for name, kind in found.items() if kind != name and kind is not None} == {
        "person_name": "name", "home_address": "address", "id_no_15": "id_no",
    }  # fmt: skip
    assert {name for name, kind in found.items() if kind is None} == set(declared.attributes)
    # what is called personal by a detector's name is personal in the policy
    assert all(declared.kinds[kind].personal for kind in found.values() if kind not in (None, "uscc"))


@pytest.mark.parametrize(
    ("edit", "unknown"),
    [
        (("attributes.heart_rate", None), "heart_rate"),
        (("kinds.name.detected", []), "person_name"),
        (("kinds.id_no.detected", ["id_no_16"]), "id_no_15"),
    ],
)
def test_a_detector_s_kind_that_the_policy_does_not_know_is_found(edit, unknown):
    with policy.replaced(changed(edit)):
        report = run_catalog_check(only=["policy"])
        with pytest.raises(KeyError):
            policy.current().detected_kind(unknown)
    assert {(problem.code, problem.where) for problem in report.problems} == {("policy_detector", unknown)}
    assert report.examined["policy_detectors"] == len(detector_kinds())


@pytest.mark.parametrize(
    "edit",
    [
        ("kinds.name.detected", ["person_name", "phone"]),
        ("kinds.phone.detected", ["person_name"]),
        ("attributes.phone", {"title": "x", "basis": "DESIGN：x"}),
        ("attributes.person_name", {"title": "x", "basis": "DESIGN：x"}),
    ],
)
def test_one_word_of_a_detector_has_one_meaning(edit):
    with pytest.raises(ValueError, match="写了不止一次"):
        changed(edit)


@pytest.mark.parametrize(("grade", "mark", "kind"), [(g, m, k) for g in ("L1", "L2", "L3", "L4") for m in "NPS"
                                                     for k in (None, "id_no", "birth_year", "name", "person_time")])  # fmt: skip
def test_a_scratch_table_is_masked_as_what_the_analyst_queries(grade, mark, kind):
    facet = Facet(grade, mark, kind)
    scratch, queried = policy.decide("analyst", "scratch", facet), policy.decide("analyst", "cli_sql", facet)
    assert (scratch.treatment, scratch.mask) == (queried.treatment, queried.mask)
    assert {name for name in policy.current().audiences if policy.allows(name, "scratch")} == {"analyst"}


def _limits() -> list[str]:
    declared = content()
    places = [f"audiences.{name}" for name, who in declared["audiences"].items() if "uscc" in who["kinds"]]
    for name, place in declared["surfaces"].items():
        if place["limit"] != "audience" and "uscc" in place["limit"]["kinds"]:
            places.append(f"surfaces.{name}.limit")
    return [*places, "combination.maximum", "combination.admin_ceiling"]


# --- roles and words --------------------------------------------------------------------------------------------------


def test_roles_that_nobody_may_hold_together():
    assert policy.conflicts(["leader", "analyst", "catalogue_editor"]) == []
    assert policy.conflicts([]) == []
    assert any("三员分立" in text for text in policy.conflicts(["auditor", "security_admin"]))
    with pytest.raises(TiyuError) as caught:
        policy.check_assignment(["science_staff", "coach"])
    assert caught.value.code == "TIYU-POL-0003"
    assert "科研人员" in str(caught.value)
    assert policy.audience_of("leader") == "cockpit"
    with pytest.raises(TiyuError) as caught:
        policy.audience_of("king")
    assert caught.value.code == "TIYU-POL-0002"


def test_explain_says_why():
    (answer,) = explaining.explain("ods_training__activity_sample.heart_rate_bpm", "analyst", "sql_lab")
    assert answer.decision.treatment == "absent"
    assert [step.text_zh for step in answer.decision.why] == ["受众 数据分析师：级别 L4"]
    assert len(explaining.explain("dwd.dwd_fitness__checkin.person_token", "analyst")) == 6
    for wrong, code in (("dwd_fitness__checkin.nothing", "TIYU-POL-0005"), ("nothing", "TIYU-POL-0005")):
        with pytest.raises(TiyuError) as caught:
            explaining.explain(wrong, "analyst")
        assert caught.value.code == code
    for audience, surface in (("audit", None), ("analyst", "nowhere")):
        with pytest.raises(TiyuError) as caught:
            explaining.explain("dwd_fitness__checkin.person_token", audience, surface)
        assert caught.value.code == "TIYU-POL-0006"


def test_the_commands():
    import json

    from typer.testing import CliRunner

    from cli.main import build_app

    runner, app = CliRunner(), build_app()
    done = runner.invoke(app, ["policy", "check", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["examined"]["role_subsets"] == 1024
    with policy.replaced(changed(*DEFECTS["public_open"])):
        failed = runner.invoke(app, ["policy", "check"])
    assert failed.exit_code == 1
    assert "反例" in failed.stdout
    shown = runner.invoke(app, ["policy", "show", "coach"])
    assert "本队" in shown.stdout
    assert runner.invoke(app, ["policy", "show"]).exit_code == 0
    told = runner.invoke(app, ["policy", "explain", "dwd_fitness__checkin.person_token", "--who", "leader"])
    assert told.exit_code == 0
    assert "不在其表清单" in told.stdout
    assert runner.invoke(app, ["policy", "show", "king"]).exception.code == "TIYU-POL-0004"
