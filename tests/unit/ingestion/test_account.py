"""The account of a batch: every object has its own outcome."""

from __future__ import annotations

import polars as pl

from ingestion import pipeline


def test_objects_of_one_name_are_told_apart_by_content(monkeypatch):
    closed = {}
    monkeypatch.setattr(
        pipeline.ledger, "finish_batch", lambda batch_id, values, outcomes: closed.update(rows=outcomes)
    )
    objects = [{"sha256": sha, "seq": seq, "name": "day.csv", "size": 9} for seq, sha in enumerate(("aa", "bb"), 1)]
    taken = pipeline.Taken({"aa": 1}, [])
    refused = pl.DataFrame({"_source_object": ["bb"], "rule_id": ["TIYU-ING-0210"]})
    result = pipeline.BatchResult("b_1", "accepted", 2, 0, 0, 0, 0)
    result.refusals.append(pipeline.Refusal("bb", "day.csv", "TIYU-ING-0210", "…"))
    pipeline._account(result, {"batch_id": "b_1"}, objects, {"aa": 1, "bb": 1}, taken, refused, {})
    assert [(row["status"], row["reason"]) for row in closed["rows"]] == [
        ("accepted", None),
        ("refused", "TIYU-ING-0210"),
    ]
    assert (result.status, result.decoded, result.accepted, result.quarantined) == ("partial", 2, 1, 1)
