"""The real demo, killed (SIGKILL of its process group) in the middle of ingest, of a layer and of serving, then run to its end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.processes import mark_of, marked, sweep
from tests.faults.conftest import Reference
from tests.faults.support import ROOT, Home, contents, delivered, differences, serving

pytestmark = pytest.mark.faults


def start(home: Path, log: Path) -> subprocess.Popen[bytes]:
    """`make demo HEADLESS=1 SIZE=tiny` without make, in a process group of its own."""
    command = [
        sys.executable,
        "-m",
        "deploy.demo",
        "--size",
        "tiny",
        "--seed",
        "7",
        "--headless",
        "--port-base",
        "18780",
    ]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("TIYU_", "AIRFLOW"))}
    with log.open("ab") as out:
        return subprocess.Popen(
            [*command, "--home", str(home)], cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True
        )


def wait_for(process: subprocess.Popen[bytes], home: Path, pattern: str, log: Path, seconds: float = 400) -> bool:
    """Wait until a path below the state folder exists; False when the demo ended before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if next(home.glob(pattern), None) is not None:
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    raise AssertionError(f"{pattern} did not appear:\n{log.read_text()[-2000:]}")


def test_demo_killed_three_times_converges_and_leaves_no_process(reference: Reference, tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "demo.log"
    home.mkdir()
    shutil.copytree(reference.home.path / "keys", home / "keys")
    shutil.copytree(reference.city, home / "city")
    mark = mark_of(home)
    killed = []
    points = {
        "ingest": "lake/ods/ods_training__activity_sample/**/*.parquet",
        "layer": "lake/dwd/dwd_venue__visit/_delta_log/*.json",
        "serving": "serving/.*.tmp*",
    }
    try:
        for title, pattern in points.items():
            process = start(home, log)
            assert wait_for(process, home, pattern, log), f"{title}: the demo ended first\n{log.read_text()[-2000:]}"
            assert len(marked(mark)) >= 6, "Airflow and the city must be running"
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            deadline = time.monotonic() + 20
            while marked(mark) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert marked(mark) == [], f"{title}: orphans"
            killed.append(title)
        process = start(home, log)
        assert process.wait(timeout=900) == 0, log.read_text()[-3000:]
        assert marked(mark) == []
        env = {**reference.home.env, "TIYU_HOME": str(home)}
        finished = Home(home, env)
        found = contents(finished)
        assert len(found) >= 35
        assert differences(reference.tables, found) == []
        assert differences(reference.serving, serving(finished)) == []
        assert differences(reference.delivered, delivered(finished)) == []
        assert killed == list(points)
    finally:
        sweep(mark)
