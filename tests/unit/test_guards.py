"""The guards of the test suite themselves."""

import socket

import pytest


def test_a_unit_test_cannot_open_a_connection():
    with pytest.raises(RuntimeError, match="unit tests may not connect"):
        socket.create_connection(("127.0.0.1", 9), timeout=0.1)
