"""What a demo keeps between runs, beside the data: passwords and keys of the services, ports, which city it holds."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

COCKPIT_ACCOUNTS = (
    "leader", "leader_xuhui", "analyst", "science", "coach_sq01", "catalogue_editor", "security_admin", "auditor",
    "system_admin",
)  # fmt: skip
"""Accounts of Superset in the demo (`dashboards.bootstrap.ACCOUNTS`)."""

PASSWORDS = ("airflow_admin", *(f"cockpit_{user}" for user in COCKPIT_ACCOUNTS))


def load_secrets(home: Path) -> dict[str, str]:
    """Random values of this state folder, made on first use, in a file only its owner can read (mode 0600)."""
    path = home / "demo" / "secrets.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    values: dict[str, str] = {}
    if path.is_file():
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        values = json.loads(path.read_text(encoding="utf-8"))
    before = dict(values)
    for name in PASSWORDS:
        values.setdefault(name, secrets.token_urlsafe(9))
    for name in ("airflow_api", "airflow_jwt", "superset_key"):
        values.setdefault(name, secrets.token_urlsafe(48))
    values.setdefault("airflow_fernet", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    if values != before:
        write_private(path, json.dumps(values, indent=1))
    return values


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600 from its first byte, whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def note_up(home: Path, ports: dict[str, int]) -> None:
    """The demo is up and answers at these ports; ``make demo-tomorrow`` finds it by them."""
    write_private(home / "demo" / "up.json", json.dumps(ports))


def forget_up(home: Path) -> None:
    """No demo is up any more."""
    (home / "demo" / "up.json").unlink(missing_ok=True)


def up(home: Path) -> dict[str, int] | None:
    """Ports of the demo that is up, None while none is."""
    path = home / "demo" / "up.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def note_day(home: Path, number: int) -> None:
    """The work of this day of the city is done."""
    write_private(home / "demo" / "day.json", json.dumps({"number": number}))


def day_done(home: Path) -> int | None:
    """The last day whose work is done, None before the first."""
    path = home / "demo" / "day.json"
    return int(json.loads(path.read_text(encoding="utf-8"))["number"]) if path.is_file() else None


def note_before(home: Path, number: int, known: Mapping[str, int]) -> None:
    """What was there before this day of the city; a day that is interrupted is still judged by it."""
    write_private(home / "demo" / "before.json", json.dumps({"number": number, "known": dict(known)}))


def before_day(home: Path, number: int) -> dict[str, int] | None:
    """What was noted before this day, None when nothing was."""
    path = home / "demo" / "before.json"
    noted = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {str(k): int(v) for k, v in noted["known"].items()} if noted.get("number") == number else None
