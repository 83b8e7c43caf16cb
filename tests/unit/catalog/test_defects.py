"""Every defect that can be planted in a copy of the declarations is found by `tiyu catalog check`, under its own code.

A defect is an edit of one file and the problem codes it must raise.
"""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from catalog import check, columns, contracts, entries
from catalog.checks import CHECKS as ALL
from catalog.checks.base import CheckReport

#: The checks tried here; grading, policy and lineage are slower and have their own planted defects beside their tests.
CHECKS = (
    "contracts", "unsettled", "columns", "row_rules", "behaviour", "outputs", "declarations", "elements", "codes", "sharing_terms", "bindings",
    "collection",
)  # fmt: skip


@dataclass
class Copy:
    """A copy of everything that is declared."""

    contracts: Path
    models: Path
    entries: Path

    def edit(self, path: str, pattern: str, replacement: str, count: int = 1) -> None:
        """Replace a pattern in one file; it must be there."""
        root, _, rest = path.partition("/")
        file = {"contracts": self.contracts, "models": self.models, "entries": self.entries}[root] / rest
        text, made = re.subn(pattern, replacement, file.read_text("utf-8"), count=count, flags=re.MULTILINE)
        assert made, f"{path}: nothing matches {pattern}"
        file.write_text(text, "utf-8")

    def check(self, only: tuple[str, ...] = CHECKS) -> CheckReport:
        return check.run(folder=self.contracts, dbt_models=self.models, entries_folder=self.entries, only=only)


@pytest.fixture
def copy(tmp_path) -> Copy:
    folder, project, declared = tmp_path / "contracts", tmp_path / "dbt", tmp_path / "entries"
    skip = shutil.ignore_patterns("*.py", "__pycache__")
    shutil.copytree(contracts.FOLDER, folder, ignore=skip)
    shutil.copytree(columns.dbt_models_dir(), project / "models")
    shutil.copytree(columns.dbt_models_dir().parent / "macros", project / "macros")
    shutil.copytree(entries.FOLDER, declared, ignore=skip)
    return Copy(folder, project / "models", declared)


def checks_naming(codes: set[str]) -> tuple[str, ...]:
    """The checks in whose modules the codes stand (a rule's name is its code); all of them where one stands nowhere: to run
    every check for each defect takes three times as long."""
    found: set[str] = set()
    for code in codes:
        written = re.compile(rf'"{code}"|def {code}\(')
        naming = {
            item.name
            for item in ALL
            if item.name in CHECKS and written.search(inspect.getsource(inspect.getmodule(item.run)))
        }
        found |= naming or set(CHECKS)
    return tuple(sorted(found))


def codes(report: CheckReport) -> set[str]:
    return {problem.code for problem in report.problems}


def test_the_copy_is_clean_and_everything_is_bound(copy):
    report = copy.check()
    assert report.problems == []
    assert report.examined["bound"] == report.examined["entries"] >= 51
    assert report.examined["terms"] == 15 * report.examined["entries"]


FILING, REGISTER = "contracts/sources/event/filing.odcs.yaml", "contracts/sources/venue/register.odcs.yaml"
BOOKING, ENTRY = "contracts/sources/venue/booking.odcs.yaml", "contracts/sources/venue/entry.odcs.yaml"
CHECKIN, WATER = "contracts/sources/fitness/checkin.odcs.yaml", "contracts/sources/supervision/water_reading.odcs.yaml"
ACTIVITY = "contracts/sources/training/activity.odcs.yaml"
OPEN, DELIVERY = "contracts/outputs/open/daily_visits.odcs.yaml", "contracts/outputs/exchange/water_reading.odcs.yaml"
VISIT, DIM = "models/dwd/venue/_dwd__venue.yml", "models/dim/_dim.yml"
REGISTERED, PROVIDER, DEFAULTS, COLLECTION = (
    "entries/codes.yaml", "entries/provider.yaml", "entries/defaults.yaml", "entries/collection.yaml",
)  # fmt: skip
GRADED = r"meta: \{title: \"场馆编码\", grade: L1, pi_mark: N, unit: null\}"


def edit(*arguments: str) -> Callable[[Copy], None]:
    return lambda copy: copy.edit(*arguments)


def remove(path: str) -> Callable[[Copy], None]:
    return lambda copy: (copy.models / path).unlink()


def model(name: str, sql: str) -> Callable[[Copy], None]:
    def plant(copy: Copy) -> None:
        (copy.models / f"{name}.sql").write_text(sql, "utf-8")

    return plant


def catalog_meta(text: str) -> Callable[[Copy], None]:
    """Give the dimension of venues its own words in `meta: {catalog: …}`."""
    return edit(DIM, r"^(  - name: dim_venue\n)", rf"\1    meta: {{catalog: {text}}}\n")


def correction(where: str, expires: str, column: str = "sport_code") -> Callable[[Copy], None]:
    """Declare a correction in the contract of bookings."""
    item = f"{{id: x, where: \"{where}\", column: {column}, from: a, to: b, reason: 试验更正, approvedBy: 数据处, expires: '{expires}'}}"
    return edit(BOOKING, r"^          rules:\n", f"          corrections: [{item}]\n          rules:\n")


DEFECTS: dict[str, tuple[Callable[[Copy], None], set[str]]] = {
    # contracts
    "a key of a contract is misspelt": (edit(ENTRY, "classification: L2", "clasification: L2"), {"contract"}),
    "a contract names an unknown unit": (edit(REGISTER, "unit: m2", "unit: acre"), {"contract"}),
    "a contract names an unknown code list": (edit(CHECKIN, "codeList: sport", "codeList: hobby"), {"contract"}),
    "a source column is not graded": (edit(WATER, "        classification: L1\n", ""), {"contract"}),
    "conditional sharing of a source without condition": (edit(BOOKING, r'condition: "仅限[^"]*", ', ""), {"contract"}),
    "a denied source without basis": (edit(ACTIVITY, r'type: denied, basis: "[^"]*"', "type: denied"), {"contract"}),
    "an identifier of a person below L3": (
        edit(BOOKING, r"(name: person_phone_token[\s\S]*?classification: )L3", r"\1L2"), {"contract"},
    ),
    "two contracts with one id": (
        lambda copy: shutil.copytree(copy.contracts / "outputs" / "open", copy.contracts / "more" / "open"), {"contract"},
    ),
    "a rule that does not compile": (edit(BOOKING, r'sql: "slot_end_at - slot_start_at', 'sql: "slot_end_at - ) slot_start_at'), {"rule"}),
    "a rule over a column that is not there": (edit(BOOKING, r'sql: "slot_end_at - slot_start_at', 'sql: "slot_end_at - slot_began_at'), {"rule"}),
    "a rule that looks at other rows": (edit(BOOKING, r'sql: "slot_end_at - slot_start_at', 'sql: "(select true) or slot_end_at - slot_start_at'), {"rule"}),
    "a rule that answers differently each time": (edit(BOOKING, r'sql: "slot_end_at - slot_start_at', 'sql: "random() < 2 or slot_end_at - slot_start_at'), {"rule"}),
    # habits of sources
    "a correction past its date": (correction("sport_code = 'x'", "2026-01-31"), {"correction_expired"}),
    "a correction over a column that does not exist": (correction("sport = 'x'", "2999-01-31"), {"correction"}),
    "a correction to no number": (correction("true", "2999-01-31", column="amount_cny"), {"correction"}),
    # columns
    "a model column is not graded": (edit(VISIT, GRADED, 'meta: {title: "场馆编码", pi_mark: N}'), {"ungraded"}),
    "a model column has a grade that does not exist": (edit(VISIT, GRADED, 'meta: {title: "场馆编码", grade: L9, pi_mark: N}'), {"ungraded"}),
    "a model column is not described": (edit(VISIT, 'description: "场馆编码"', 'description: ""'), {"undescribed"}),
    "a model column has an unknown unit": (edit(VISIT, GRADED, 'meta: {title: "场馆编码", grade: L1, pi_mark: N, unit: furlong}'), {"unknown_unit"}),
    "a model column names an unknown code list": (
        edit(VISIT, GRADED, 'meta: {title: "场馆编码", grade: L1, pi_mark: N, code_list: hobby}'), {"unknown_code_list"},
    ),
    "a model column has no mark": (edit(VISIT, GRADED, 'meta: {title: "场馆编码", grade: L1}'), {"unmarked"}),
    "a model column has an unknown mark": (edit(VISIT, GRADED, 'meta: {title: "场馆编码", grade: L1, pi_mark: Q}'), {"pi_mark"}),
    "a token of a person is not marked": (edit(VISIT, r"(name: person_token[\s\S]*?)pi_mark: P", r"\1pi_mark: N"), {"unmarked_personal"}),
    "a token of a person is L1": (edit(VISIT, r"(name: person_token[\s\S]*?)grade: L3", r"\1grade: L1"), {"identifier_grade"}),
    "a column is declared twice": (
        edit(VISIT, r'(      - name: venue_id\n)', r'      - name: venue_id\n        data_type: varchar\n        description: "场馆"\n        meta: {grade: L1, pi_mark: N}\n\1'),
        {"column_twice"},
    ),
    "a YAML file that cannot be read": (edit(DIM, "^version: 2", "version: [2"), {"yaml"}),
    "a YAML key written twice": (edit(DIM, "^version: 2", "version: 2\nversion: 2"), {"yaml"}),
    # outputs
    "an output column above what its surface may show": (
        edit("models/ads/open/_ads__open.yml", r"(name: visit_count[\s\S]*?)grade: L1", r"\1grade: L2"), {"output_grade"},
    ),
    "an output column that its table does not have": (
        edit("models/ads/open/_ads__open.yml", "name: visit_count", "name: visitor_count"), {"output_column"},
    ),
    "an output reads a table that nobody describes": (
        edit("models/ads/open/_ads__open.yml", "name: ads_open__daily_visit", "name: ads_open__daily_visitor"),
        {"output_table", "dead_binding", "uncatalogued"},
    ),
    "an output without the k of the rules table": (edit(OPEN, "k: 20", "k: 19"), {"output_k"}),
    "an aggregate output without k": (edit(OPEN, "        k: 20\n", ""), {"output_k"}),
    "an output whose key is no column": (edit(DELIVERY, r"key: \[reading_id\]", "key: [reading_no]"), {"output_key"}),
    # the 13 elements
    "a domain without class": (edit(PROVIDER, "^  venue: .*\n", ""), {"class_missing"}),
    "two entries with one title": (catalog_meta("{title: 运动项目}"), {"title_twice"}),
    "a provider code with a wrong check character": (edit(PROVIDER, "000000D", "000000E"), {"provider_code"}),
    "no provider": (edit(PROVIDER, "^name: .*", 'name: " "'), {"provider_missing"}),
    "a summary that says nothing": (
        edit(WATER, r'purpose: ".*"\n(.*\n)  limitations: .*\n', r'purpose: "水质"\n\1'), {"summary_missing"},
    ),
    "a column whose type is not known": (edit(VISIT, r"(name: venue_id\n)        data_type: varchar\n", r"\1"), {"item_type"}),
    "an update cycle that is not in the list": (edit(DEFAULTS, "dwd: daily", "dwd: now_and_then"), {"cycle_unknown"}),
    "a responsible unit nobody knows": (edit(BOOKING, "name: 群众体育处", "name: 神秘处"), {"owner_unknown"}),
    "no legal basis": (edit(BOOKING, 'legalBasis: ".*"', 'legalBasis: "工作需要"'), {"legal_basis_missing"}),
    "no retention": (edit(BOOKING, 'retention: ".*"', 'retention: " "'), {"retention_missing"}),
    "coordinates without coordinate system": (edit(ACTIVITY, "      crs: WGS-84\n", ""), {"crs_missing"}),
    "a coordinate system that does not exist": (edit(ACTIVITY, "crs: WGS-84", "crs: FLAT-EARTH"), {"crs_missing"}),
    "a related entry that does not exist": (catalog_meta("{related: [dim_moon]}"), {"related_unknown"}),
    "a model's word for the catalogue is misspelt": (catalog_meta("{ownr: 信息中心}"), {"declaration"}),
    "a default is misspelt": (edit(DEFAULTS, "retention_public:", "retention_pubic:"), {"declaration"}),
    # codes
    "an entry without code": (edit(REGISTERED, r'^  - \{code: .*entry: "dashboard.cockpit".*\n', ""), {"code_missing"}),
    "a code that was changed": (edit(REGISTERED, '"001/0002", entry: "venue.booking"', '"001/0099", entry: "venue.booking"'), {"code_changed", "code_gap"}),
    "a code given to another entry": (
        edit(REGISTERED, 'entry: "venue.booking"', 'entry: "venue.bookings"'), {"code_changed", "code_missing", "code_orphan"},
    ),
    "a code used twice": (edit(REGISTERED, '"001/0003"', '"001/0002"'), {"code_reused", "code_changed", "code_gap"}),
    "a line taken out of the register": (edit(REGISTERED, r'^  - \{code: "001/0003".*\n', ""), {"code_gap", "code_missing"}),
    "a code whose entry is gone": (
        lambda copy: (copy.contracts / "sources/event/filing.odcs.yaml").unlink(), {"code_orphan"},
    ),
    "a prefix that is no code": (edit(PROVIDER, 'digits: "07"', 'digits: "7"'), {"code_structure"}),
    "a withdrawn code that never was": (
        edit(REGISTERED, r"^withdrawn: \[\]", 'withdrawn:\n  - {code: "099/0001", withdrawn_on: "2026-11-01", reason_zh: 从来没有}'),
        {"code_unknown"},
    ),
    # what a draft left to a person
    "a purpose that nobody has settled": (edit(BOOKING, 'purpose: ".*"', 'purpose: "待确认"'), {"unsettled"}),
    # sharing and opening (the rules themselves: test_terms.py)
    "conditional sharing of a table without condition": (catalog_meta("{share: {type: conditional, method: 平台}, open: {type: closed, basis: 内部}}"), {"share_condition"}),
    "a table that is not shared without basis": (catalog_meta("{share: {type: denied}, open: {type: closed, basis: 内部}}"), {"share_basis"}),
    "opened wider than shared": (
        catalog_meta("{share: {type: conditional, condition: 履职, method: 平台}, open: {type: unconditional, scope: 全部}}"), {"open_above_share"},
    ),
    "personal data shared unconditionally": (edit(BOOKING, r"share: \{type: conditional", "share: {type: unconditional"), {"personal_share", "grade_share"}),
    "personal data opened unconditionally": (
        edit(BOOKING, r"open: \{type: closed, ", 'open: {type: unconditional, scope: "全部", '), {"personal_open", "grade_open", "open_above_share"},
    ),
    "sensitive personal data opened on request": (
        edit(ACTIVITY, r"open: \{type: closed, ", 'open: {type: conditional, scope: "全部", condition: "申请", '), {"sensitive_open", "open_above_share"},
    ),
    "sensitive personal data shared": (
        edit(ACTIVITY, r"share: \{type: denied, ", 'share: {type: conditional, condition: "履职", method: "平台", '), {"sensitive_share"},
    ),
    # bindings
    "a described model without SQL": (remove("dwd/venue/dwd_venue__visit.sql"), {"dead_binding"}),
    "a model nobody describes": (model("dws_venue__secret", "select 1 as one"), {"uncatalogued"}),
    "a model that reads a table nobody describes": (
        edit("models/dwd/venue/dwd_venue__visit.sql", r"ref\('dwd_venue__passage'\)", "ref('dwd_venue__passages')"), {"dead_reference"},
    ),
    "a page that reads a table that is gone": (
        edit("models/exposures.yml", r"ref\('ads_cockpit__kpi'\)", "ref('ads_cockpit__kpis')"), {"dead_binding"},
    ),
    "an output nobody delivers": (
        edit("models/exposures.yml", r"ref\('ads_open__daily_visit'\)", "ref('ads_open__venue_directory')"), {"dead_binding"},
    ),
    "a source table of dbt that no contract knows": (
        edit("models/sources.yml", "name: ods_venue__entry", "name: ods_venue__exit"), {"uncatalogued"},
    ),
    # duplicate collection
    "two sources collect the same item": (edit(COLLECTION, r"  - item: identifier:name\n.*\n.*\n", ""), {"duplicate_collection"}),
    "another source begins to collect it": (
        edit(COLLECTION, r"\[event.filing, event.registration, fitness.checkin, venue.booking, venue.register\]", "[event.filing, event.registration, fitness.checkin, venue.register]"),
        {"duplicate_collection"},
    ),
    "personal data collected again for no particular reason": (
        edit(COLLECTION, r"\[event.filing, event.registration, fitness.checkin, venue.booking, venue.register\]", '["*"]'), {"collection_reason"},
    ),
    "a reason for what nobody collects twice": (
        edit(COLLECTION, "^reasons:", "reasons:\n  - {item: term:身高, sources: [a, b], reason_zh: 两处都要用到这个数据项}"), {"collection_reason"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(name, copy):
    plant, expected = DEFECTS[name]
    plant(copy)
    report = copy.check(checks_naming(expected))
    assert not report.ok
    assert expected <= codes(report), report.problems
    assert "check_error" not in codes(report)


def test_there_are_many_kinds_of_defects():
    assert len(DEFECTS) >= 60
    assert len({code for _, expected in DEFECTS.values() for code in expected}) >= 35
