"""The catalogue as committed: nothing ungraded, no identifier in the clear, no output above what its surface may show."""

from __future__ import annotations

import pytest

from catalog import check, contracts
from catalog.columns import describe_all
from catalog.contracts.model import PROTECTED_KINDS

pytestmark = pytest.mark.policy


def test_the_whole_catalogue_is_clean():
    report = check.run()
    assert report.problems == []
    assert report.examined["contracts"] >= 11
    assert report.examined["columns"] >= 239


def test_stored_identifiers_are_tokens_or_masked():
    examined = 0
    for contract in contracts.load_all("source").values():
        for obj in contract.objects:
            for prop in obj.properties:
                if prop.identifier_kind in PROTECTED_KINDS:
                    examined += 1
                    assert prop.name.endswith("_token") or prop.mask, prop.name
                    assert prop.pi_mark in ("P", "S")
    assert examined == 24


@pytest.mark.parametrize("kind", ["exchange", "open"])
def test_outputs_carry_no_personal_column(kind):
    columns = [p for c in contracts.load_all(kind).values() for p in c.root.properties]
    assert columns
    for prop in columns:
        assert prop.pi_mark == "N", prop.name
        assert prop.identifier_kind not in PROTECTED_KINDS
        assert not prop.name.endswith("_token")
        assert "contact" not in prop.name


def test_heart_rate_and_position_of_athletes_are_l4():
    rows = {(r["table"], r["column"]): r for r in describe_all()}
    sensitive = [
        ("ods_training__activity", "max_hr_bpm"),
        ("ods_training__activity_sample", "heart_rate_bpm"),
        ("ods_training__activity_sample", "lng"),
        ("ods_training__activity_sample", "lat"),
    ]
    assert {(rows[key]["grade"], rows[key]["pi_mark"]) for key in sensitive} == {("L4", "S")}
