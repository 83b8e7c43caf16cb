"""Every surface of the policy asks the policy: with it denied there, the real code of the surface shows nothing.

Each probe runs the enforcement point that policy.yaml names and returns what it shows; a surface without a probe, a probe
that shows nothing to begin with, or one that shows the same under a policy that denies it, fails.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from catalog import columns, contracts, policy
from lake import ledger, query
from lake.errors import TiyuError
from tests.policies import changed, denied

pytestmark = pytest.mark.policy
PHONE = "19912345678"


TECHNICAL = tuple(columns.TECHNICAL)


def _file(audience: str, table: str) -> list[str]:
    from sharing.serving import describe, publish
    from sharing.serving import policy as serving_policy

    con = query.connect()
    try:
        who, version = serving_policy.audience(audience), ledger.checked_version(table)
        plan = publish.plan_of(con, who, table, version, describe.columns()[table])
        return [column.name for column, _ in plan.shown if column.name not in TECHNICAL]
    finally:
        con.close()


def _refused(call: Callable[[], list[Any]], *codes: str) -> list[Any]:
    """What a call gives; nothing when it refuses with one of these codes."""
    try:
        return call()
    except TiyuError as error:
        if error.code not in codes:
            raise
        return []


def _cli_sql() -> list[str]:
    """What a file cut now would hold, and whether the one that is there opens: it is of another policy, if that changed."""
    from sharing import serving

    def opened() -> list[str]:
        serving.connect("analyst", surface="cli_sql").close()
        return ["opened"]

    return _file("analyst", "ods_fitness__checkin") + _refused(opened, "TIYU-SRV-0007")


def _scratch() -> list[str]:
    from sharing.serving import scratch

    def kept() -> list[str]:
        scratch.create("probe", "kept", "SELECT venue_id FROM ods_fitness__checkin")
        with scratch.connect("probe") as con:
            return [row[0] for row in con.execute("SELECT venue_id FROM scratch.kept").fetchall()]

    try:
        return _refused(kept, "TIYU-SCR-0009", "TIYU-SRV-0007")
    finally:
        if scratch.tables("probe"):
            scratch.drop("probe", "kept")


def _diff() -> list[str]:
    from sharing.serving import changes, describe

    found = describe.columns()["ods_fitness__checkin"].values()
    person_level = policy.is_person_level(found)
    return [c.name for c in found if c.name not in TECHNICAL and changes.may_show(c, person_level=person_level)]


def _trace() -> list[str]:
    from sharing.serving import describe, trace

    row = dict.fromkeys(describe.columns()["ads_cockpit__kpi"], "x")
    shown = trace._shown({name: value for name, value in row.items() if name not in TECHNICAL})
    return [name for name, value in shown.items() if value is not None]


def _exchange() -> list[int]:
    from sharing.exchange import build, config

    return _refused(lambda: [build.check_grades(spec) for spec in config.load()], "TIYU-EXC-0006")


def _open_data() -> list[int]:
    from sharing.open_data import config, disclosure

    return _refused(lambda: [disclosure.check_grades(spec) for spec in config.load()], "TIYU-OPEN-0002")


def _samples() -> list[str]:
    from sharing import samples

    found = samples.masked_samples("ods_reference__district")
    return [value for name, values in found.items() if name not in TECHNICAL for value in values]


def _quarantine() -> list[str]:
    from ingestion import split

    obj = contracts.load_all("source")["venue.register"].root
    return [name for name, decision in split.preview_treatments(obj).items() if decision.treatment != "absent"]


def _error() -> list[str]:
    from protection import redaction

    with redaction.guarding("error_message"):
        text = str(TiyuError("TIYU-TST-0001", f"电话 {PHONE}"))
    assert PHONE not in text
    return [] if redaction.GONE in text else [text]


#: Surface → what its real code shows under the policy in force.
PROBES: dict[str, Callable[[], list[Any]]] = {
    "serving_file": lambda: _file("analyst", "ods_fitness__checkin"),
    "cockpit": lambda: _file("cockpit", "dim_district"),
    "sql_lab": lambda: _file("analyst", "ods_fitness__checkin"),
    "cli_sql": _cli_sql,
    "scratch": _scratch,
    "cli_diff": _diff,
    "cli_trace": _trace,
    "exchange": _exchange,
    "open_data": _open_data,
    "catalogue_sample": _samples,
    "quarantine": _quarantine,
    "error_message": _error,
}


def _log(tmp_path: Path) -> str:
    """What a task's log holds after a verb that failed."""
    import logging

    from protection import redaction

    with redaction.guarding("airflow_log"):
        record = logging.getLogRecordFactory()("verb", 20, "f", 1, "电话 %s", (PHONE,), None)
        return record.getMessage() + str(TiyuError("TIYU-TST-0001", f"电话 {PHONE}"))


def _artifacts(tmp_path: Path) -> str:
    from modeling import artifacts

    file = tmp_path / "target" / artifacts.RESULTS
    file.parent.mkdir(parents=True, exist_ok=True)
    message = f"Runtime Error in model dwd_x\n  Conversion Error: Could not convert string '{PHONE}' to INT32"
    file.write_text(json.dumps({"results": [{"message": message, "status": "error"}]}), "utf-8")
    assert artifacts.clean(tmp_path) == 1
    return file.read_text("utf-8") + artifacts.cleaned(message)


def _quality(tmp_path: Path) -> str:
    from quality import engine

    return "" if engine.result_format() == "BASIC" else PHONE


#: Surfaces that show no value at all: what their real code leaves of a text or result that holds one.
EMPTY: dict[str, Callable[[Path], str]] = {"airflow_log": _log, "dbt_artifact": _artifacts, "quality_result": _quality}


def test_every_surface_has_a_probe_and_an_enforcement_point_that_exists():
    declared = policy.current().surfaces
    assert set(PROBES) | set(EMPTY) == set(declared)
    assert not set(PROBES) & set(EMPTY)
    for name, surface in declared.items():
        module, _, function = surface.enforced_by.partition(":")
        if module.startswith("dags"):  # importing it starts Airflow's settings
            assert f"def {function}(" in Path(f"{module.replace('.', '/')}.py").read_text("utf-8"), name
        else:
            assert callable(getattr(importlib.import_module(module), function)), name


@pytest.mark.parametrize("surface", PROBES)
def test_a_surface_that_is_denied_shows_nothing(served, surface):
    assert PROBES[surface](), "the probe shows nothing to begin with"
    with policy.replaced(denied(surface)):
        assert PROBES[surface]() == []
    assert PROBES[surface]()


@pytest.mark.parametrize("surface", EMPTY)
def test_a_surface_without_values_shows_none_and_would_if_the_policy_let_it(tmp_path, surface):
    assert PHONE not in EMPTY[surface](tmp_path)
    loose = changed(
        (f"surfaces.{surface}.limit", "audience"),
        ("audiences.operations.grades", dict.fromkeys(("L1", "L2", "L3", "L4"), "plain")),
        ("audiences.operations.marks", dict.fromkeys("NPS", "plain")),
        ("audiences.operations.kinds.phone", "plain"),
    )
    with policy.replaced(loose):
        assert PHONE in EMPTY[surface](tmp_path)


def test_a_surface_that_does_not_ask_would_be_noticed(served, monkeypatch):
    """The probes above compare two policies; one that answers without asking fails them."""
    from sharing.serving import policy as serving_policy

    monkeypatch.setattr(serving_policy, "decide", lambda who, column, *, person_level: "plain")
    with policy.replaced(denied("sql_lab")):
        assert PROBES["sql_lab"]() != []


def test_samples_are_masked_independent_and_stable(served):
    from sharing import samples
    from tests.policy.conftest import CANARIES, DAYS, append

    rows = [
        {"checkin_id": f"s{n}", "venue_id": "V310101-001", "purpose": "entry", "id_type": "resident_id", "birth_year": 1990 + n % 2, "part_date": DAYS[1]}
        for n in range(12)
    ]  # fmt: skip
    append("ods_fitness__checkin", rows, batch_id="samples")
    found = samples.masked_samples("ods_fitness__checkin")
    assert found == samples.masked_samples("ods_fitness__checkin")
    assert found["birth_year"] == ["1990年代"]
    assert found["person_token"] == found["phone_token"] == []
    assert found["venue_id"] == ["V310101-001"]
    assert found["checkin_id"] == []  # each value belongs to one row
    everything = str(found)
    for value in (CANARIES.id_no, CANARIES.phone, CANARIES.name):
        assert value not in everything
    loose = changed(("surfaces.catalogue_sample.limit", "audience"), ("audiences.catalogue.grades.L3", "plain"), ("audiences.catalogue.kinds.birth_year", "plain"))  # fmt: skip
    with policy.replaced(loose):
        assert "1990" in samples.masked_samples("ods_fitness__checkin")["birth_year"]
    assert set(samples.masked_samples("dwd_never__built")) == set()
    assert all(values == [] for values in samples.masked_samples("dwd_fitness__checkin").values())


def test_masks_in_sql_hold_in_a_file():
    from protection import masking

    con = duckdb.connect()
    shown = con.execute(f"SELECT {masking.masked_sql('phone', '?')}".replace("?", f"'{PHONE}'")).fetchone()
    assert shown == ("199****5678",)


def test_what_every_file_holds_besides_is_public(served):
    """Freshness and KPI definitions are copied into all files: a column graded above L1 does not come along."""
    from sharing.serving import describe, publish

    con = query.connect()
    try:
        source = "ods_reference__kpi"
        version = ledger.checked_version(source)
        names = [row[0] for row in con.execute(f"DESCRIBE {publish._copied_rows(con, source, version)}").fetchall()]
        assert len(names) > 10
        known = describe.columns()
        known[source]["definition"] = replace(known[source]["definition"], grade="L2")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(describe, "columns", lambda: known)
            less = [row[0] for row in con.execute(f"DESCRIBE {publish._copied_rows(con, source, version)}").fetchall()]
        assert set(names) - set(less) == {"definition"}
    finally:
        con.close()
