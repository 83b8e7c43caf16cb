"""The order in which many sources come, and what one source's failure does to the others."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from catalog import contracts
from ingestion import catch_up
from lake.errors import EXIT_CHECK_FAILED, EXIT_UNAVAILABLE, TiyuError


def test_what_is_referred_to_comes_first_and_nothing_is_left_out():
    known = contracts.fetched()
    found = catch_up.waves(known, known)
    place = {name: number for number, wave in enumerate(found) for name in wave}
    assert sorted(place) == sorted(known)
    owner = {obj.table: name for name, contract in known.items() for obj in contract.objects}
    examined = 0
    for name, contract in known.items():
        for rule in (r for obj in contract.objects for r in obj.rules if r.kind == "reference"):
            other = owner.get(rule.params["table"])
            if other and other != name:
                assert place[other] < place[name], (other, name)
                examined += 1
    assert examined >= 4
    assert catch_up.waves(known, ["venue.booking"]) == [["venue.booking"]], "who is not asked for is not waited for"


def test_a_ring_of_references_does_not_hang():
    def source(table: str, other: str):
        rule = SimpleNamespace(kind="reference", params={"table": other})
        return SimpleNamespace(objects=[SimpleNamespace(table=table, rules=[rule])])

    assert catch_up.waves({"a": source("ta", "tb"), "b": source("tb", "ta")}, ["a", "b"]) == [["a", "b"]]


@pytest.fixture
def verbs(monkeypatch):
    """Ingest and gate that only note what they are asked for; `fails` maps a source to the exit code of its error."""
    noted = SimpleNamespace(ingested=[], gated=[], fails={})

    def ingest(name):
        noted.ingested.append(name)
        if name in noted.fails:
            raise TiyuError("TIYU-TST-0001", "测试", "无", noted.fails[name])
        return SimpleNamespace(status="success", received_objects=1, decoded=3, accepted=2, quarantined=1, duplicate=0)

    monkeypatch.setattr(catch_up, "ingest", ingest)
    monkeypatch.setattr(catch_up, "run_gate", lambda names: noted.gated.extend(names))
    return noted


def test_counts_are_summed_and_every_table_is_judged(verbs):
    report = catch_up.catch_up(["venue.booking", "venue.register"])
    assert verbs.ingested == ["venue.register", "venue.booking"]
    assert verbs.gated == ["ods_venue__register", "ods_venue__booking"]
    assert report.to_dict() | {"sources": None} == {
        "status": "success", "sources": None, "gated": 2, "failed": {}, "received_objects": 2, "decoded": 6, "accepted": 4,
        "quarantined": 2, "duplicate": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("fails", "code"), [
    ({"venue.booking": EXIT_UNAVAILABLE}, EXIT_UNAVAILABLE),
    ({"venue.booking": EXIT_UNAVAILABLE, "venue.entry": EXIT_CHECK_FAILED}, EXIT_CHECK_FAILED),
])  # fmt: skip
def test_one_failure_does_not_stop_the_others_and_is_told_at_the_end(verbs, fails, code):
    verbs.fails = fails
    with pytest.raises(TiyuError, match="TIYU-ING-0040") as caught:
        catch_up.catch_up(["venue.booking", "venue.entry", "venue.slot"])
    assert caught.value.exit_code == code
    assert all(name in str(caught.value.as_dict()) for name in fails)
    assert set(verbs.ingested) == {"venue.booking", "venue.entry", "venue.slot"}
    assert "ods_venue__slot" in verbs.gated
    assert "ods_venue__booking" not in verbs.gated


def test_an_unknown_source_is_refused_before_anything_is_done(verbs):
    with pytest.raises(TiyuError, match="TIYU-ING-0001"):
        catch_up.catch_up(["venue.booking", "venue.parking"])
    assert verbs.ingested == []
