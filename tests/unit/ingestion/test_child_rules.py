"""Sessions, laps and samples of an activity are judged by the rules of their own tables, and share the fate of their activity."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from catalog import contracts
from catalog.contracts import Contract
from ingestion import pipeline
from tests.unit.ingestion_decoders import fit_bytes
from tests.unit.ingestion_decoders.test_activity import START
from tests.unit.ingestion_decoders.test_device_rules import LENGTH_MESSAGE as LENGTH
from tests.unit.ingestion_decoders.test_device_rules import file_id, length, message, records, session

POOL = "training.activity_session.distance_m.pool_lengths"
SESSIONS = "ods_training__activity_session"
AS_OF = datetime(2026, 11, 20, 4, tzinfo=UTC)
BATCH = {"batch_id": "b_1", "as_of_at": AS_OF, "resource": "training.activity"}


def swim(distance_cm: int) -> bytes:
    """Three lengths of 25 metres and what the watch says of their distance."""
    body = file_id() + records(3) + b"".join(message(LENGTH, length(number)) for number in range(3))
    return fit_bytes.wrap(body + session(START, 5, 600, (44, "H", 2500), (46, "E", 0), (9, "I", distance_cm)))


def judged(contract: Contract, files: dict[str, bytes]) -> pipeline.Judged:
    objects = [
        {"sha256": sha, "name": f"{number}.fit", "size": len(body), "seq": number}
        for number, (sha, body) in enumerate(files.items(), 1)
    ]
    return pipeline.judge(contract, BATCH, objects, as_of=AS_OF, read=files.__getitem__, alone=True)


def with_severity(rule_id: str, severity: str) -> Contract:
    contract = contracts.load("training.activity")
    changed: list[Any] = [
        obj.model_copy(
            update={
                "rules": [
                    rule.model_copy(update={"severity": severity}) if rule.rule_id == rule_id else rule
                    for rule in obj.rules
                ]
            }
        )
        for obj in contract.objects
    ]
    return contract.model_copy(update={"objects": changed})


FILES = {"a" * 64: swim(7500), "b" * 64: swim(10_000)}


def test_a_pool_distance_that_its_lengths_do_not_give_is_a_warning(home):
    found = judged(contracts.load("training.activity"), FILES)
    assert found.result.rules_examined[POOL] == 2
    assert found.result.warned_by_rule[POOL] == 1
    assert found.accepted.height == 2
    assert found.refused.is_empty()


def test_rules_of_every_child_table_are_asked(home):
    found = judged(contracts.load("training.activity"), FILES)
    examined = found.result.rules_examined
    assert examined["training.swim_length.stroke_count.range"] == 6
    assert examined["training.activity_sample.heart_rate_bpm.range"] == 6


def test_a_part_that_may_not_be_stored_refuses_its_activity_and_no_other(home):
    found = judged(with_severity(POOL, "quarantine"), FILES)
    assert found.accepted["_source_object"].to_list() == ["a" * 64]
    assert found.refused.select("_source_object", "rule_id").rows() == [("b" * 64, POOL)]
    assert "分段序号 0" in found.refused["reason"][0] or "分段序号 1" in found.refused["reason"][0]
    assert found.decoded == {"a" * 64: 1, "b" * 64: 1}
    assert POOL not in found.result.warned_by_rule


@pytest.mark.parametrize("severity", ["warn", "quarantine"])
def test_parts_of_a_refused_activity_are_not_counted(home, severity):
    late = {"a" * 64: swim(7500)}
    contract = with_severity(POOL, severity)
    found = pipeline.judge(
        contract, BATCH, [{"sha256": "a" * 64, "name": "1.fit", "size": 1, "seq": 1}],
        as_of=datetime(2020, 1, 1, tzinfo=UTC), read=late.__getitem__, alone=True,
    )  # fmt: skip
    assert found.accepted.is_empty()
    assert POOL not in found.result.rules_examined
