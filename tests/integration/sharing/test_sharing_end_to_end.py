"""Real processes: a killed delivery run, the command line, the static server and the published code samples."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from cli import exchange, open_data
from lake.errors import TiyuError
from sharing.exchange.verify import verify
from tests.browser import sites_data

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def env(tmp_path, monkeypatch):
    """Environment of a filled installation, for child processes."""
    values = {"TIYU_HOME": str(tmp_path / "var"), "TIYU_TODAY": "2026-11-20", "TIYU_AS_OF": "2026-11-20T12:00:00+08:00"}
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL", "TIYU_EXCHANGE_USCC"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    sites_data.fill()
    return {**os.environ, **values}


def child(code: str, env: dict[str, str], **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_sigkill_at_random_moments_never_leaves_half_a_delivery(env):
    outbox = Path(env["TIYU_HOME"]) / "exchange" / "outbox"
    run = "import sharing.exchange.run as r, sys; print('ready', flush=True); r.run_exchange(); print('done')"
    moments = random.Random(7)
    killed = 0
    for _ in range(4):
        process = child(run, env)
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 1.5))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
        for folder in outbox.glob("*/*"):
            assert verify(folder).ok, folder
    done = subprocess.run([sys.executable, "-c", run], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folders = sorted(outbox.glob("*/*"))
    assert len(folders) == 2
    assert all(verify(folder).ok for folder in folders)
    before = {p: p.stat().st_mtime_ns for p in outbox.rglob("*")}
    subprocess.run([sys.executable, "-c", run], cwd=ROOT, env=env, check=True, capture_output=True)
    assert {p: p.stat().st_mtime_ns for p in outbox.rglob("*")} == before
    assert killed >= 1


@dataclass
class Outcome:
    """What an operator sees of a command."""

    returncode: int
    stdout: str
    stderr: str


def tiyu(env, *arguments: str) -> Outcome:
    """Run a command as `tiyu` does, in this process: starting Python a dozen times is most of the cost otherwise."""
    app = typer.Typer()
    exchange.register(app)
    open_data.register(app)
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, TiyuError):
        return Outcome(result.exception.exit_code, result.stdout, str(result.exception))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Outcome(result.exit_code, result.stdout, "")


def test_command_line(env):
    assert tiyu(env, "exchange", "status").returncode == 1, "overdue before the first run"
    first = tiyu(env, "exchange", "run", "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["written"] == 2
    assert json.loads(tiyu(env, "exchange", "run", "--json").stdout)["written"] == 0
    status = json.loads(tiyu(env, "exchange", "status", "--json").stdout)
    assert status["overdue"] == 0
    assert {item["state"] for item in status["calendar"]} == {"initial"}
    outbox = Path(env["TIYU_HOME"]) / "exchange" / "outbox"
    checked = json.loads(tiyu(env, "exchange", "verify", str(outbox), "--json").stdout)
    assert checked["ok"]
    assert checked["examined"] == 2
    packed = next(outbox.rglob("*.csv.gz"))
    packed.write_bytes(packed.read_bytes()[:-2] + b"xx")
    bad = tiyu(env, "exchange", "verify", str(outbox), "--json")
    assert bad.returncode == 1
    assert not json.loads(bad.stdout)["ok"]
    assert tiyu(env, "exchange", "run", "--date", "2026-13-01").returncode == 2
    missing = tiyu(env, "exchange", "verify", str(outbox / "no"))
    assert missing.returncode == 2
    assert "TIYU-EXC-0014" in missing.stderr
    built = json.loads(tiyu(env, "open-data", "build", "--json").stdout)
    assert [d["action"] for d in built["datasets"]] == ["published", "published"]
    assert json.loads(tiyu(env, "open-data", "verify", "--json").stdout)["examined"] == 2


def test_static_server_and_published_samples(env):
    from sharing.open_data.build import build_open_data
    from sharing.sites.start_page import build_start_page

    build_open_data()
    build_start_page({})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sharing.sites.serve",
            "--root",
            str(Path(env["TIYU_HOME"]) / "site"),
            "--port",
            str(port),
        ],
        cwd=ROOT,
        env=env,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                if httpx.get(base + "/health", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.1)
        examined = 0
        # the JavaScript sample runs where Node.js is installed; the platform itself does not need it
        languages = [([sys.executable], "sample.py")] + ([(["node"], "sample.mjs")] if shutil.which("node") else [])
        for dataset, rows in (("venue_directory", 60), ("daily_visits", 960)):
            page = f"{base}/open/{dataset}/"
            for command, name in languages:
                path = Path(env["TIYU_HOME"]) / name
                path.write_bytes(httpx.get(page + name, trust_env=False).content)
                out = subprocess.run(
                    [*command, str(path), page],
                    capture_output=True,
                    text=True,
                    check=False,
                    env={**env, "no_proxy": "127.0.0.1"},
                )
                assert out.returncode == 0, out.stderr
                assert f"{rows} 行" in out.stdout
                assert out.stdout.startswith("演示数据，非真实统计")
                assert len(out.stdout.splitlines()) == 4
                examined += 1
        assert examined == 2 * len(languages)
    finally:
        server.terminate()
        server.wait(10)
