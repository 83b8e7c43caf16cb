"""Unit tests may not touch the network."""

from __future__ import annotations

import socket

import pytest


class NetworkTouched(RuntimeError):
    """A unit test tried to open a connection."""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Fail on any connection but local sockets. It cannot see what C extensions do with sockets of their own."""
    real = socket.socket.connect

    def connect(self, address):
        if self.family == socket.AF_UNIX:
            return real(self, address)
        raise NetworkTouched(f"unit tests may not connect to {address!r}: move the test to tests/integration")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect)
