"""Under which role a command is done: the option of the commands that show data, and the check before every command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from catalog.policy.holders import Acting

AsRole = Annotated[
    str | None,
    typer.Option("--as-role", help="Role of the policy to act as; default TIYU_ROLE, else the one of yours that fits."),
]


def acting(command: str, wanted: str | None = None) -> Acting:
    """The role a command is done under; raises TIYU-POL-0002, 0007 to 0010 when the account may not."""
    from catalog.policy import holders

    return holders.act(command, wanted)


def guard(app: typer.Typer, prefix: str = "") -> None:
    """Let every command of the tree begin with the question whether this account may do it."""
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        command.callback = _asking(f"{prefix}{name}", command.callback)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        guard(group.typer_instance, f"{prefix}{group.name} ")


def _asking(name: str, callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def asked(*args: Any, **kwargs: Any) -> Any:
        acting(name, kwargs.get("as_role"))
        return callback(*args, **kwargs)

    return asked
