"""`tiyu stream` against a real broker: every message once in the lake, through kills, reconnects, repetitions and a full spool."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from broker import needs_broker, running
from city import ingest_and_trust

from ingestion import stream
from ingestion.spool import Spool
from lake import clock, ledger, tables
from lake.errors import TiyuError
from quality import ops, quarantine

pytestmark = [pytest.mark.integration, needs_broker]

RESOURCE, TABLE, CLIENT = "venue.flow_count", "ods_venue__flow_count", "tiyu-venue-flow-count"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def broker(tmp_path, sources, monkeypatch):
    ingest_and_trust("venue.register")
    folder = tmp_path / "broker"
    folder.mkdir()
    with running(folder) as item:
        monkeypatch.setenv("TIYU_CONN_FLOW_BROKER", item.uri)
        yield item


def known_venue() -> str:
    return str(pl.scan_delta(tables.path("ods_venue__register")).select("venue_id").first().collect().item())


def messages(first: int, count: int, **changed: object) -> list[tuple[str, bytes]]:
    """``count`` readings of one device, one a second, ending before the business instant."""
    base: datetime = clock.as_of() - timedelta(hours=2)
    place = known_venue()
    found = []
    for number in range(first, first + count):
        value = {
            "device_id": "FC-1",
            "venue_id": place,
            "counted_at": (base + timedelta(seconds=number)).isoformat(),
            "interval_s": 1,
            "in_count": number % 5,
            "out_count": number % 3,
            "inside_count": number,
        } | changed
        found.append((f"flow/{place}/FC-1", json.dumps(value).encode()))
    return found


class Running:
    """The stream in a thread of this process."""

    def __init__(self, **options: float):
        self.stop = threading.Event()
        self.result: list[stream.Taken] = []
        self.error: BaseException | None = None
        self.said: list[str] = []
        self.thread = threading.Thread(target=self._run, kwargs=options)

    def _run(self, **options: float) -> None:
        try:
            self.result = stream.run(
                [RESOURCE], commit_s=options.get("commit_s", 0.5), stop=self.stop, say=self.said.append
            )
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(timeout=60)
        assert not self.thread.is_alive()


def rows() -> int:
    return pl.scan_delta(tables.path(TABLE)).select(pl.len()).collect().item() if tables.exists(TABLE) else 0


def wait_for(condition, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def all_batches_balance() -> dict[str, int]:
    found = ledger.batches(RESOURCE)
    total = {
        name: sum(item[f"{name}_count"] for item in found)
        for name in ("decoded", "accepted", "quarantined", "duplicate")
    }
    assert total["decoded"] == total["accepted"] + total["quarantined"] + total["duplicate"]
    return total


def test_every_message_has_one_fate_and_passes_the_gate(broker):
    assert not [row for row in ops.freshness() if row["resource"] == RESOURCE], "a stream that never ran owes nothing"
    with Running() as running_stream:
        wait_for(lambda: Spool(CLIENT).noted().get("connected"))
        broker.publish(messages(0, 120))
        broker.publish(messages(0, 15))  # QoS 1 may deliver twice: the same content again
        broker.publish([*messages(200, 1, in_count=-4), (f"flow/{known_venue()}/FC-1", b'{"device_id": "FC-1", \xff')])
        wait_for(lambda: sum(item["decoded_count"] for item in ledger.batches(RESOURCE)) >= 137)
    assert running_stream.error is None
    total = all_batches_balance()
    assert total == {"decoded": 137, "accepted": 120, "quarantined": 2, "duplicate": 15}
    assert rows() == 120
    assert ledger.checked_version(TABLE) == tables.version(TABLE), "readers see it"
    reasons = pl.scan_delta(tables.path(quarantine.TABLE)).collect()
    assert {"venue.flow_count.in_count.range", "decode.bad_encoding"} <= set(reasons["rule_id"])
    assert [row["state"] for row in ops.freshness() if row["resource"] == RESOURCE] == ["fresh"]
    assert any("入库" in text for text in running_stream.said)
    # nothing plain: neither in the spool nor in what it leaves
    for path in Spool(CLIENT).folder.rglob("*"):
        assert b"FC-1" not in path.read_bytes(), path


def test_a_kill_between_spool_and_acknowledgement_loses_nothing(broker, tmp_path):
    """The process dies when the second segment is on the disk and its messages are not acknowledged."""
    program = tmp_path / "killed.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import os, signal
            from ingestion import spool, stream
            kept, count = spool.Spool.append, 0
            def append(self, lines):
                global count
                done = kept(self, lines)
                count += 1
                if count == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                return done
            spool.Spool.append = append
            stream.run(["{RESOURCE}"], commit_s=60)
            """
        )
    )
    with Running():  # the session is known to the broker from here on
        wait_for(lambda: Spool(CLIENT).noted().get("connected"))
    broker.publish(messages(0, 90))
    done = subprocess.run([sys.executable, str(program)], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    spooled = [line for item in Spool(CLIENT).segments() for line in Spool(CLIENT).read(item).splitlines()]
    assert 2 <= len(spooled) <= 40, "two segments wait, the second one was never acknowledged"
    with Running():
        wait_for(lambda: rows() >= 90)
    total = all_batches_balance()
    assert (total["accepted"], total["quarantined"]) == (90, 0)
    assert total["duplicate"] > 0, "what was spooled but not acknowledged came again"
    assert rows() == 90


def test_messages_sent_while_nobody_listens_and_across_a_restart_of_the_broker(broker):
    with Running():
        wait_for(lambda: Spool(CLIENT).noted().get("connected"))
    broker.publish(messages(0, 30))  # nobody listens
    with Running() as running_stream:
        wait_for(lambda: rows() == 30)
        broker.stop()
        broker.start()
        broker.publish(messages(30, 30))
        wait_for(lambda: rows() == 60)
    assert running_stream.error is None
    assert running_stream.result[0].connects >= 2
    assert all_batches_balance()["accepted"] == 60


def test_a_retained_message_that_comes_again_is_a_duplicate(broker):
    broker.publish(messages(0, 1), retain=True)
    with Running():
        wait_for(lambda: rows() == 1)
    with Running():  # every new subscription gets the retained message again
        broker.publish(messages(1, 1))
        wait_for(lambda: rows() == 2)
    total = all_batches_balance()
    assert total["accepted"] == 2
    assert rows() == 2


def test_a_full_spool_leaves_messages_with_the_broker(broker, monkeypatch):
    monkeypatch.setattr(stream, "MAX_SPOOL_BYTES", -1)
    with Running() as running_stream:
        wait_for(lambda: Spool(CLIENT).noted().get("problem") == "TIYU-STR-0002")
        broker.publish(messages(0, 10))
        time.sleep(1.0)
        assert not Spool(CLIENT).segments()
        monkeypatch.setattr(stream, "MAX_SPOOL_BYTES", 1 << 30)
        wait_for(lambda: rows() == 10)
    assert running_stream.error is None
    assert all_batches_balance()["accepted"] == 10


def test_one_process_a_subscription_and_a_refused_account(broker, monkeypatch):
    with Running() as first:
        wait_for(lambda: Spool(CLIENT).noted().get("connected"))
        with pytest.raises(TiyuError, match="TIYU-STR-0001"):
            stream.run([RESOURCE], stop=threading.Event())
        assert [row["running"] for row in stream.status() if row["resource"] == RESOURCE] == [True]
    assert first.error is None
    monkeypatch.setenv("TIYU_CONN_FLOW_BROKER", broker.uri.replace("only-for-tests", "wrong"))
    with Running() as refused:
        wait_for(lambda: refused.error is not None)
    assert isinstance(refused.error, TiyuError)
    assert refused.error.code == "TIYU-STR-0003"
    assert "wrong" not in str(refused.error)
    with pytest.raises(TiyuError, match="TIYU-STR-0004"):
        stream.run(["venue.entry"])
