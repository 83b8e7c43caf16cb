"""The exchange in both directions with the mock center: nothing is lost, nothing applied twice, whatever goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import date, datetime, timedelta
from pathlib import Path

import jsonschema
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from catalog.policy import Facet
from cli import exchange as cli_exchange
from lake import ledger, properties, query
from lake.errors import TiyuError
from sharing import files, outputs
from sharing.exchange import config, receipts, run
from simulation.center.__main__ import main as center_main
from simulation.center.checks import check, mask, sm3, uscc_valid
from simulation.center.state import State
from tests.unit.exchange import synthetic
from tests.unit.exchange.synthetic import REGISTER, REGISTER_SPEC, WATER, WATER_SPEC

OPEN = Facet("L1", "N", None)


pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]
WATER_CODE = WATER_SPEC.resource_code
FIRST = date(2026, 11, 18)
LIMIT = [{"resource_code": WATER_CODE, "column": "value", "min": 0, "max": 14}]


def water(days: int, **changed: float) -> pl.DataFrame:
    """Readings of ``days`` days; ``changed``: ``d1119_02=8.5`` gives reading 2 of that day another value."""
    frame = synthetic.water_frame(days=days)
    for name, value in changed.items():
        end = f"2026{name[1:5]}{name[6:]}"
        frame = frame.with_columns(
            pl.when(pl.col("reading_id").str.ends_with(end)).then(value).otherwise(pl.col("value")).alias("value")
        )
    return frame


def without(frame: pl.DataFrame, *ends: str) -> pl.DataFrame:
    """The frame without the readings whose id ends so."""
    return frame.filter(~pl.any_horizontal([pl.lit(False), *(pl.col("reading_id").str.ends_with(e) for e in ends)]))


class World:
    """One installation and one center."""

    def __init__(self, home: Path, folder: Path, monkeypatch):
        self.home, self.folder, self.patch = home, folder, monkeypatch
        self.outbox, self.inbox, self.state = home / "exchange" / "outbox", receipts.inbox(), folder / "center"
        self.hour = 0

    def day(self, today: str) -> None:
        """Move the business clock to noon of a day."""
        self.today = today
        self.patch.setenv("TIYU_TODAY", today)

    def send(self, **options) -> run.ExchangeReport:
        return run.run_exchange(**options)

    def center(self, mode: str = "normal", *, rules: list | None = None) -> int:
        """One pass of the center; every pass is a second later on its clock."""
        self.hour += 1
        at = datetime.fromisoformat(f"{self.today}T12:00:00+08:00") + timedelta(seconds=self.hour)
        arguments = ["--outbox", self.outbox, "--inbox", self.inbox, "--state", self.state, "--once", "--mode", mode]
        if rules is not None:
            path = self.folder / "rules.json"
            path.write_text(json.dumps(rules))
            arguments += ["--rules", path]
        return center_main([str(a) for a in [*arguments, "--now", at.isoformat()]])

    def answers(self, resource: str = "supervision.water_reading") -> list[str]:
        return [a.state for a in receipts.answers(resource)]

    def alerts(self, rule: str) -> list[str]:
        return [a["subject_id"] for a in ledger.alerts("open") if a["rule_code"] == rule]

    def table(self, spec) -> dict[str, dict]:
        state = State(self.state)
        try:
            return state.table(spec.resource_code)
        finally:
            state.close()

    def assert_equal(self) -> None:
        """Row for row and value for value: what the center holds is what our checked tables say up to yesterday."""
        for spec in (REGISTER_SPEC, WATER_SPEC):
            version = ledger.checked_version(spec.table)
            names = ", ".join(c.name for c in spec.columns)
            where = f" where part_date < date '{self.today}'" if spec is WATER_SPEC else ""
            with query.connect() as con:
                found = con.execute(f"select {names} from {query.scan_sql(spec.table, version)}{where}").fetchall()
            ours = {"|".join(str(r[[c.name for c in spec.columns].index(k)]) for k in spec.key): r for r in found}
            theirs = {
                key: tuple(typed(row[c.name], c.type) for c in spec.columns) for key, row in self.table(spec).items()
            }
            assert len(ours) == len(found) > 0
            assert theirs == {k: tuple(plain(v) for v in r) for k, r in ours.items()}
        self.assert_nothing_twice()

    def assert_nothing_twice(self) -> None:
        """Every accepted batch is in the journal with every row, once (the primary key), and no other batch is."""
        state = State(self.state)
        try:
            applied = state.applied_rows()
            said = {b: json.loads(r) for b, r, _ in state.all_answers()}
            assert {b: r["rows_ok"] for b, r in said.items() if r["rows_ok"]} == applied
        finally:
            state.close()


def typed(text: str | None, kind: str):
    if text is None:
        return None
    return {
        "DOUBLE": float,
        "BIGINT": int,
        "DATE": date.fromisoformat,
        "TIMESTAMPTZ": datetime.fromisoformat,
        "BOOLEAN": lambda t: t == "true",
    }.get(kind, str)(text)


def plain(value):
    return value.replace("\n", " ") if isinstance(value, str) else value


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("TIYU_HOME", str(tmp_path / "var"))
    for name in (
        "LAKE_ROOT", "TIYU_LEDGER_URL", "TIYU_AS_OF", "TIYU_EXCHANGE_USCC", "TIYU_EXCHANGE_RECEIPT_KEY", "CENTER_RECEIPT_KEY",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    specs = {spec.table: spec for spec in (REGISTER_SPEC, WATER_SPEC)}
    monkeypatch.setattr(config, "load", lambda: sorted(specs.values(), key=lambda spec: spec.resource))
    monkeypatch.setattr(outputs, "described", lambda table: {c.name: OPEN for c in specs[table].columns})
    made = World(tmp_path / "var", tmp_path, monkeypatch)
    made.day("2026-11-20")
    properties.set("is_demo", "true")
    synthetic.put(REGISTER, synthetic.register_frame())
    synthetic.put(WATER, water(2))
    return made


def receipt_of(world: World, batch: str) -> Path:
    return world.inbox / f"307310005-0001_{batch}.receipt.json"


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}, ensure_ascii=False), "utf-8")


def put_reject(path: Path, text: str) -> None:
    """Another reject file, whose SM3 the receipt names."""
    reject = path.with_name(path.name.replace("receipt.json", "reject.csv"))
    reject.write_text(text)
    edit(path, reject_file_sm3=files.sm3_bytes(reject.read_bytes()))


# --- the answers --------------------------------------------------------------------------------------------------


def test_accepted_and_the_next_increment_builds_on_it(world):
    world.send()
    assert world.answers() == ["pending"]
    assert world.center() == 0
    schema = json.loads(receipts.schema_path().read_text("utf-8"))
    written = sorted(world.inbox.glob("*.receipt.json"))
    assert len(written) == 2
    for path in written:
        jsonschema.validate(json.loads(path.read_text("utf-8")), schema)
    report = receipts.receive()
    assert [r.outcome for r in report.receipts] == ["recorded"] * 2
    assert report.ok
    assert world.answers() == ["accepted"]
    again = receipts.receive()
    assert [r.outcome for r in again.receipts] == ["known"] * 2
    assert len(ledger.receipts()) == 2
    before = {p: p.stat().st_mtime_ns for p in world.inbox.iterdir()}
    world.center()
    assert {p: p.stat().st_mtime_ns for p in world.inbox.iterdir()} == before, "an answered batch is not answered again"
    world.day("2026-11-21")
    synthetic.put(WATER, water(3))
    assert world.send().deliveries[0].row_count == 4
    world.center()
    receipts.receive()
    world.assert_equal()


def test_a_whole_batch_rejected_opens_an_alert_and_the_resend_is_the_next_sequence(world):
    world.send()
    world.center("reject-all")
    report = receipts.receive()
    assert not report.ok
    assert world.answers() == ["rejected"]
    assert world.alerts("EC-01") == ["307310001-0001_20261119_0001", "307310005-0001_20261119_0001"]
    alert = next(a for a in ledger.alerts("open") if "0005" in a["subject_id"])
    assert "EX-18" in alert["message"]
    assert "全部拒收" in alert["message"]
    assert world.table(WATER_SPEC) == {}
    assert world.send().written == 0, "without being asked nothing is sent again"
    mended = world.send(resend=True)
    assert {d.batch_id.rsplit("_", 1)[1] for d in mended.deliveries} == {"0002"}
    assert world.alerts("EC-01") == []
    assert world.answers() == ["rejected", "pending"]
    world.center()
    assert receipts.receive().ok
    assert world.answers() == ["superseded", "accepted"]
    world.assert_equal()


def test_what_the_receiver_says_of_persons_is_written_down_nowhere(world):
    """Names of files in the inbox and free texts of a receipt are the receiver's: they may hold anything."""
    phone, id_no, name = "19909912683", "990199199003079268", "阚黄鸟"
    world.send()
    world.center("reject-all")
    (answer, *_) = sorted(world.inbox.glob("*.receipt.json"))
    errors = json.loads(answer.read_text("utf-8"))["errors"]
    edit(answer, errors=[{**errors[0], "message": f"手机 {phone} 证件 {id_no} 重复"}, *errors[1:]])
    (world.inbox / f"{name}{phone}.receipt.json").write_text("{}")
    (world.inbox / f"{id_no}-{name}.txt").write_text("x")
    report = receipts.receive()
    assert report.unread == ["9901**********9268-….txt"]
    assert [r.name for r in report.receipts if r.outcome == "refused"] == ["…199****2683.receipt.json"]
    assert receipts.refused() == world.alerts("EC-02") == ["…199****2683.receipt.json"]
    assert any("199****2683" in str(r.reasons) for r in report.receipts)
    again = receipts.receive()
    assert "known" in {r.outcome for r in again.receipts}
    kept = [report.as_dict(), again.as_dict(), ledger.receipts(), ledger.alerts()]
    for value in (phone, id_no, name):
        assert value not in json.dumps(kept, ensure_ascii=False, default=str)
    next(world.inbox.glob(f"{name}*")).unlink()
    receipts.receive()
    assert world.alerts("EC-02") == [], "the alert is closed by the name it was opened under"


def test_what_was_turned_down_is_sent_again_once_without_a_person(world):
    world.send()
    world.center("reject-all")
    mended = run.mend_refused()
    assert {d.batch_id.rsplit("_", 1)[1] for d in mended.deliveries} == {"0002"}
    assert mended.written == 2
    assert run.mend_refused().deliveries == [], "not answered yet: nothing to mend"
    world.center("reject-all")
    assert run.mend_refused().deliveries == [], "turned down twice: that is for a person"
    assert world.alerts("EC-01") == ["307310001-0001_20261119_0002", "307310005-0001_20261119_0002"]
    assert world.answers() == ["rejected", "rejected"]
    assert {d.sequence for d in run.status() if d.sent_at} == {2}
    world.send(resend=True)
    world.center()
    receipts.receive()
    assert world.answers() == ["superseded", "superseded", "accepted"]
    world.assert_equal()


def test_an_accepted_or_superseded_delivery_is_never_mended(world):
    world.send()
    world.center("reject-all")
    receipts.receive()
    world.day("2026-11-21")
    synthetic.put(WATER, water(3))
    world.send()
    world.center()
    assert run.mend_refused().deliveries == [], "the next day's batch contains what was refused"
    world.assert_equal()


@pytest.mark.parametrize(
    ("why", "status", "code"),
    [("damaged", "REJECTED", "EX-07"), ("rows", "PARTIAL", "EX-18"), ("catalogue", "REJECTED", "EX-18")],
)
def test_in_a_city_the_center_turns_the_first_increment_of_the_day_down_as_planned(world, why, status, code):
    city = world.folder / "city"
    city.mkdir()
    state = {"as_of": "2026-11-20T12:00:00+08:00", "incidents": {"refusal": why}}
    (city / "today.json").write_text(json.dumps(state))
    frame = water(2)
    column = frame["reading_id"]
    high = frame.with_columns(pl.when(column == column[0]).then(720.0).otherwise(pl.col("value")).alias("value"))
    synthetic.put(WATER, high)

    def answer() -> None:
        center_main(
            [
                "--outbox",
                str(world.outbox),
                "--inbox",
                str(world.inbox),
                "--state",
                str(world.state),
                "--once",
                "--world",
                str(city),
            ]
        )

    world.send()
    untouched = {p: p.read_bytes() for p in world.outbox.rglob("*") if p.is_file()}
    answer()
    assert {p: p.read_bytes() for p in world.outbox.rglob("*") if p.is_file()} == untouched, "the outbox is only read"
    first = json.loads((world.inbox / "307310005-0001_20261119_0001.receipt.json").read_text("utf-8"))
    assert (first["status"], [e["code"] for e in first["errors"]]) == (status, [code])
    assert first["received_at"].startswith("2026-11-20T12:00:")
    if why == "rows":
        reject = (world.inbox / first["reject_file"]).read_text("utf-8").splitlines()
        assert reject[0] == "row_no,rule_id,masked_value"
        assert [line.split(",")[1:] for line in reject[1:]] == [["EX-18", "7***"]]
    assert (
        json.loads((world.inbox / "307310001-0001_20261119_0001.receipt.json").read_text("utf-8"))["status"]
        == "ACCEPTED"
    )
    assert [d.batch_id for d in run.mend_refused().deliveries] == ["307310005-0001_20261119_0002"]
    answer()
    receipts.receive()
    assert world.answers() == ["superseded", "accepted"]
    world.assert_equal()


def test_some_rows_rejected_mended_and_resent(world):
    world.send()
    world.center()
    world.day("2026-11-21")
    synthetic.put(WATER, water(3, d1120_01=99.0, d1120_03=77.7))
    world.send()
    world.center(rules=LIMIT)
    report = receipts.receive()
    assert not report.ok
    assert world.answers() == ["accepted", "partial"]
    reject = (world.inbox / "307310005-0001_20261120_0001.reject.csv").read_text("utf-8").splitlines()
    assert reject == ["row_no,rule_id,masked_value", "2,EX-18,9***", "4,EX-18,7***"]
    alert = next(a for a in ledger.alerts("open") if a["rule_code"] == "EC-01")
    assert json.loads(alert["evidence"])["next"] == "tiyu exchange run --resend supervision.water_reading 2026-11-20"
    assert len(world.table(WATER_SPEC)) == 10
    synthetic.put(WATER, water(3))
    app = typer.Typer()
    cli_exchange.register(app)
    done = CliRunner().invoke(app, ["exchange", "run", "--resend", "supervision.water_reading", "2026-11-20", "--json"])
    assert done.exit_code == 0, done.output
    (sent,) = json.loads(done.stdout)["deliveries"]
    assert sent["batch_id"] == "307310005-0001_20261120_0002"
    manifest = json.loads(next(Path(sent["path"]).glob("*.manifest.json")).read_text("utf-8"))
    assert manifest["base_batch_id"] == "307310005-0001_20261119_0001", "the last accepted one, not the last sent"
    world.center(rules=LIMIT)
    assert receipts.receive().ok
    assert world.alerts("EC-01") == []
    world.assert_equal()


def test_every_nth_row_rejected_in_a_full_batch(world):
    world.send()
    world.center("reject-rows:2")
    receipts.receive()
    assert len(world.table(REGISTER_SPEC)) == 3
    world.send(resend=True)
    world.center()
    receipts.receive()
    world.assert_equal()


# --- a center that is away, slow or set back ----------------------------------------------------------------------


def test_down_for_three_days(world):
    """Each increment waits in the outbox; rows that came and went, changed and changed back are right in the end."""
    world.send()
    world.center()
    receipts.receive()
    for number, frame in enumerate(
        (
            water(3, d1119_01=8.5),  # changed …
            without(water(4), "2026112002"),  # … and back; a reading of the day before gone again
            without(water(5, d1118_00=6.6), "2026112101"),
        )
    ):
        world.day(f"2026-11-{21 + number}")
        synthetic.put(WATER, frame)
        world.send()
        assert world.center("down") == 3
        receipts.receive()
    assert world.answers() == ["accepted", *["pending"] * 3]
    assert len(receipts.unacknowledged()) == 6
    rows = {
        json.loads(p.read_text("utf-8"))["base_batch_id"] for p in world.outbox.glob("2026-11-2*/*_I_*/*.manifest.json")
    }
    assert rows == {"307310005-0001_20261119_0001"}
    world.center()
    assert receipts.receive().ok
    assert world.answers() == ["accepted"] * 4
    world.assert_equal()


def test_applied_but_the_answer_was_lost(world):
    """The center holds an increment we believe unanswered: what it brought and we took back must still go."""
    world.send()
    world.center()
    receipts.receive()
    world.day("2026-11-21")
    synthetic.put(WATER, water(3, d1119_01=8.5))
    world.send()
    world.center()
    hidden = world.folder / "lost"
    hidden.mkdir()
    for path in world.inbox.glob("*20261120*"):
        shutil.move(path, hidden)
    world.day("2026-11-22")
    synthetic.put(WATER, without(water(4), "2026112001"))
    report = world.send()
    assert world.answers() == ["accepted", "pending", "pending"]
    sent = next(d for d in report.deliveries if d.resource == "supervision.water_reading")
    assert sent.delete_count == 1, "the reading the center got the day before and we no longer have"
    assert sent.update_count == 1, "the value that changed back"
    world.center()  # writes the lost answers again
    assert {p.name for p in hidden.iterdir()} <= {p.name for p in world.inbox.iterdir()}
    receipts.receive()
    assert world.answers() == ["accepted"] * 3
    world.assert_equal()


def wait_for_receipts(world: World, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(world.inbox.glob("*.receipt.json"))) < count and time.monotonic() < deadline:
        time.sleep(0.05)


def test_slow_center_answers_late(world):
    world.send()
    world.day("2026-11-21")
    synthetic.put(WATER, water(3))
    world.send()
    process = subprocess.Popen(
        [sys.executable, "-m", "simulation.center", "--outbox", world.outbox, "--inbox", world.inbox, "--state", world.state,
         "--mode", "slow:2", "--interval", "0.1", "--now", "2026-11-21T13:00:00+08:00"],
        cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for_receipts(world, 1)
        first = receipts.receive()
        assert 1 <= len(first.receipts) < 4, "some are answered, the others wait"
        assert len(receipts.unacknowledged()) >= 1
        wait_for_receipts(world, 4)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    receipts.receive()
    assert receipts.unacknowledged() == []
    world.assert_equal()


def test_an_answer_that_does_not_come_is_an_alert_until_it_comes(world):
    world.send()  # Friday 20 November
    world.day("2026-11-24")
    receipts.receive()
    assert world.answers() == ["pending"], "two working days: Monday, Tuesday"
    world.day("2026-11-25")
    receipts.receive()
    assert world.answers() == ["unanswered"]
    assert len(world.alerts("EC-03")) == 2
    world.center()
    receipts.receive()
    assert world.alerts("EC-03") == []


def fill_three_days(world: World) -> None:
    for number in range(3):
        world.day(f"2026-11-{20 + number}")
        synthetic.put(WATER, without(water(2 + number), "2026111801") if number == 2 else water(2 + number))
        world.send()
        world.center()
        receipts.receive()


def test_restored_from_yesterday_with_the_outbox_still_there(world):
    fill_three_days(world)
    world.day("2026-11-23")
    assert world.center("restored:2") == 0
    assert receipts.receive().ok, "the same answers again are no contradiction"
    assert world.answers() == ["accepted"] * 3
    assert world.alerts("EC-04") == []
    synthetic.put(WATER, water(5))
    world.send()
    world.center()
    receipts.receive()
    world.assert_equal()


def test_restored_from_yesterday_and_the_outbox_empty(world):
    """The center no longer holds the base of the next increment: it says what it holds, and that is the new base."""
    fill_three_days(world)
    shutil.rmtree(world.outbox)
    world.day("2026-11-23")
    synthetic.put(WATER, water(5))
    world.send()
    world.center("restored:1")
    report = receipts.receive()
    assert not report.ok
    answer = json.loads(receipt_of(world, "20261122_0001").read_text("utf-8"))
    assert answer["status"] == "REJECTED"
    assert answer["errors"][0]["code"] == "EX-16"
    assert answer["held_batch_id"] == "307310005-0001_20261120_0001"
    assert world.answers() == ["accepted", "accepted", "lost", "rejected"]
    assert world.alerts("EC-04") == ["supervision.water_reading"]
    mended = world.send(resend=True, resource="supervision.water_reading")
    manifest = json.loads(next(Path(mended.deliveries[0].path).glob("*.manifest.json")).read_text("utf-8"))
    assert manifest["base_batch_id"] == "307310005-0001_20261120_0001"
    world.center()
    assert receipts.receive().ok
    assert world.alerts("EC-04") == []
    assert world.alerts("EC-01") == []
    assert receipts.unacknowledged() == []
    world.assert_equal()


def test_a_center_that_lost_everything_gets_a_full_resync(world):
    fill_three_days(world)
    shutil.rmtree(world.outbox)
    shutil.rmtree(world.state)
    world.day("2026-11-23")
    synthetic.put(WATER, without(water(5), "2026112200"))
    world.send()
    world.center()
    receipts.receive()
    assert receipts.standing("supervision.water_reading").base is None
    sent = world.send(resend=True, resource="supervision.water_reading").deliveries[0]
    assert (sent.batch_id[-4:], sent.insert_count, sent.row_count) == ("0002", 19, 19)
    world.center()
    assert receipts.receive().ok
    world.assert_equal()


def test_a_lost_batch_is_sent_again_byte_for_byte(world):
    fill_three_days(world)
    folder = next(world.outbox.glob("2026-11-21/*_I_*"))
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    shutil.rmtree(folder)
    assert world.send(resend=True, resource="supervision.water_reading").deliveries[0].action == "resent"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    world.center("restored:1")
    assert receipts.receive().ok
    assert receipts.unacknowledged() == []


def test_a_full_resync_of_a_day_that_was_sent_is_its_next_batch_and_is_sent_once(world):
    world.send()
    world.center()
    receipts.receive()
    options = {"full_resync": True, "resource": "supervision.water_reading"}
    sent = world.send(**options).deliveries[0]
    assert (sent.batch_id[-4:], sent.action, sent.row_count) == ("0002", "sent", 8)
    assert world.send(**options).deliveries[0].action == "already_sent", "it waits for its answer"
    world.center()
    assert receipts.receive().ok
    assert world.send(**options).deliveries[0].batch_id[-4:] == "0003"
    assert world.send(full_resync=True, resource="venue.register").deliveries[0].action == "already_sent"
    world.center()
    receipts.receive()
    world.assert_equal()


def test_outstanding_states_survive_a_byte_for_byte_resend(world):
    world.send()
    world.center()
    receipts.receive()
    for number in (1, 2):
        world.day(f"2026-11-{20 + number}")
        synthetic.put(WATER, without(water(2 + number), *["2026112001"][: number - 1]))
        world.send()
    folder = next(world.outbox.glob("2026-11-21/*_I_*"))
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    shutil.rmtree(folder)
    world.send(resend=True, resource="supervision.water_reading")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


# --- receipts that are not believed -------------------------------------------------------------------------------


TAMPERED = {
    "not_json": ("TIYU-EXC-0017", lambda p: p.write_text("{")),
    "extra_field": ("TIYU-EXC-0017", lambda p: edit(p, extra=1)),
    "impossible_time": ("TIYU-EXC-0017", lambda p: edit(p, received_at="2026-13-45T99:00:00+08:00")),
    "other_name": ("TIYU-EXC-0017", lambda p: edit(p, batch_id="307310005-0001_20261118_0001")),
    "accepted_with_bad_rows": ("TIYU-EXC-0017", lambda p: edit(p, status="ACCEPTED")),
    "partial_without_file": ("TIYU-EXC-0017", lambda p: edit(p, reject_file=None, reject_file_sm3=None)),
    "row_count": ("TIYU-EXC-0020", lambda p: edit(p, rows_in=9, rows_ok=7)),
    "sum": ("TIYU-EXC-0020", lambda p: edit(p, rows_bad=1)),
    "holds_what_it_refused": ("TIYU-EXC-0020", lambda p: edit(p, held_batch_id="307310005-0001_20261119_0001")),
    "other_resource_held": ("TIYU-EXC-0020", lambda p: edit(p, held_batch_id="307310001-0001_20261119_0001")),
    "unknown_code": ("TIYU-EXC-0020", lambda p: edit(p, errors=[{"code": "EX-99", "count": 2}])),
    "reject_file_gone": ("TIYU-EXC-0021", lambda p: p.with_name(p.name.replace("receipt.json", "reject.csv")).unlink()),
    "unmasked": ("TIYU-EXC-0021", lambda p: put_reject(p, "row_no,rule_id,masked_value\n4,EX-18,2026\n8,EX-18,9***\n")),
    "reject_file_path": ("TIYU-EXC-0021", lambda p: edit(p, reject_file="../../ledger.db")),
    "reject_file_changed": (
        "TIYU-EXC-0021",
        lambda p: p.with_name(p.name.replace("receipt.json", "reject.csv")).write_text("row_no\n"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_receipt_is_refused_and_the_delivery_stays_pending(world, how):
    world.send()
    world.center("reject-rows:4")
    path = receipt_of(world, "20261119_0001")
    good = path.read_bytes()
    code, damage = TAMPERED[how]
    damage(path)
    for _ in range(2):
        refused = [r for r in receipts.receive().receipts if r.outcome == "refused"]
        assert [(r.name, r.code) for r in refused] == [(path.name, code)]
        assert world.answers() == ["pending"]
    assert world.alerts("EC-02") == [path.name] == receipts.refused()
    path.write_bytes(good)
    world.center()  # the center puts its reject file back
    assert not [r for r in receipts.receive().receipts if r.outcome == "refused"]
    assert world.alerts("EC-02") == []
    assert world.answers() == ["partial"]


def test_what_is_wrong_with_a_receipt_is_said_in_words(world):
    world.send()
    world.center("reject-rows:4")
    path = receipt_of(world, "20261119_0001")
    good = path.read_bytes()
    for damage, said in (
        (lambda: path.write_text('{"status": "OK",\n'), "不是合法 JSON：第 2 行第 1 列"),
        (lambda: path.write_bytes(b"\xef\xbb\xbf" + good), "BOM"),
        (lambda: path.write_bytes(b'{"status": "\xff"}'), "不是 UTF-8"),
        (lambda: path.write_text("[]"), "应为对象"),
        (lambda: edit(path, status="OK"), "status：只能是 ACCEPTED、PARTIAL、REJECTED"),
        (lambda: edit(path, received_at="2026-11-20 13:00"), "received_at：格式不符（时刻，例如 2026-11-20T08:20:00+08:00）"),
        (lambda: edit(path, received_at="2026-11-26T13:00:00+08:00"), "received_at 比平台时刻 2026-11-20 12:00 晚一天以上"),
        (lambda: edit(path, rows_in=-1), "rows_in：不得小于 0"),
        (lambda: edit(path, rows_in="8"), "rows_in：应为整数"),
        (lambda: edit(path, errors=[]), "errors：至少 1 项"),
        (lambda: edit(path, **{"notes": 1, "张三 13800000000": 1}), "有规范以外的字段 notes、（名称略）"),
        (lambda: path.write_text(json.dumps({"status": "PARTIAL", **dict.fromkeys(("rows_ok", "rows_bad"), 1)})),
         "缺少字段 receipt_version、batch_id、rows_in、received_at、errors"),
    ):  # fmt: skip
        path.write_bytes(good)
        damage()
        (refused,) = [r for r in receipts.receive().receipts if r.outcome == "refused"]
        assert said in refused.message
        assert "13800000000" not in refused.message
    # withdrawn: nothing is refused any more, and the delivery still waits
    path.unlink()
    receipts.receive()
    assert (receipts.refused(), world.answers()) == ([], ["pending"])


def test_a_batch_turned_down_before_its_rows_were_read_is_not_ok(world):
    world.send()
    world.center()
    path = receipt_of(world, "20261119_0001")
    edit(path, status="REJECTED", rows_in=0, rows_ok=0, rows_bad=0, held_batch_id=None, errors=[{"code": "EX-07", "count": 1}])  # fmt: skip
    (path.with_name("note.txt")).write_text("?")
    (path.with_name("307310005-0001_20261119_0001.json")).write_bytes(path.read_bytes())
    found = receipts.receive()
    assert not found.ok
    assert found.unread == ["307310005-0001_20261119_0001.json", "note.txt"]
    assert receipts.receive().ok, "known by now"


def test_a_receipt_for_nothing_we_sent(world):
    world.send()
    world.center()
    path = receipt_of(world, "20261119_0001")
    path.rename(receipt_of(world, "20261119_0007"))
    edit(receipt_of(world, "20261119_0007"), batch_id="307310005-0001_20261119_0007", held_batch_id=None)
    assert [r.code for r in receipts.receive().receipts if r.outcome == "refused"] == ["TIYU-EXC-0019"]
    assert world.answers() == ["pending"]


def test_a_second_answer_that_contradicts_the_first_is_refused(world):
    world.send()
    world.center()
    receipts.receive()
    path = receipt_of(world, "20261119_0001")
    edit(path, status="REJECTED", rows_ok=0, rows_bad=8, held_batch_id=None, errors=[{"code": "EX-07", "count": 1}])
    refused = [r for r in receipts.receive().receipts if r.outcome == "refused"]
    assert [r.code for r in refused] == ["TIYU-EXC-0020"]
    assert world.answers() == ["accepted"]
    assert receipts.standing("supervision.water_reading").base is not None


def test_with_an_agreed_key_only_signed_receipts_count(world, monkeypatch):
    monkeypatch.setenv("TIYU_EXCHANGE_RECEIPT_KEY", "k1")
    world.send()
    world.center()
    assert {r.code for r in receipts.receive().receipts} == {"TIYU-EXC-0018"}
    shutil.rmtree(world.state)
    monkeypatch.setenv("CENTER_RECEIPT_KEY", "k1")
    world.center()
    assert receipts.receive().ok
    assert world.answers() == ["accepted"]
    path = receipt_of(world, "20261119_0001")
    edit(path, received_at="2026-11-20T23:00:00+08:00")
    assert [r.code for r in receipts.receive().receipts if r.outcome == "refused"] == ["TIYU-EXC-0018"]


def test_a_damaged_delivery_is_rejected_by_the_center_and_mended(world):
    world.send()
    packed = next(world.outbox.glob("*/*_I_*/*.csv.gz"))
    packed.write_bytes(packed.read_bytes()[:-3] + b"abc")
    world.center()
    receipts.receive()
    answer = json.loads(receipt_of(world, "20261119_0001").read_text("utf-8"))
    assert (answer["status"], answer["rows_in"], answer["errors"][0]["code"]) == ("REJECTED", 0, "EX-07")
    world.send(resend=True, resource="supervision.water_reading")
    world.center()
    receipts.receive()
    world.assert_equal()


# --- the center itself --------------------------------------------------------------------------------------------


def test_a_person_answers_in_the_centers_place(world):
    world.send()
    world.state.mkdir()
    (world.state / "by_hand").touch()
    world.center()
    assert not world.inbox.exists() or not list(world.inbox.iterdir()), "the program rests"
    world.inbox.mkdir(exist_ok=True)
    path = receipt_of(world, "20261119_0001")
    rejected = {
        "rows_in": 0,
        "rows_ok": 0,
        "rows_bad": 0,
        "errors": [{"code": "EX-07", "count": 1}],
        "held_batch_id": None,
    }
    said = {"receipt_version": "1.0", "batch_id": path.name.removesuffix(".receipt.json"), "status": "REJECTED", **rejected,
            "received_at": "2026-11-20T11:00:00+08:00"}  # fmt: skip
    path.write_text(json.dumps(said))
    written = path.read_bytes()
    assert not receipts.receive().ok
    assert world.answers() == ["rejected"]
    assert world.send(resend=True, resource="supervision.water_reading").deliveries[0].batch_id[-4:] == "0002"
    second = receipt_of(world, "20261119_0002")
    accepted = {"status": "ACCEPTED", "rows_in": 8, "rows_ok": 8, "rows_bad": 0, "errors": []}
    second.write_text(json.dumps({**said, "batch_id": second.name.removesuffix(".receipt.json"), "held_batch_id": second.name.removesuffix(".receipt.json"), **accepted}))  # fmt: skip
    (world.state / "by_hand").unlink()
    for _ in range(2):
        world.center()
        assert receipts.receive().ok
    assert path.read_bytes() == written, "what a person wrote stays"
    assert world.answers() == ["superseded", "accepted"]
    assert world.answers("venue.register") == ["accepted"], "the program answers the rest"
    world.day("2026-11-21")
    synthetic.put(WATER, water(3))
    world.send()
    world.center()
    assert receipts.receive().ok
    world.assert_equal()


def test_the_center_waits_for_ok_and_keeps_the_order(world):
    world.send()
    folder = next(world.outbox.glob("2026-11-19/*_I_*"))
    mark = next(folder.glob("*.ok"))
    mark.unlink()
    world.day("2026-11-21")
    synthetic.put(WATER, water(3))
    world.send()
    world.center()
    assert not list(world.inbox.glob("307310005*")), "the later batch waits for the earlier one"
    mark.touch()
    world.center()
    receipts.receive()
    world.assert_equal()


def test_the_same_batch_with_other_content_is_not_applied_again(world, capsys):
    world.send()
    world.center()
    before = world.table(WATER_SPEC)
    packed = next(world.outbox.glob("*/*_I_*/*.csv.gz"))
    packed.write_bytes(packed.read_bytes() + b"x")
    world.center()
    assert "忽略" in capsys.readouterr().err
    assert world.table(WATER_SPEC) == before


def test_a_center_killed_at_any_moment_answers_once(world):
    world.send()
    command = [sys.executable, "-m", "simulation.center", "--outbox", world.outbox, "--inbox", world.inbox, "--state", world.state,
               "--once", "--now", "2026-11-20T13:00:00+08:00"]  # fmt: skip
    for delay in (0.08, 0.12, 0.16, 0.2):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        time.sleep(delay)
        process.kill()
        process.wait(10)
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert receipts.receive().ok
    world.assert_equal()


def test_the_centers_own_checks_find_what_the_specification_names(world):
    from tests.unit.exchange.test_exchange import DAMAGE

    found: dict[str, set[str]] = {}
    for code, damage in DAMAGE.items():
        shutil.rmtree(world.home / "exchange", ignore_errors=True)
        for row in ledger.deliveries():
            with ledger.transaction() as connection:
                connection.execute(ledger.delivery.delete().where(ledger.delivery.c.delivery_id == row["delivery_id"]))
        world.send()
        folder = next(world.outbox.glob("*/*_I_*"))
        damage(folder)
        findings = check(folder, [])
        found[code] = set(findings.errors) | {bad.rule for bad in findings.bad}
    # Without .ok a folder is not read at all; a manifest is not validated against the schema but for what is used.
    assert {code for code, codes in found.items() if code not in codes} == set()


def test_the_center_needs_the_standard_library_only():
    code = "import sys, simulation.center.__main__ as m; print(*{n.split('.')[0] for n in sys.modules if n[0] != '_'})"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(loaded) - set(sys.stdlib_module_names) == {"simulation"}


def test_small_parts_of_the_center():
    assert sm3(b"abc") == files.sm3_bytes(b"abc")
    assert uscc_valid("11990000000000000D")
    assert not uscc_valid("119900000000000001")
    assert uscc_valid("91350100M000100Y43") == config.uscc_valid("91350100M000100Y43")
    assert [mask(v) for v in (None, "ab", "99.0", "某路一号")] == ["空", "***", "9***", "某***"]


def test_status_and_receive_on_the_command_line(world):
    app = typer.Typer()
    cli_exchange.register(app)

    def tiyu(*arguments: str):
        result = CliRunner().invoke(app, ["exchange", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit | TiyuError), result.exception
        return result

    world.send()
    assert json.loads(tiyu("status", "--json").stdout)["unacknowledged"] == [
        {"batch_id": "307310005-0001_20261119_0001", "answer": "pending"},
        {"batch_id": "307310001-0001_20261119_0001", "answer": "pending"},
    ]
    world.center("reject-rows:4")
    assert tiyu("receive").exit_code == 1
    known = tiyu("receive", "--json")
    assert known.exit_code == 0
    assert json.loads(known.stdout)["examined"] == 2
    shown = tiyu("status", "--json")
    assert shown.exit_code == 1, "turned down and not yet sent again"
    said = json.loads(shown.stdout)
    assert (said["sent"], said["accepted"], said["rejected"]) == (2, 0, 2)
    told = tiyu("status").stdout
    assert "部分接收：307310005-0001_20261119_0001（EX-18 见拒收文件 2 条）" in told
    assert "tiyu exchange run --resend supervision.water_reading 2026-11-19" in told
    assert "EX-18 见拒收文件 2 条" in tiyu("receive").stdout
    tiyu("run", "--resend")
    assert tiyu("status").exit_code == 0
    assert "等后者的回执：307310005-0001_20261119_0001" in tiyu("status").stdout
    path = receipt_of(world, "20261119_0002")
    path.write_text("{")
    assert tiyu("receive").exit_code == 1
    shown = tiyu("status")
    assert shown.exit_code == 1
    assert f"未采信的回执 1 份（tiyu exchange receive 说明原因）：{path.name}" in shown.stdout
    assert tiyu("verify", str(world.home / "exchange")).exit_code == 0, "the inbox beside the outbox is no delivery"
    (world.outbox / "2026-11-19" / "stray").mkdir()
    (world.outbox / "2026-11-19" / "stray" / "x.csv").write_text("")
    assert tiyu("verify", str(world.home / "exchange")).exit_code == 1
    shutil.rmtree(world.outbox / "2026-11-19" / "stray")
    world.center()
    assert tiyu("receive").exit_code == 0
    said = json.loads(tiyu("status", "--json").stdout)
    assert (said["accepted"], said["unacknowledged"]) == (2, [])
    assert os.environ["TIYU_TODAY"] == "2026-11-20"
