"""The one cockpit of all tests here (a fixture that two modules import would be started twice)."""

from __future__ import annotations

from tests.browser.cockpit_server import server

__all__ = ["server"]
