"""Each rule of sharing and opening: an entry that keeps it, and one that breaks exactly it."""

from __future__ import annotations

import pytest

from catalog import entries
from catalog.checks import sharing_terms
from catalog.entries import Entry, OpenTerms, ShareTerms

FREE = ShareTerms(type="unconditional", method="平台")
ASKED = ShareTerms(type="conditional", condition="履职", method="平台")
DENIED = ShareTerms(type="denied", basis="《个人信息保护法》第二十八条")
OPENED = OpenTerms(type="unconditional", scope="全部")
ON_REQUEST = OpenTerms(type="conditional", scope="汇总", condition="申请")
CLOSED = OpenTerms(type="closed", basis="含个人信息")


@pytest.fixture(scope="module")
def plain() -> Entry:
    return entries.load("dim_venue")


def broken(entry: Entry) -> set[str]:
    return {rule.__name__ for rule in sharing_terms.RULES if rule(entry)}


GOOD = [
    ("L1", "N", FREE, OPENED),
    ("L1", "N", FREE, ON_REQUEST),
    ("L2", "N", ASKED, ON_REQUEST),
    ("L3", "P", ASKED, CLOSED),
    ("L4", "S", DENIED, CLOSED),
]


@pytest.mark.parametrize(("grade", "mark", "share", "opening"), GOOD)
def test_terms_that_agree(plain, grade, mark, share, opening):
    entry = plain.model_copy(update={"grade": grade, "pi_mark": mark, "share": share, "open": opening})
    assert broken(entry) == set()


BAD = {
    "share_type": ("L1", "N", ShareTerms(type="maybe", method="平台"), CLOSED),
    "open_type": ("L1", "N", FREE, OpenTerms(type="maybe", scope="全部")),
    "share_condition": ("L2", "N", ShareTerms(type="conditional", condition=" ", method="平台"), CLOSED),
    "share_basis": ("L4", "S", ShareTerms(type="denied", basis="不方便"), CLOSED),
    "share_method": ("L1", "N", ShareTerms(type="unconditional"), CLOSED),
    "open_condition": ("L1", "N", FREE, OpenTerms(type="conditional", scope="全部")),
    "open_scope": ("L1", "N", FREE, OpenTerms(type="unconditional")),
    "open_basis": ("L1", "N", FREE, OpenTerms(type="closed")),
    "open_above_share": ("L1", "N", ASKED, OPENED),
    "personal_share": ("L2", "P", FREE, CLOSED),
    "personal_open": ("L2", "P", ASKED, OPENED),
    "grade_share": ("L3", "N", FREE, CLOSED),
    "grade_open": ("L3", "N", ASKED, OPENED),
    "sensitive_open": ("L4", "N", DENIED, ON_REQUEST),
    "sensitive_share": ("L4", "N", ASKED, CLOSED),
}
ALSO = {
    "personal_open": {"open_above_share"},
    "grade_open": {"open_above_share"},
    "sensitive_open": {"open_above_share"},
}


@pytest.mark.parametrize("rule", BAD)
def test_each_rule_fails_by_itself(plain, rule):
    grade, mark, share, opening = BAD[rule]
    entry = plain.model_copy(update={"grade": grade, "pi_mark": mark, "share": share, "open": opening})
    assert broken(entry) == {rule} | ALSO.get(rule, set())


def test_every_rule_is_tried():
    assert set(BAD) == {rule.__name__ for rule in sharing_terms.RULES}


@pytest.mark.parametrize(("grade", "mark"), [(None, "N"), ("L1", None)])
def test_what_is_not_graded_or_marked_counts_as_sensitive(plain, grade, mark):
    entry = plain.model_copy(update={"grade": grade, "pi_mark": mark, "share": FREE, "open": OPENED})
    assert broken(entry) & {"grade_share", "personal_share"}
