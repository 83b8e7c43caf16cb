"""Units of measure a column may declare: vocabularies/unit.yaml."""

from __future__ import annotations

from catalog import vocabularies


def is_known(unit: str) -> bool:
    """Whether the unit is in the vocabulary."""
    return unit.strip().lower() in vocabularies.mapping("unit")
