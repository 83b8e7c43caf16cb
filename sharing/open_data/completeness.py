"""Is anything missing from what a dataset is made of? A version made without a source's newest data says so."""

from __future__ import annotations

from catalog import entries
from catalog.entries import facts
from sharing.open_data.config import DatasetSpec


def missing_sources(specs: list[DatasetSpec]) -> dict[str, list[str]]:
    """Dataset name → Chinese titles of the sources it rests on that are late, failed or silent and brought nothing today.

    The rule is the column `is_missing` of `ops_ingest__freshness`, which the cockpit's sentences read too
    (`ads_cockpit__headline`). Reads its visible version; before there is one, nothing is known to be missing.
    """
    known = entries.load_all()
    wanted = [spec.contract_id for spec in specs if spec.contract_id in known]
    found = facts.load(known, wanted)
    return {
        spec.name: [row["title"] for row in found[spec.contract_id].freshness if row["is_missing"]]
        if spec.contract_id in found
        else []
        for spec in specs
    }


def note(titles: list[str]) -> str:
    """The Chinese sentence that goes with such a version; empty when nothing is missing."""
    return f"未收到「{'」「'.join(titles)}」的最新数据，本版本不完整；数据补齐后另发新版本" if titles else ""
