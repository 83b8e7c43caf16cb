"""Reference tables in a real lake: written once, visible at once, scaled for a demo city and saying so."""

from __future__ import annotations

import polars as pl
import pytest

from catalog import entries, kpis, publish, vocabularies
from lake import ledger, properties, tables
from lake.errors import TiyuError

ALL = [table.name for table in publish.TABLES]


def read(name: str) -> pl.DataFrame:
    return pl.scan_delta(tables.path(name), version=ledger.checked_version(name)).collect()


def test_publish_is_idempotent_and_visible(home):
    assert publish.publish_reference() == ALL
    versions = {name: tables.version(name) for name in ALL}
    assert {name: ledger.checked_version(name) for name in ALL} == versions
    assert publish.publish_reference() == []
    assert {name: tables.version(name) for name in ALL} == versions

    district = read("ods_reference__district")
    assert district["population_count"].sum() == 24_870_895
    assert "缩放" not in district["note"][0]
    assert read("ods_reference__code").height == sum(len(vocabularies.load(n)) for n in vocabularies.names())
    kpi = read("ods_reference__kpi")
    assert kpi.height == sum(len(k.rows()) for k in kpis.load_all().values())
    assert kpi.select("kpi_code", "variant_code").is_duplicated().sum() == 0
    resource = read("ods_reference__resource")
    assert set(resource["resource"]) == set(entries.load_all())
    assert resource["resource_code"].is_duplicated().sum() == 0
    assert resource["resource_code"].null_count() == 0
    assert resource.filter(pl.col("kind") == "source")["cycle_hours"].null_count() == 0
    rule = read("ods_reference__rule")
    assert not rule.filter(pl.col("provenance").str.contains("DESIGN|K-"))["is_law"].any()


def test_a_crash_between_commit_and_visibility_is_repaired(home):
    publish.publish_reference()
    ledger.set_checked_version("ods_reference__sport", 99, "test")
    assert publish.publish_reference() == []
    assert ledger.checked_version("ods_reference__sport") == tables.version("ods_reference__sport")


def test_demo_scale_changes_population_and_count_targets_only(home):
    publish.publish_reference()
    properties.set("demo_scale", "0.05")
    assert publish.publish_reference() == ["ods_reference__district", "ods_reference__kpi"]
    district = read("ods_reference__district").filter(pl.col("district_code") == "310115")
    assert district["population_count"].item() == round(5_681_512 * 0.05)
    assert "0.05" in district["note"].item()
    kpi = {(r["kpi_code"], r["variant_code"]): r for r in read("ods_reference__kpi").to_dicts()}
    assert kpi["E-01", "platform"]["target"] == pytest.approx(150)
    assert "0.05" in kpi["E-01", "platform"]["target_document"]
    assert kpi["E-01", "platform"]["target_end_date"].isoformat() == "2025-12-31"
    assert kpi["D-02", ""]["target"] == 100
    assert "缩放" not in kpi["D-02", ""]["target_document"]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "small"])
def test_bad_demo_scale_is_refused(home, text):
    properties.set("demo_scale", text)
    with pytest.raises(TiyuError, match="TIYU-CAT-0010"):
        publish.publish_reference()
    assert not tables.exists("ods_reference__district")
