"""Certificates of breakers over a real lake: computed, stored, and asked for before anything is seen."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from catalog import check as catalog_check
from catalog import lineage
from catalog.lineage import Model
from cli import main
from lake import ledger, query, tables
from lake.errors import TiyuError
from modeling import certify, literals, propagation_check, run, store
from quality import certificates, gate

pytestmark = pytest.mark.data
TODAY, AFTER_EXPIRY = date(2026, 11, 20), "2027-12-01"
OPEN, PERSONS, VISITS = "ads_open__daily_visit", "dws_fitness__active_person", "dwd_venue__visit"
COUNTS = ("is_suppressed", "person_count", "visit_count")


class Built:
    """Layers of the small lake, written as a build would write them, without dbt."""

    def __init__(self, compiled_models: tuple[Any, dict[str, str]]) -> None:
        self.session, self.compiled = compiled_models

    def now(self, *selected: str) -> Any:
        """The invocation as it would see the lake now, having built the selected tables."""
        return replace(self.session, selected=set(selected), built={}, _checked={}, _closures={})

    def write(self, table: str, rows: Iterable[dict[str, Any]], *, check: bool = True) -> int:
        columns = self.session.specs[table].columns
        con = duckdb.connect()
        con.execute("set TimeZone = 'UTC'")
        listed = list(rows)
        given = {name: [row.get(name) for row in listed] for name, _ in columns}
        import pyarrow as pa

        con.register("given", pa.table({name: pa.array(values, from_pandas=True) for name, values in given.items()}))
        typed = ", ".join(f'cast("{name}" as {kind}) as "{name}"' for name, kind in columns)
        version = tables.replace_table(table, con.execute(f"select {typed} from given").to_arrow_table())
        con.close()
        if check:
            ledger.set_checked_version(table, version, "test")
        return version

    def visits(self, persons: int, *, heavy: int = 0) -> None:
        """One visit of each person in one district on one day; the first person makes some more."""
        who = [*range(persons), *([0] * heavy)]
        self.write(VISITS, (
            {"visit_id": f"v{n}", "person_token": f"p{person}", "district_code": "310101", "venue_id": "V310101-001",
             "part_date": date(2026, 11, 18)} for n, person in enumerate(who)
        ))  # fmt: skip

    def open_table(self) -> int:
        """The rows that the model makes of what is visible, at a new version nobody has judged."""
        session = self.now()
        con = certify._connection(session)
        try:
            sql = literals.render(
                self.compiled[OPEN], window=None, business_date=TODAY, as_of=session.as_of, versions=lambda t: {t: 0}
            )
            found = con.execute(store.contract_select(sql, session.specs[OPEN])).to_arrow_table()
        finally:
            con.close()
        return tables.replace_table(OPEN, found)

    def certify(self, table: str = OPEN) -> dict[str, str]:
        """What a build does with a table it has written; column → status."""
        return {c.column: c.status for c in certify.certify(self.now(table), self.compiled, [table])}


@pytest.fixture
def built(small_lake, compiled_models) -> Built:
    lake = Built(compiled_models)
    lake.write("dim_district", [
        {"district_code": "310101", "district_name": "黄浦区"}, {"district_code": "310104", "district_name": "徐汇区"},
    ])  # fmt: skip
    lake.visits(40)
    return lake


def stored(column: str = "visit_count") -> list[dict[str, Any]]:
    return [row for row in ledger.certificates(OPEN) if row["column_name"] == column]


# --- the ledger


def test_a_certificate_is_stored_once_a_version_and_holds_numbers_only(built):
    first = built.open_table()
    assert built.certify() == dict.fromkeys(COUNTS, "valid")
    built.certify()
    assert [(row["version"], row["status"]) for row in stored()] == [(first, "valid")], "replaced, not added"
    built.visits(60)
    second = built.open_table()
    built.certify()
    found = stored()
    assert [(row["version"], row["smallest_group"]) for row in found] == [(first, 40), (second, 60)]
    assert found[1]["group_count"] == 1
    assert found[1]["top1_share"] == pytest.approx(1 / 60)
    assert found[1]["approver"]
    assert found[1]["expires"] == date(2027, 11, 19)
    assert json.loads(found[1]["inputs"])[VISITS] == ledger.checked_version(VISITS)
    assert json.loads(found[1]["problems"]) == []
    assert {row["column_name"] for row in ledger.certificates(OPEN)} == set(COUNTS)
    assert ledger.certificates(PERSONS) == []
    assert not any(f"p{n}" in str(row.values()) for row in found for n in (0, 59)), "no person in a certificate"


def test_an_invalid_certificate_is_stored_with_its_reason(built):
    built.visits(30, heavy=200)
    built.open_table()
    assert built.certify()["visit_count"] == "invalid"
    row = stored()[-1]
    assert row["status"] == "invalid"
    assert "一个人占一组的" in row["problems"]
    with pytest.raises(TiyuError, match="TIYU-DBT-0011"):
        certify.require(certify.certify(built.now(OPEN), built.compiled, [OPEN]), "ads")


# --- a build


def test_a_build_with_an_invalid_certificate_shows_nothing(built, monkeypatch):
    """Real dbt: the approval of the breaker has expired, the layer is written but stays unseen."""
    built.write("dwd_fitness__checkin", (
        {"checkin_id": f"c{n}", "person_token": f"p{n}", "district_code": "310101", "part_date": date(2026, 11, 2)}
        for n in range(40)
    ))  # fmt: skip
    monkeypatch.setenv("TIYU_TODAY", AFTER_EXPIRY)
    with pytest.raises(TiyuError) as caught:
        run.build("dws", select=[PERSONS])
    assert caught.value.code == "TIYU-DBT-0011"
    assert caught.value.context["column"].startswith(f"{PERSONS}.")
    assert "到期" in caught.value.context["problems"]
    assert tables.version(PERSONS) == 0, "written"
    assert ledger.checked_version(PERSONS) is None, "not to be seen"
    assert {(row["column_name"], row["status"]) for row in ledger.certificates(PERSONS)} == {
        ("person_count", "invalid"), ("is_suppressed", "invalid"),
    }  # fmt: skip


# --- the gate, whoever runs it


def gate_by_hand() -> tuple[int, str]:
    outcome = CliRunner().invoke(main.build_app(), ["gate", OPEN])
    said = outcome.output + (str(outcome.exception) if outcome.exception else "")
    return outcome.exit_code, said


def results() -> list[tuple[str, int, int]]:
    rows = [row for row in ledger.quality_results(table_name=OPEN) if row["rule_id"] == certificates.RULE]
    return [(row["outcome"], row["examined_count"], row["failed_count"]) for row in rows]


def test_a_gate_typed_by_hand_releases_nothing_without_certificates(built):
    head = built.open_table()
    code, said = gate_by_hand()
    assert code != 0
    assert "TIYU-QG-0007" in said
    assert ledger.checked_version(OPEN) is None
    assert results() == [("fail", 3, 3)]
    assert [alert["subject_id"] for alert in ledger.alerts("open")] == [OPEN]

    built.certify()
    code, said = gate_by_hand()
    assert code == 0, said
    assert ledger.checked_version(OPEN) == head
    assert results()[-1] == ("pass", 3, 0)
    assert ledger.alerts("open") == []

    built.visits(60)  # more rows: the certificate of the earlier version says nothing about them
    newer = built.open_table()
    with pytest.raises(TiyuError) as caught:
        gate.run_gate([OPEN])
    assert "证书没有重新计算" in caught.value.context["problems"]
    assert ledger.checked_version(OPEN) == head < newer


def test_the_gate_refuses_an_invalid_certificate_and_an_expired_approval(built, monkeypatch):
    built.visits(30, heavy=200)
    built.open_table()
    built.certify()
    with pytest.raises(TiyuError) as caught:
        gate.run_gate([OPEN])
    assert caught.value.code == "TIYU-QG-0007"
    assert "visit_count：证书无效：" in caught.value.context["problems"]
    assert ledger.checked_version(OPEN) is None

    built.visits(40)
    built.open_table()
    built.certify()
    monkeypatch.setenv("TIYU_TODAY", AFTER_EXPIRY)
    with pytest.raises(TiyuError) as caught:
        gate.run_gate([OPEN])
    assert "到期" in caught.value.context["problems"]
    assert ledger.checked_version(OPEN) is None


def test_a_rewording_keeps_the_certificate_and_a_changed_declaration_does_not(built, monkeypatch):
    head = built.open_table()
    built.certify()
    gate.run_gate([OPEN])
    tables.set_column_metadata(OPEN, {"visit_count": {"comment": "到访人次（新说明）"}})
    assert tables.version(OPEN) == head + 1
    assert gate.run_gate([OPEN]).ok
    assert ledger.checked_version(OPEN) == head + 1
    assert certificates.standing({OPEN: head + 1})[OPEN] == certificates.Standing(3)

    declared = {o: b.model_copy(update={"approver": "另一位"}) for o, b in certificates.breakers.load()[0].items()}
    monkeypatch.setattr(certificates.breakers, "load", lambda *_: (declared, {}))
    problems = certificates.standing({OPEN: head + 1})[OPEN].problems
    assert [text for _, text in problems] == ["声明或门槛已改动，证书没有重新计算"] * 3


# --- tiyu catalog check --lake, tiyu grade certify


@pytest.fixture
def seen(built) -> Built:
    """The open table with valid certificates, seen by readers."""
    version = built.open_table()
    built.certify()
    ledger.set_checked_version(OPEN, version, "test")
    return built


def catalogue_says(built: Built) -> tuple[int, list[tuple[str, str]]]:
    """How many certificates `tiyu catalog check --lake` examined, and what it says of them."""
    specs = built.session.specs
    models = [Model(name, built.compiled[name], tuple(c for c, _ in specs[name].columns)) for name in (OPEN, PERSONS)]
    schema = {**dict(built.session.sources), **{n: (s.layer, s.columns) for n, s in specs.items()}}
    graph = lineage.build(models, {t: [c for c, _ in columns] for t, (_, columns) in schema.items()})
    extra = propagation_check.check(lambda: (graph, built.compiled))
    report = catalog_check.run(lake=True, more=[extra], only=["propagation"])
    assert not report.checks[0].crashed, report.problems
    found = [(p.where, p.message_zh) for p in report.problems if p.code == "certificate"]
    return report.examined.get("certificates", 0), found


def stored_says(built: Built) -> tuple[int, set[str]]:
    """The same question put to the ledger alone: how many were examined, and the sentences."""
    examined, problems = certify.stored_problems(built.compiled)
    return examined, {text.partition("；")[0] for _, text in problems}


def test_the_catalogue_finds_certificates_that_are_missing_stale_or_expired(seen, monkeypatch):
    assert catalogue_says(seen) == (3, [])

    ledger.set_checked_version(OPEN, tables.replace_table(OPEN, tables_of(OPEN)), "test")
    examined, problems = catalogue_says(seen)
    assert examined == 3
    assert {where for where, _ in problems} == {f"{OPEN}.{column}" for column in COUNTS}
    assert all("数据已更新，证书没有重新计算" in text and "tiyu grade certify" in text for _, text in problems)

    assert seen.certify() == dict.fromkeys(COUNTS, "valid")
    assert stored_says(seen) == (3, set())
    changed = Built((seen.session, {**seen.compiled, OPEN: seen.compiled[OPEN] + "\n-- edited"}))
    assert stored_says(changed) == (3, {"模型已改动，证书没有重新计算"})

    seen.visits(30, heavy=200)
    ledger.set_checked_version(OPEN, seen.open_table(), "test")
    seen.certify()
    assert [text[:13] for text in stored_says(seen)[1]] == ["证书无效：一个人占一组的 "]

    monkeypatch.setenv("TIYU_TODAY", AFTER_EXPIRY)
    assert {text[:4] for text in stored_says(seen)[1]} == {"批准已于", "证书无效"}


def test_a_table_that_is_seen_without_any_certificate_is_found(built):
    assert stored_says(built) == (0, set()), "nothing is shown yet"
    ledger.set_checked_version(OPEN, built.open_table(), "test")
    assert stored_says(built) == (3, {"没有证书"})


def tables_of(name: str) -> Any:
    con = query.connect()
    try:
        return con.execute(f"select * from {query.scan_sql(name, tables.version(name))}").to_arrow_table()
    finally:
        con.close()


def test_grade_certify_computes_what_readers_see_and_fails_on_an_invalid_one(seen, monkeypatch):
    monkeypatch.setattr(run, "compiled", lambda: (seen.now(), seen.compiled))  # compiled once for the session

    def command(*options: str) -> Any:
        return CliRunner().invoke(main.build_app(), ["grade", "certify", *options])

    good = command("--json")
    assert good.exit_code == 0, good.output
    told = json.loads(good.output)
    assert {(c["table"], c["column"], c["status"]) for c in told} == {(OPEN, c, "valid") for c in COUNTS}
    seen.visits(30, heavy=200)  # what the table was made from has changed under it
    bad = command()
    assert bad.exit_code == 1
    assert "1 份无效" in bad.output
    assert stored()[-1]["status"] == "invalid"
