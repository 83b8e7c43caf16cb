"""Shared fixtures: a private home for every test, a pinned business clock, keys."""

from __future__ import annotations

import sys

import pytest

TODAY = "2026-11-20"
AS_OF = "2026-11-20T12:00:00+08:00"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty TIYU_HOME with keys and the demo's business clock; every state of the platform lives below it."""
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL", "TIYU_ARCHIVE_CIPHER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIYU_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TIYU_TODAY", TODAY)
    monkeypatch.setenv("TIYU_AS_OF", AS_OF)
    from protection import keys

    keys.ensure()
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def _no_guard_left_behind():
    """An entry point called inside a test guards the whole process; the next test starts unguarded."""
    yield
    module = sys.modules.get("protection.redaction")
    if module is not None:
        module.remove()
