"""Whose command it is: the option every personal command takes."""

from __future__ import annotations

import getpass
import os
from typing import Annotated

import typer

Account = Annotated[
    str | None,
    typer.Option("--account", help="Whose scratch tables; default TIYU_ACCOUNT, else the name of the system account."),
]


def account_name(given: str | None) -> str:
    """The account a personal command works for."""
    return given or os.environ.get("TIYU_ACCOUNT") or getpass.getuser()
