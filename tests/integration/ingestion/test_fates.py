"""`tiyu row`, `tiyu quarantine show|discard`, both ledgers: every row has one fate, it is found and told without a value."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from catalog import contracts
from cli import main
from ingestion.refused import Filter, discard, discards, refused, remedy, show, take_back
from ingestion.replay import replay, withdraw
from ingestion.run import ingest
from lake import ledger, tables
from lake.clock import utc_now
from lake.errors import TiyuError
from lake.settings import settings
from protection import keys, tokens
from quality.reconcile import reconcile
from tests.replay.histories import RESOURCE, TABLE, Batch, World

sys.path.insert(0, str(Path(__file__).parent))

from meter_lake import METER, books, row

pytestmark = pytest.mark.integration
FINE = {
    "meter_id": "M-1",
    "read_date": "2026-11-10",
    "revision": "1",
    "amount": "5",
    "state": "on",
    "code": "A1",
    "remark": "r1",
}


def line(**changed: str) -> dict[str, str]:
    return {**FINE, **changed}


@pytest.fixture
def world(home, monkeypatch):
    """Two batches. The first: fine, amount too high, unknown state, a repetition, a contradiction. The second: what the first
    refused for its amount, in the way of it."""
    world = World(home, monkeypatch, home / "keys" / "keys.json")
    with world.entered():
        world.use(frozenset())
        world.take_in(
            Batch({"a.csv": [FINE, line(meter_id="M-2", amount="70"), line(state="idle", revision="2"), FINE, line(amount="6")]}), 0
        )  # fmt: skip
        world.take_in(Batch({"b.csv": [line(meter_id="M-2", amount="20"), line(meter_id="M-2", amount="20"), FINE]}), 1)
        yield world


def objects() -> list[str]:
    return [ledger.objects(batch["batch_id"])[0]["sha256"] for batch in ledger.batches(RESOURCE)]


def run(*arguments: str):
    return CliRunner().invoke(main.build_app(), list(arguments))


def told(*find: str) -> dict:
    result = run("row", *find, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def state(*find: str) -> list[str]:
    return [fate["state"] for fate in told(*find)["fates"]]


def test_every_record_of_an_object_has_one_fate(world):
    first, second = objects()
    fates = {n: told(f"{first}#{n}")["fates"][0] for n in range(1, 6)}
    assert [fates[n]["state"] for n in range(1, 6)] == [
        "accepted",
        "quarantined",
        "quarantined",
        "duplicate",
        "quarantined",
    ]
    assert fates[2]["rule_id"] == "venue.trial_meter.amount.range"
    assert fates[2]["reason"] == "读数不在 0–50"
    assert fates[4]["other"] == {"batch_id": ledger.batches(RESOURCE)[0]["batch_id"], "object": first, "record_no": 1}
    assert fates[5]["rule_id"].endswith(".dedup.conflict")
    assert fates[5]["other"]["record_no"] == 1
    assert told(f"{second[:10]}#3")["fates"][0]["other"]["object"] == first, "a duplicate of an earlier batch"
    assert state(f"{first}#99") == ["absent"]
    whole = told(first)["fates"][0]
    assert whole["counts"] == {"收到": 5, "入库": 1, "隔离": 3, "重复": 1}
    assert whole["object_name"] == "a.csv"
    assert not whole["visible"]
    ledger.set_checked_version(TABLE, tables.version(TABLE), "test")
    assert told(f"{first}#1")["fates"][0]["visible"]
    assert not told(f"{first}#2")["fates"][0]["visible"]


def test_rows_are_found_by_what_they_say_stored_or_not(world):
    found = told(RESOURCE, "meter_id=M-2")
    assert found["found"] == 3
    assert sorted(fate["state"] for fate in found["fates"]) == ["accepted", "duplicate", "quarantined"]
    assert state(RESOURCE, "meter_id=M-1", "amount=6") == ["quarantined"]
    assert state(RESOURCE, "state=idle") == ["quarantined"]
    assert found["searched"]["decoded_objects"] == 2
    nothing = run("row", RESOURCE, "meter_id=M-7", "--json")
    assert nothing.exit_code == 1
    searched = json.loads(nothing.stdout)["searched"]
    assert (searched["batches"], searched["objects"], searched["decoded_records"], searched["table_rows"]) == (
        2,
        2,
        8,
        2,
    )
    shown = run("row", RESOURCE, "meter_id=M-7")
    assert "从未收到这一行" in shown.output
    assert "M-7" not in shown.output
    assert "隔离" in run("row", RESOURCE, "state=idle").output


@pytest.mark.parametrize(
    ("words", "code"),
    [(["what"], "TIYU-ROW-0001"), ([RESOURCE], "TIYU-ROW-0001"), (["no.such", "a=1"], "TIYU-ROW-0001"), ([RESOURCE, "colour=1"], "TIYU-ROW-0002")],
)  # fmt: skip
def test_what_cannot_be_understood_is_said(world, words, code):
    result = run("row", *words)
    assert isinstance(result.exception, TiyuError)
    assert (result.exception.code, result.exception.exit_code) == (code, 2)


def test_only_who_runs_the_platform_may_ask(world):
    for role in ("analyst", "catalogue_editor", "auditor"):
        result = run("row", objects()[0], "--as-role", role)
        assert result.exception.code == "TIYU-POL-0009"


def test_an_object_nobody_ever_sent_is_not_found(world):
    result = run("row", "f" * 64, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["searched"]["objects"] == 2


def test_what_a_replay_decides_is_part_of_the_fate(world):
    first, second = objects()
    world.use(frozenset({"range"}))
    report = replay(RESOURCE)
    assert (report.accepted, report.gave_way) == (1, 2), (
        "the row that came first takes its place, the later one gives way"
    )
    assert report.rejudged == 0
    fate = told(f"{first}#2")["fates"][0]
    assert (fate["state"], fate["decisions"][0]["outcome"]) == ("accepted", "accepted")
    late = told(f"{second}#1")["fates"][0]
    assert (late["state"], late["other"]["object"]) == ("quarantined", first)
    assert late["rule_id"].endswith(".dedup.conflict")
    assert state(f"{second}#2") == ["quarantined"], "what was its duplicate contradicts as well"
    assert reconcile(RESOURCE).ok, reconcile(RESOURCE).problems
    withdraw(RESOURCE, [ledger.batches(RESOURCE)[0]["batch_id"]], "来源通知数据有误")
    assert state(f"{first}#1") == ["quarantined"]
    assert "来源通知" in told(f"{first}#1")["fates"][0]["reason"]
    assert reconcile(RESOURCE).ok, reconcile(RESOURCE).problems


@pytest.mark.parametrize(
    ("step", "after"),
    [("_decide", True), ("_erase", False), ("_erase", True)],
    ids=["decided", "quarantined", "deleted"],
)
def test_giving_way_that_is_interrupted_is_finished_by_the_next_replay(world, monkeypatch, step, after):
    from ingestion import precedence

    world.use(frozenset({"range"}))
    real = getattr(precedence, step)

    def dying(*arguments, **options):
        if after:
            real(*arguments, **options)
        raise KeyboardInterrupt(step)

    with monkeypatch.context() as patch:
        patch.setattr(precedence, step, dying)
        with pytest.raises(KeyboardInterrupt):
            replay(RESOURCE)
    replay(RESOURCE)
    first, second = objects()
    assert state(f"{first}#2") == ["accepted"]
    assert state(f"{second}#1") == state(f"{second}#2") == ["quarantined"]
    assert reconcile(RESOURCE).ok, reconcile(RESOURCE).problems
    heads = tables.version(TABLE)
    replay(RESOURCE)
    assert tables.version(TABLE) == heads


def test_an_erased_record_says_on_what_ground(world):
    first = objects()[0]
    ledger.insert_many(
        ledger.tombstone,
        [{"tombstone_id": "t1", "resource": RESOURCE, "sha256": first, "record_from": 2, "record_to": 3, "reason": "个人信息保护法 第47条", "erased_at": utc_now()}],
    )  # fmt: skip
    assert [state(f"{first}#{n}") for n in (1, 2, 3, 4)] == [["accepted"], ["erased"], ["erased"], ["duplicate"]]
    assert told(f"{first}#2")["fates"][0]["reason"] == "个人信息保护法 第47条"


def test_refused_records_are_shown_one_by_one_with_what_to_do(world):
    (one,) = show(Filter(RESOURCE, rule="venue.trial_meter.amount.range"))
    assert one.record_no == 2
    assert "quarantine replay" in one.remedy
    shown = run("quarantine", "show", RESOURCE, "--object", objects()[0][:12], "--record", "2")
    assert "读数不在 0–50" in shown.output
    assert "第 2 条" in shown.output
    assert len(json.loads(run("quarantine", "show", RESOURCE, "--json").stdout)["records"]) == 3
    result = run("quarantine", "show", RESOURCE, "--record", "99")
    assert result.exception.code == "TIYU-ING-0017"
    listed = json.loads(
        run("quarantine", "list", RESOURCE, "--rule", "venue.trial_meter.amount.range", "--json").stdout
    )
    assert listed["records"] == 1
    texts = {remedy(RESOURCE, "b", rule, "partial", "o#1") for rule in ("QG-01", "a.dedup.conflict", "TIYU-ARC-0002", "TIYU-ING-0210", "decode.csv", "a.b.reference", "a.b.type", "a.b")}  # fmt: skip
    assert len(texts) == 8


def test_discarded_records_are_counted_not_replayed_and_can_be_taken_back(world):
    first = objects()[0]
    done = json.loads(
        run(
            "quarantine", "discard", RESOURCE, "--object", first, "--record", "2", "--reason", "来源确认作废", "--json"
        ).stdout
    )
    assert done["records"] == 1
    fate = told(f"{first}#2")["fates"][0]
    assert fate["state"] == "discarded"
    assert "来源确认作废" in fate["reason"]
    assert [item.records for item in discards(RESOURCE)] == [1]
    assert "来源确认作废" in run("quarantine", "list", "--discarded").output
    assert sum(group.records for group in refused(RESOURCE)[0]) == 2
    report = reconcile(RESOURCE)
    assert report.ok, report.problems
    (total,) = report.resources
    assert (total.decoded, total.accepted, total.quarantined, total.discarded, total.duplicate) == (8, 2, 2, 1, 3)
    assert (total.objects_received, total.objects_partial, total.objects_accepted) == (2, 1, 1)
    assert "放弃" in run("reconcile", RESOURCE).output
    world.use(frozenset({"range"}))
    assert (replay(RESOURCE).accepted, replay(RESOURCE).now_unfit) == (0, 0)
    take_back(done["decision"])
    assert reconcile(RESOURCE).ok
    assert replay(RESOURCE).accepted == 1
    with pytest.raises(TiyuError, match="TIYU-ING-0019"):
        take_back(done["decision"])
    for only, reason in ((Filter(RESOURCE), "x"), (Filter(), "x"), (Filter(RESOURCE, record_no=2), " ")):
        with pytest.raises(TiyuError, match="TIYU-ING-0018"):
            discard(only, reason, "wang")


def test_a_planted_imbalance_of_the_decisions_is_found(world):
    first, batch = objects()[0], ledger.batches(RESOURCE)[0]["batch_id"]
    discard(Filter(RESOURCE, sha256=first, record_no=2), "作废", "wang")
    with ledger.transaction() as connection:
        connection.execute(
            sa.update(ledger.batch).where(ledger.batch.c.batch_id == batch).values(quarantined_count=2, decoded_count=4)
        )
    report = reconcile(RESOURCE)
    assert not report.ok
    assert any("已放弃 1 条" in problem for problem in report.problems)
    assert report.resources[0].problems > 0
    assert run("reconcile").exit_code == 1


def test_a_stricter_rule_is_not_applied_by_a_replay_but_said(world):
    world.use(frozenset({"range"}))
    replay(RESOURCE)
    world.use(frozenset())
    report = replay(RESOURCE)
    assert (report.accepted, report.now_unfit) == (0, 1)
    assert "tiyu reread" in run("quarantine", "replay", RESOURCE).output


def test_a_record_refused_for_another_reason_now_says_so(world):
    first = objects()[0]
    ledger_rows = ledger.batches(RESOURCE)
    world.use(frozenset({"range"}))
    world.take_in(Batch({"c.csv": [line(meter_id="M-3", amount="70", state="gone")]}), 2)
    world.use(frozenset())
    world.take_in(Batch({"d.csv": [line(meter_id="M-3", amount="71", state="gone")]}), 3)
    fourth = objects()[3]
    assert told(f"{fourth}#1")["fates"][0]["rule_id"].endswith("amount.range")
    world.use(frozenset({"range"}))
    assert replay(RESOURCE).rejudged == 1
    fate = told(f"{fourth}#1")["fates"][0]
    assert fate["rule_id"].endswith("state.known")
    assert fate["decisions"][0]["outcome"] == "rejudged"
    assert len(ledger_rows) == 2
    assert first
    assert reconcile(RESOURCE).ok


def fates_of(*columns: str) -> list[dict]:
    return told(METER, *columns)["fates"]


def test_a_replaced_row_names_its_successor_also_when_it_left_the_table(declare, deliver):
    declare(dedup={"key": ["meter_id"], "onChanged": "newest", "by": "changed_at"})
    deliver("a.csv", row(amount="2", changed_at="2026-11-19 12:00:00"))
    deliver("b.csv", row(amount="3", changed_at="2026-11-19 20:00:00"))
    deliver("c.csv", row(amount="1", changed_at="2026-11-19 08:00:00"))
    first, second, third = [ledger.objects(batch["batch_id"])[0]["sha256"] for batch in ledger.batches(METER)]
    by_amount = {amount: fates_of("meter_id=M1", f"amount={amount}") for amount in (1, 2, 3)}
    assert [[fate["state"] for fate in by_amount[amount]] for amount in (1, 2, 3)] == [
        ["replaced"],
        ["replaced"],
        ["accepted"],
    ]
    assert by_amount[2][0]["object"] == first
    assert by_amount[2][0]["other"]["object"] == by_amount[1][0]["other"]["object"] == second
    assert by_amount[1][0]["object"] == third
    withdraw(METER, [ledger.batches(METER)[1]["batch_id"]], "来源通知数据有误")
    assert state(f"{first}#1") == ["accepted"], "what it had replaced came back"
    assert state(f"{second}#1") == ["quarantined"]
    books()


def test_a_row_that_its_source_deleted_says_so(declare, deliver):
    declare(
        dedup={"key": ["meter_id"], "onChanged": "newest", "by": "changed_at"},
        deletes={"by": "column", "column": "is_gone"},
    )
    deliver("a.csv", row(amount="2", changed_at="2026-11-19 12:00:00", is_gone="false"))
    assert fates_of("meter_id=M1")[0]["reason"] is None
    deliver("b.csv", row(amount="2", changed_at="2026-11-19 20:00:00", is_gone="true"))
    last = ledger.batches(METER)[1]
    fate = told(f"{ledger.objects(last['batch_id'])[0]['sha256']}#1")["fates"][0]
    assert fate["state"] == "accepted"
    assert "已删除" in fate["reason"]
    assert last["batch_id"] in fate["reason"]


def test_a_held_batch_is_told_with_the_rule_that_holds_it_and_with_its_release(declare, deliver):
    declare(batch={"rules": [{"kind": "rows", "min": 2, "messageZh": "一天不到两条"}]})
    held = deliver("a.csv", row()).batches[0].batch_id
    sha = ledger.objects(held)[0]["sha256"]
    fate = told(f"{sha}#1")["fates"][0]
    assert (fate["state"], fate["batch_status"]) == ("quarantined", "held")
    assert "一天不到两条" in fate["reason"]
    assert "整批扣下" in fate["findings"][0]
    assert "--batch" in show(Filter(METER))[0].remedy
    replay(METER, [held])
    fate = told(f"{sha}#1")["fates"][0]
    assert fate["state"] == "accepted"
    assert "已放行" in fate["findings"][0]
    assert "曾扣下，已放行" in run("row", f"{sha}#1").output
    books()


def test_a_discarded_record_of_a_held_batch_stays_out_when_the_batch_is_let_in(declare, deliver):
    declare(batch={"rules": [{"kind": "rows", "min": 3, "messageZh": "一天不到三条"}]})
    held = deliver("a.csv", row(), row("M2")).batches[0].batch_id
    sha = ledger.objects(held)[0]["sha256"]
    discard(Filter(METER, sha256=sha, record_no=1), "来源确认作废", "wang")
    books()
    assert replay(METER, [held]).accepted == 1
    assert [state(f"{sha}#{n}")[0] for n in (1, 2)] == ["discarded", "accepted"]
    books()


ID_NO, NEVER = "990101199003071237", "990101199003071253"  # 990101 is no region; the check characters are right
HOME = "fitness.elder_home"


@pytest.fixture
def served(home, tmp_path):
    """Three services of one person: stored, refused for its duration, the stored one once more."""
    keys.ensure()
    columns = [p.source_name for p in contracts.load(HOME).root.properties]
    good = [
        "S1",
        "甲之家",
        "310101",
        "resident_id",
        ID_NO,
        "2026-11-10 09:00:00",
        "check",
        "40",
        "130",
        "80",
        "low",
        "是",
    ]
    long = [*good[:7], "4000", *good[8:]]
    drop = tmp_path / "drop"
    drop.mkdir()
    lines = [",".join(line) for line in (columns, good, ["S2", *long[1:]], good)]
    (drop / "长者服务_20261116.csv").write_text("\n".join(lines) + "\n", "utf-8")
    report = ingest(HOME, drop)
    assert (report.accepted, report.quarantined, report.duplicate) == (1, 1, 1), report
    return ledger.batches(HOME)[0]["batch_id"]


def test_a_person_is_found_by_number_or_token_and_no_value_is_shown_or_noted(served):
    typed = CliRunner().invoke(main.build_app(), ["row", "-", "--json"], input=f"{ID_NO}\n")
    assert typed.exit_code == 0, typed.output
    assert sorted(fate["state"] for fate in json.loads(typed.stdout)["fates"]) == [
        "accepted",
        "duplicate",
        "quarantined",
    ]
    token = tokens.token("id_no", ID_NO)
    assert state(token) == state(ID_NO) == state(HOME, f"person_token={ID_NO}")
    shown = run("row", ID_NO)
    assert "重复" in shown.output
    for text in (typed.output, shown.output):
        assert ID_NO not in text
        assert str(token) not in text
    books_of_the_platform = list(settings().home.glob("*.db*"))
    assert books_of_the_platform
    assert not any(ID_NO.encode() in file.read_bytes() for file in books_of_the_platform)
    nobody = run("row", NEVER)
    assert nobody.exit_code == 1
    assert "从未收到这一行" in nobody.output
    assert NEVER not in nobody.output
