"""Where state lives. Everything comes from environment variables; nothing is read from the current directory
except the default ``./var``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Resolved locations of one installation.

    ``lake_root`` may be a local path or an ``s3://`` URL (``LAKE_ROOT``); everything else lives under
    ``TIYU_HOME`` (default ``./var``).
    """

    home: Path
    lake_root: str
    ledger_url: str
    repo_root: Path

    @property
    def archive_root(self) -> Path:
        """Encrypted raw objects, named by content."""
        return self.home / "archive"

    @property
    def serving_root(self) -> Path:
        """Read-only DuckDB files, one per audience."""
        return self.home / "serving"

    @property
    def exchange_root(self) -> Path:
        """Outbox of deliveries to the city big-data center."""
        return self.home / "exchange"

    @property
    def open_root(self) -> Path:
        """Published versions of open datasets."""
        return self.home / "open"

    @property
    def site_root(self) -> Path:
        """Static pages: start page, portal preview."""
        return self.home / "site"

    @property
    def key_file(self) -> Path:
        """Key material of the file key provider (mode 0600)."""
        return self.home / "keys" / "keys.json"


def settings() -> Settings:
    """What the environment says now, so a test may change it between calls; cheap when it says the same as before."""
    home, lake_root, ledger_url = map(os.environ.get, ("TIYU_HOME", "LAKE_ROOT", "TIYU_LEDGER_URL"))
    places = [home or "var", lake_root or "/"]  # without a place of its own the lake is below home
    folder = "/" if all(place.startswith("/") or "://" in place for place in places) else os.getcwd()
    return _resolved(home, lake_root, ledger_url, folder)


@lru_cache(maxsize=32)
def _resolved(home_text: str | None, lake_text: str | None, ledger_text: str | None, folder: str) -> Settings:
    """``folder``: where a relative path begins."""
    home = folder / Path(home_text or "var").expanduser()
    lake_root = lake_text or str(home / "lake")
    if "://" not in lake_root:
        lake_root = str(folder / Path(lake_root).expanduser())
    return Settings(
        home=home,
        lake_root=lake_root.rstrip("/"),
        ledger_url=ledger_text or f"sqlite:///{home / 'ledger.db'}",
        repo_root=Path(__file__).resolve().parents[1],
    )
