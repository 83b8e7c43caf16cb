"""The demo itself: a day beside it, an operator's backfill in its Airflow, a day cut off by SIGKILL, a demo begun at a later day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy import airflow, state
from deploy.processes import mark_of, marked, sweep

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
PORTS = 18820
EFFECTS = ("缺哪个来源、为什么（领导）", "预警、责任单位与时限（领导）", "昨日数据的订正（分析师）", "退回与重交（市大数据中心）", "更新记录（公众）", "今日要事（起始页）")  # fmt: skip


@dataclass
class Live:
    """A demo that is up on a state folder, and its console."""

    home: Path
    log: Path
    demo: subprocess.Popen[bytes] | None = None

    def start(self, module: str, *more: str) -> subprocess.Popen[bytes]:
        """`make demo` or `make demo-tomorrow` without make, in a process group of its own."""
        command = [sys.executable, "-m", module, "--size", "tiny", "--home", str(self.home), *more]
        env = {key: value for key, value in os.environ.items() if not key.startswith(("TIYU_", "AIRFLOW"))}
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [*command, "--port-base", str(PORTS)], cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True
            )

    def begin(self) -> subprocess.Popen[bytes]:
        """A demo that stays up; returns when its doors have answered."""
        process = self.demo = self.start("deploy.demo")
        self.until(lambda: state.up(self.home) is not None, process)
        return process

    def until(self, ready: object, process: subprocess.Popen[bytes], seconds: float = 900) -> None:
        """Wait while the process runs."""
        assert callable(ready)
        deadline = time.monotonic() + seconds
        while not ready():
            assert process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def said(self, since: int = 0) -> str:
        """The console, or what came after a position in it."""
        return self.log.read_bytes()[since:].decode("utf-8", errors="replace")

    def day(self) -> int:
        """The day at which the city stands."""
        return int(json.loads((self.home / "city" / "today.json").read_text("utf-8"))["number"])

    def client(self) -> airflow.Client:
        """Airflow of the demo that is up."""
        ports = state.up(self.home)
        assert ports is not None
        return airflow.Client(f"http://127.0.0.1:{ports['airflow']}", state.load_secrets(self.home)["airflow_admin"])


def seen(text: str) -> list[str]:
    """The effects of a day that a run has checked and found."""
    return [title for title in EFFECTS if f"✔ 检查 {title}" in text]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One state folder for all tests of this module, which follow each other as a user's days do."""
    base = tmp_path_factory.mktemp("live")
    found = Live(base / "home", base / "demo.log")
    found.home.mkdir()
    yield found
    sweep(mark_of(found.home))


def test_a_day_beside_a_demo_that_is_up(live: Live) -> None:
    process = live.begin()
    before = live.log.stat().st_size
    assert live.start("deploy.tomorrow").wait(600) == 0, live.said(before)
    assert seen(live.said(before)) == list(EFFECTS)
    assert (live.day(), state.day_done(live.home)) == (1, 1)
    assert process.poll() is None, "the demo stays up"


def test_backfill_in_the_running_airflow_takes_a_resent_day_and_the_layers_follow(live: Live) -> None:
    """One reading is added to a file of the past, as a source does that sends a day again."""
    files = sorted((live.home / "city" / "drops" / "supervision" / "water_reading").rglob("water_*.csv"))
    sent_again = files[len(files) // 2]
    last = next(line for line in reversed(sent_again.read_text("utf-8").splitlines()) if "turbidity" in line)
    pool, device, sampled, *rest = last.split(",")
    with sent_again.open("a", encoding="utf-8") as file:
        file.write(",".join([pool, device, sampled[:-2] + ("01" if sampled[-2:] != "01" else "02"), *rest]) + "\n")
    day = sent_again.stem.split("_")[1]
    first = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    client = live.client()
    asked = {"resource": "supervision.water_reading", "history": "source", "first": first, "last": first}
    known = {run["dag_run_id"] for run in client.latest_runs()}
    run = client.trigger("backfill", asked)
    assert client.wait({"backfill": run}, timeout_s=300, alive=lambda: None) == []
    report = client.report("backfill", run, "read")
    assert report["ingest"]["received_objects"] >= 1
    assert report["ingest"]["accepted"] == 1, report
    followed = [r for r in client.latest_runs() if r["dag_id"] == "layers" and r["dag_run_id"] not in known]
    assert len(followed) == 1
    assert client.wait({"layers": followed[0]["dag_run_id"]}, timeout_s=300, alive=lambda: None) == []
    client.close()


def test_a_day_cut_off_by_a_kill_is_finished_and_judged_by_the_next_run(live: Live) -> None:
    before = live.log.stat().st_size
    day = live.start("deploy.tomorrow")
    live.until(lambda: "… DAG layers" in live.said(before), day)
    assert live.demo is not None
    for process in (live.demo, day):  # the supervisor first: while it lives, the demo counts as up
        process.kill()
        process.wait()
    for pid in marked(mark_of(live.home)):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    assert (live.day(), state.day_done(live.home)) == (2, 1)
    before = live.log.stat().st_size
    assert live.start("deploy.tomorrow", "--headless").wait(900) == 0, live.said(before)
    said = live.said(before)
    assert "TIYU-DEMO-0001" in said
    assert "上次没有做完的一天已补完" in said
    assert seen(said) == list(EFFECTS)
    assert (live.day(), state.day_done(live.home)) == (2, 2)


def test_a_demo_begun_at_a_later_day_opens_every_door(tmp_path: Path) -> None:
    later = Live(tmp_path / "home", tmp_path / "demo.log")
    later.home.mkdir()
    try:
        assert later.start("deploy.demo", "--headless", "--day", "2").wait(900) == 0, later.said()
        assert (later.day(), state.day_done(later.home)) == (2, 2)
        assert later.said().count("✔ 检查") >= 6
        assert marked(mark_of(later.home)) == []
    finally:
        sweep(mark_of(later.home))
