"""What the planner wants to know of a model before anything runs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lake.errors import TiyuError
from modeling import project


def manifest(**columns):
    """A parsed project of one model with these columns."""
    node = SimpleNamespace(
        unique_id="model.tiyu.dws_x__m",
        resource_type="model",
        name="dws_x__m",
        schema="dws",
        original_file_path="models/dws/x/dws_x__m.sql",
        raw_code="select 1 as n",
        depends_on=SimpleNamespace(nodes=[], macros=[]),
        config=SimpleNamespace(meta={}),
        columns={name: SimpleNamespace(name=name, data_type=kind) for name, kind in columns.items()},
    )
    return SimpleNamespace(nodes={node.unique_id: node}, sources={}, macros={})


def test_a_described_model_has_its_columns_in_order():
    assert project.specs(manifest(n="bigint", day="date"))["dws_x__m"].columns == (("n", "bigint"), ("day", "date"))


def test_a_model_without_columns_is_named_with_what_to_write():
    with pytest.raises(TiyuError) as refused:
        project.specs(manifest())
    assert refused.value.code == "TIYU-DBT-0012"
    assert "dws_x__m.sql" in str(refused.value)
    assert "_*.yml" in str(refused.value)
