"""A real Superset on a temporary home, started once for all tests of the cockpit.

Uses the serving files of TIYU_SERVING_ROOT when they exist (copied, so that nothing is written there), else invented
ones. TIYU_COCKPIT_TEMPLATE may name a ready template; otherwise one is built (about half a minute).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from dashboards import bootstrap, district_map
from tests.browser import rest
from tests.unit.dashboards import cockpit_data

REPO = Path(__file__).resolve().parents[2]
PYTHON = REPO / ".venv-cockpit" / "bin" / "python"
LIMIT_S = 6
SUPERUSER = "superuser"
ADMINS = (
    "SELECT username FROM ab_user JOIN ab_user_role ON ab_user_role.user_id = ab_user.id"
    " JOIN ab_role ON ab_role.id = ab_user_role.role_id WHERE ab_role.name = 'Admin'"
)


@dataclass(frozen=True)
class Cockpit:
    url: str
    home: Path
    serving: Path
    environment: dict[str, str]
    synthetic: bool

    def client(self, user: str) -> rest.Client:
        return rest.Client(self.url, user, self.password(user))

    def password(self, user: str) -> str:
        """To sign in with. SUPERUSER gets its role back first: every command of the product takes it away."""
        if user == SUPERUSER:
            with sqlite3.connect(self.home / "superset.db", timeout=60) as metadata:
                metadata.execute("UPDATE ab_user SET active = 1 WHERE username = ?", [user])
            hold(self, user, "Admin")
        return self.environment[bootstrap.password_variable(user)]

    def sql(self, statement: str) -> list[tuple]:
        """The oracle: SQL straight on the serving file."""
        with duckdb.connect(str(self.serving / "cockpit.duckdb"), read_only=True) as connection:
            return connection.execute(statement).fetchall()


def invent(server: Cockpit, user: str, role: str) -> None:
    """An account put straight into the metadata, past everything that guards who may hold which role."""
    password, salt = uuid.uuid4().hex, uuid.uuid4().hex
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), 1000).hex()
    with sqlite3.connect(server.home / "superset.db", timeout=60) as metadata:
        metadata.execute(
            "INSERT INTO ab_user (id, first_name, last_name, username, email, active, password, created_on, changed_on)"
            " SELECT max(id) + 1, 'x', 'x', ?, ? || '@cockpit.invalid', 1, ?, datetime('now'), datetime('now') FROM ab_user",
            [user, user, f"pbkdf2:sha256:1000${salt}${digest}"],
        )
    server.environment[bootstrap.password_variable(user)] = password
    hold(server, user, role)


def hold(server: Cockpit, user: str, *roles: str) -> None:
    """Make these the roles of an account, straight in the metadata."""
    with sqlite3.connect(server.home / "superset.db", timeout=60) as metadata:
        (number,) = metadata.execute("SELECT id FROM ab_user WHERE username = ?", [user]).fetchone()
        metadata.execute("DELETE FROM ab_user_role WHERE user_id = ?", [number])
        for role in roles:
            given = metadata.execute(
                "INSERT INTO ab_user_role (id, user_id, role_id)"
                " SELECT (SELECT coalesce(max(id), 0) + 1 FROM ab_user_role), ?, id FROM ab_role WHERE name = ?",
                [number, role],
            )
            assert given.rowcount == 1, role


def admins(server: Cockpit) -> list[str]:
    """Accounts that hold Superset's own Admin role."""
    with sqlite3.connect(server.home / "superset.db", timeout=60) as metadata:
        return [name for (name,) in metadata.execute(ADMINS)]


def run(arguments: list[str], environment: dict[str, str], timeout: float = 900) -> subprocess.CompletedProcess[str]:
    command = [str(PYTHON), "-m", "dashboards.bootstrap", *arguments]
    return subprocess.run(
        command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Cockpit]:
    """A running cockpit with the declared assets; ended with everything it started."""
    base = tmp_path_factory.mktemp("cockpit")
    serving, given = base / "serving", os.environ.get("TIYU_SERVING_ROOT", "")
    synthetic = not (given and (Path(given) / "cockpit.duckdb").is_file())
    if synthetic:
        cockpit_data.build(serving, scoped=True)
    else:
        serving.mkdir()
        for file in Path(given).glob("*.duckdb"):
            shutil.copyfile(file, serving / file.name)
    district_map.write(base / "districts.geojson")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SUPERSET_", "TIYU_", "FLASK_"))}
    environment = clean | {
        "SUPERSET_SECRET_KEY": uuid.uuid4().hex * 2,
        "TIYU_COCKPIT_HOME": str(base / "home"),
        "TIYU_SERVING_ROOT": str(serving),
        "TIYU_MAP_GEOJSON": str(base / "districts.geojson"),
        "TIYU_COCKPIT_STATEMENT_TIMEOUT": str(LIMIT_S),
    }
    environment |= {bootstrap.password_variable(user): uuid.uuid4().hex for user in bootstrap.ACCOUNTS}
    template = Path(os.environ.get("TIYU_COCKPIT_TEMPLATE") or base / "template.db")
    built = run(["template", "--out", str(template)], environment)
    assert built.returncode == 0, built.stderr[-2000:]
    log = (base / "server.log").open("w")
    start = ["start-from-template", "--template", str(template), "--port", str(port)]
    process = subprocess.Popen(
        [str(PYTHON), "-m", "dashboards.bootstrap", *start],
        cwd=REPO, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    running = Cockpit(f"http://127.0.0.1:{port}", base / "home", serving, environment, synthetic)
    try:
        rest.wait_until_up(running.url, 400)
        assert admins(running) == [], "the product leaves an account with Superset's Admin role behind"
        # The tests must look at everything, and show what even such an account cannot do.
        invent(running, SUPERUSER, "Admin")
        yield running
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()
