"""The parts of ``make test-fresh`` that need no chroot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy import fresh


def test_the_apt_line_is_the_readmes() -> None:
    """What is installed is what a newcomer is told to install, nothing else."""
    assert fresh.apt_line((fresh.ROOT / "README.md").read_text(encoding="utf-8")) == ["python3", "python3-venv", "make"]
    assert fresh.apt_line("x\napt-get install -y a b-c   # only these\n") == ["a", "b-c"]
    with pytest.raises(fresh.FreshError, match="no `apt-get install"):
        fresh.apt_line("Install what you like.")


def test_local_paths_of_settings_are_found(tmp_path: Path) -> None:
    """Certificates, wheel folders and file: indexes; not addresses, not what does not exist, nested ones once."""
    (tmp_path / "wheels" / "more").mkdir(parents=True)
    (tmp_path / "index" / "simple").mkdir(parents=True)
    (tmp_path / "cert.pem").touch()
    texts = [
        f"[global]\ncert = {tmp_path}/cert.pem\nindex-url = https://index.example/simple\n",
        f"find-links = {tmp_path}/wheels/more, {tmp_path}/none\nfind-links = {tmp_path}/wheels/",
        f"extra-index-url = file://{tmp_path}/index/simple/",
    ]
    assert fresh.local_paths(texts) == [f"{tmp_path}/cert.pem", f"{tmp_path}/index", f"{tmp_path}/wheels"]


def test_settings_of_the_account_travel(tmp_path: Path) -> None:
    """pip's file goes to the same place of the new user; variables that are not about packages stay."""
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text("[global]\ntimeout = 60\n")
    index = fresh.machine_index(tmp_path, {"PIP_RETRIES": "2", "UV_INDEX_URL": "x", "SECRET": "no", "PATH": "/bin"})
    assert index.variables == {"PIP_RETRIES": "2", "UV_INDEX_URL": "x"}
    assert index.files[f"/home/{fresh.USER}/.config/pip/pip.conf"] == "[global]\ntimeout = 60\n"


def test_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root, or a tool is missing: exit code 2 and the remedy."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(fresh.FreshError, match="run as root") as refused:
        fresh.require()
    assert refused.value.exit_code == 2
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(fresh.shutil, "which", lambda tool: None if tool == "debootstrap" else "/bin/tool")
    with pytest.raises(fresh.FreshError, match=r"apt-get install -y debootstrap$"):
        fresh.require()


def test_only_folders_of_dead_runs_are_removed(tmp_path: Path) -> None:
    """A killed run leaves its folder; a running one keeps it, and so does everything that is no run."""
    for name in (f"run-{os.getpid()}", "run-4194399", "run-x", "base-1"):
        (tmp_path / name / "etc").mkdir(parents=True)
    fresh.remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base-1", f"run-{os.getpid()}", "run-x"]


def test_nothing_is_removed_through_a_mount() -> None:
    """A folder with something mounted in it is refused, never emptied."""
    with pytest.raises(fresh.FreshError, match="mounted"):
        fresh.remove(Path("/proc"))


def test_a_step_that_should_fail_and_does_not_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that the index is unreachable fails the run when the index answers."""
    answers = iter([0, 0, 0, 0])
    monkeypatch.setattr(fresh, "enter", lambda *a, **k: next(answers))
    monkeypatch.setattr(fresh, "base_system", lambda *a: (tmp_path, False))
    monkeypatch.setattr(fresh, "fresh_root", lambda *a: tmp_path / "root")
    monkeypatch.setattr(fresh, "FREE_BYTES", 0)
    monkeypatch.setattr(fresh, "head", lambda: "abc")  # a fresh machine has no git
    options = type("Options", (), {"cache": tmp_path, "skip_tests": True, "keep": False})()
    stages = fresh.Stages()
    with pytest.raises(fresh.FreshError, match="cannot be reached"):
        fresh.whole_way(options, stages)
    assert [entry["ok"] for entry in stages.done[-2:]] == [True, False]
