"""`tiyu gate`: judge what changed and move the checked version."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import AsJson, emit


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("gate")
    def gate(
        tables: Annotated[
            list[str], typer.Argument(help="ODS or ADS tables, or source resources such as venue.booking.")
        ],
        as_json: AsJson = False,
    ) -> None:
        """Run the quality gate over every partition changed since the checked version.

        Exit code 1 and code TIYU-QG-… when a table does not pass; its checked version then stays where it was.
        """
        from catalog import contracts
        from quality.gate import run_gate

        known = contracts.load_all("source")
        names = [obj.table for name in tables for obj in (known[name].objects if name in known else [])]
        names += [name for name in tables if name not in known]
        emit(report := run_gate(names), as_json, note=str(report) if as_json else f"质量闸门通过：{'、'.join(names)}")
