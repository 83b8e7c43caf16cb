"""`tiyu gate`: judge what changed and move the checked version."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import AsJson, emit

_OUTCOME_ZH = {"pass": "通过", "fail": "未通过", "error": "规则出错", "nothing_to_examine": "没有变化"}


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
        report = run_gate(names)
        emit(
            report.to_dict(),
            as_json,
            title="质量闸门",
            table=[
                {
                    "表": verdict.table,
                    "结论": _OUTCOME_ZH.get(verdict.outcome, verdict.outcome),
                    "检查行数": verdict.examined,
                    "规则数": verdict.rule_count,
                    "已检版本": verdict.moved_to if verdict.moved_to is not None else verdict.checked_from,
                }
                for verdict in report.tables
            ],
            note=f"共检查 {report.examined:,} 行",
        )
