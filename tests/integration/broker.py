"""A real broker (mosquitto) on loopback for the stream's tests; skipped where it is not installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

BINARY = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
needs_broker = pytest.mark.skipif(BINARY is None, reason="no broker: apt-get install mosquitto")
USER, PASSWORD = "tiyu", "only-for-tests"


class Broker:
    """One broker with an account, whose sessions and queued messages survive a restart."""

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        accounts = folder / "accounts"
        subprocess.run(["mosquitto_passwd", "-c", "-b", str(accounts), USER, PASSWORD], check=True, capture_output=True)
        (folder / "broker.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {accounts}\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 1\nmax_queued_messages 100000\nuser root\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"mqtt://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(BINARY), "-c", str(self.folder / "broker.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("the broker did not start")

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=10)
            self.process = None

    def publish(self, messages: list[tuple[str, bytes]], *, retain: bool = False) -> None:
        """Send messages with QoS 1 and wait until the broker has them all."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="sensor")
        client.username_pw_set(USER, PASSWORD)
        client.max_inflight_messages_set(200)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        for info in [client.publish(topic, payload, qos=1, retain=retain) for topic, payload in messages]:
            info.wait_for_publish(timeout=20)
        client.disconnect()
        client.loop_stop()


@contextmanager
def running(folder: Path) -> Iterator[Broker]:
    """A broker for the time of a block."""
    broker = Broker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
