"""A real PostgreSQL of Debian's package for a test module: own folder, own port, own account."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import adbc_driver_postgresql.dbapi as driver
import pytest

PASSWORD = "canary-pw-5e1f"
USER = "tiyu"


def binaries() -> Path:
    """Folder of the newest server; the test is skipped where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("needs a PostgreSQL server: apt-get install postgresql")
    return found[-1].parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running() -> Iterator[tuple[str, object]]:
    """URI of the account that owns everything, and a function that runs SQL with it. The server refuses to run as root."""
    programs = binaries()
    folder = Path(tempfile.mkdtemp(prefix="tiyu-pg-", dir="/tmp"))
    account: dict[str, str] = {}
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        account = {"user": "postgres", "group": "postgres"}
    port = free_port()
    server = None
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        initialise = [
            programs / "initdb",
            "-D",
            folder / "data",
            "-U",
            USER,
            "-A",
            "scram-sha-256",
            f"--pwfile={secret}",
        ]
        subprocess.run(
            [*initialise, "-E", "UTF8", "--locale=C", "--no-sync"],
            cwd=folder,
            check=True,
            capture_output=True,
            **account,
        )
        server = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-F"],
            cwd=folder,
            stderr=subprocess.DEVNULL,
            **account,
        )
        uri = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"
        deadline = time.monotonic() + 60
        while True:
            try:
                driver.connect(uri).close()
                break
            except driver.Error:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

        def sql(*statements: str) -> list:
            rows: list = []
            with driver.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                    with suppress(driver.Error):
                        rows = cursor.fetchall()
            return rows

        yield uri, sql
    finally:
        if server is not None:
            server.send_signal(signal.SIGQUIT)  # at once; nothing of it is kept
            server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
