"""A rule of a contract that speaks of the rules table says what stands there, and the table is not weaker than what it calls law."""

from __future__ import annotations

import re

import pytest

from catalog import contracts, rules_table

NAMED = re.compile(r"规则表 ([A-Za-z0-9_.、-]+(?: *、 *[A-Za-z0-9_.-]+)*)")
#: Rules that ask for a fact the threshold is later applied to; the figure itself is not in them.
WITHOUT_FIGURE = {"venue.safety_event.no_surface.duration", "event.registration.guardian.consent"}


def named_rules():
    for contract in contracts.load_all("source").values():
        for obj in contract.objects:
            for rule in obj.rules:
                if found := NAMED.search(rule.message_zh):
                    yield rule, [name.strip(" 的") for name in found[1].split("、")]


RULES = list(named_rules())


def figures(rule) -> set[float]:
    """Numbers that a rule compares with; 0 as a lower bound says nothing."""
    if rule.kind == "range":
        bounds = (rule.params.get("min"), rule.params.get("max"))
        return {float(b) for b in bounds if b not in (None, 0, 0.0)}
    text = re.sub(r"'[^']*'|[A-Za-z_]\w*", " ", rule.params["sql"])
    return {float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)}


def test_enough_rules_speak_of_the_table():
    assert len(RULES) >= 20


@pytest.mark.parametrize(("rule", "names"), RULES, ids=[rule.rule_id for rule, _ in RULES])
def test_a_named_threshold_is_that_of_the_table(rule, names):
    rows = [rules_table.get(name) for name in names]  # KeyError: the rule names a row that is not there
    values = {float(v) for row in rows for v in (row.value_min, row.value_max) if v not in (None, 0, 0.0)}
    values |= {v / 100 for row in rows if row.unit == "%" for v in (row.value_min, row.value_max) if v is not None}
    if rule.rule_id in WITHOUT_FIGURE:
        return
    used = figures(rule)
    if rule.kind == "range":
        assert used <= values, (used, values)
    for row in rows:
        own = {float(v) for v in (row.value_min, row.value_max) if v not in (None, 0, 0.0)}
        own |= {v / 100 for v in own if row.unit == "%"}
        assert not own or own & used, f"{row.rule_id} says {own}, the rule compares with {used}"


def test_the_three_limits_of_prepaid_contracts_are_counted_and_refuse_nothing():
    """A contract beyond the limits is what supervision looks for: it must come in."""
    obj = contracts.load("supervision.prepaid_contract").root
    limits = [rule for rule in obj.rules if "规则表 prepaid." in rule.message_zh]
    assert {rule.severity for rule in limits} == {"warn"}
    assert {name for rule, names in RULES for name in names if name.startswith("prepaid.")} >= {
        "prepaid.membership_amount", "prepaid.membership_months", "prepaid.session_amount", "prepaid.session_count", "prepaid.stored_amount",
        "prepaid.total_amount",
    }  # fmt: skip
