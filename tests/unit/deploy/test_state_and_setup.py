"""Secrets of a demo, the set-up's stamps, the translation of pip settings, the static check of the production shape."""

from __future__ import annotations

import copy
import json
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from catalog import contracts
from deploy import airflow, bootstrap, compose_check, state

ROOT = Path(__file__).resolve().parents[3]


def test_secrets_are_private_random_and_kept(tmp_path: Path) -> None:
    first = state.load_secrets(tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a/demo/secrets.json").stat().st_mode) == 0o600
    assert state.load_secrets(tmp_path / "a") == first
    other = state.load_secrets(tmp_path / "b")
    assert all(first[name] != other[name] for name in first)
    assert len(first) == len(state.PASSWORDS) + 4


def test_secrets_file_that_others_could_read_is_closed(tmp_path: Path) -> None:
    state.load_secrets(tmp_path)
    path = tmp_path / "demo/secrets.json"
    path.chmod(0o644)
    state.load_secrets(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_interrupted_runs_are_ended_before_airflow_starts(tmp_path: Path) -> None:
    database = tmp_path / "airflow.db"
    connection = sqlite3.connect(database)
    connection.executescript(
        "create table dag_run (run_id text, state text, end_date text);"
        "create table task_instance (id text, state text, end_date text);"
        "insert into dag_run values ('killed', 'running', null), ('waiting', 'queued', null), ('done', 'success', '2026-01-01');"
        "insert into task_instance values ('t1', 'running', null), ('t2', 'success', '2026-01-01'), ('t3', null, null);"
    )
    connection.commit()
    airflow._end_interrupted_runs(database)
    assert connection.execute("select state from dag_run order by run_id").fetchall() == [
        ("success",),
        ("failed",),
        ("failed",),
    ]
    assert connection.execute("select state from task_instance order by id").fetchall() == [
        ("failed",),
        ("success",),
        (None,),
    ]
    connection.close()


def test_pip_settings_are_handed_to_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_CONFIG_FILE", "UV_FIND_LINKS", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    listing = (
        ":env:.cert='/ca.pem'\nglobal.index-url='https://mirror.example/simple'\n"
        "global.extra-index-url='https://a.example/s https://b.example/s'\nglobal.find-links='/wheels'\n"
    )
    monkeypatch.setattr(bootstrap, "run", lambda *args, **kwargs: listing)
    env = bootstrap.uv_environment()
    assert env["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert env["UV_INDEX"].split() == ["https://a.example/s", "https://b.example/s"]
    assert env["UV_FIND_LINKS"] == "/wheels"
    assert env["SSL_CERT_FILE"] == "/ca.pem"
    # uv's own settings win
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://own.example/simple")
    assert "UV_INDEX" not in bootstrap.uv_environment()


def test_locks_are_hashed_and_name_no_address() -> None:
    names = ["bootstrap.txt", "pipeline.txt", "dev.txt", "cockpit.txt", "server.txt"]
    for name in names:
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        pins = [line for line in text.splitlines() if "==" in line and not line.lstrip().startswith("#")]
        assert pins, name
        assert text.count("--hash=sha256:") >= len(pins), name
        assert "://" not in text, name


def test_bootstrap_runs_on_the_bare_interpreter() -> None:
    """It must not import anything that is not yet installed."""
    result = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "deploy/bootstrap.py"), "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_failed_step_leaves_no_stamp(tmp_path: Path) -> None:
    steps = bootstrap.Steps(1)

    def broken() -> None:
        raise bootstrap.SetupError("boom")

    with pytest.raises(bootstrap.SetupError):
        steps.step("x", True, broken, tmp_path / "stamp", "v")
    assert bootstrap.stamped(tmp_path / "stamp") == ""
    assert steps.done == 0


# ------------------------------------------------------------------ production shape
@pytest.fixture(scope="module")
def model() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


def test_compose_file_passes(model: dict) -> None:
    report = compose_check.check()
    assert report.problems == []
    assert report.examined > 150


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("services", "cockpit", "privileged"), True, "cockpit is privileged"),
        (("services", "portal", "ports"), ["8090:8090"], "beyond loopback"),
        (("services", "portal", "healthcheck"), None, "portal has no healthcheck"),
        (("services", "portal", "environment"), {"X_PASSWORD": "hunter2"}, "secret in plain text"),
        (
            ("services", "portal", "environment"),
            {"X_FILE": "/run/secrets/superset_key"},
            "needs a secret it is not given",
        ),
        (("services", "portal", "volumes"), ["/var/run/docker.sock:/var/run/docker.sock"], "engine's socket"),
        (("secrets", "superset_key"), {"file": "./secrets/superset_key"}, "has a default or no file"),
        (("networks", "back"), {}, "not internal"),
        (("services", "portal", "ulimits"), {"nofile": {"soft": 1, "hard": 65536}}, "nofile above"),
    ],
)
def test_compose_rules_refuse(model: dict, path: tuple[str, ...], value: object, problem: str) -> None:
    broken = copy.deepcopy(model)
    node = broken
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    report = compose_check.check_model(broken)
    assert any(problem in text for text in report.problems), report.problems


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("# syntax=docker/dockerfile:1", "syntax line"),
        ("RUN <<EOF", "heredoc"),
        ("FROM x@sha256:abc", "digest"),
        ("USER root", "runs as root"),
    ],
)
def test_dockerfile_rules_refuse(tmp_path: Path, line: str, problem: str) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    user = "" if line.startswith("USER") else "USER 1000\n"
    (folder / "Dockerfile").write_text(f"ARG BASE=python:3.11\nFROM ${{BASE}}\n{line}\n{user}")
    report = compose_check.check_dockerfiles(tmp_path)
    assert any(problem in text for text in report.problems), report.problems
    assert report.examined == 5


def test_schema_of_pools_matches_airflow(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-m", "dags.pools"], cwd=ROOT, capture_output=True, text=True, check=True)
    pools = json.loads(result.stdout)
    assert len(pools) == len(contracts.fetched()) + 8
    assert all(pool["slots"] == 1 and pool["description"] for pool in pools.values())
