"""`tiyu reconcile`: prove that nothing was lost and nothing counted twice."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import BATCH_ZH, AsJson, emit, print_banner


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("reconcile")
    def reconcile(
        resource: Annotated[str | None, typer.Argument(help="One source resource; all of them when left out.")] = None,
        as_json: AsJson = False,
    ) -> None:
        """Balance objects and records of every batch against the archive and the lake; exit code 1 when one is off.

        Prints both ledgers of each source; batch by batch for one source, else only the batches that are off.
        """
        from quality.reconcile import reconcile as run

        report = run(resource)
        if not as_json:
            print_banner()
        verdict = "全部平衡" if report.ok else "存在不平的批次" if report.examined else "无从对账，不算通过"
        emit(
            {
                "ok": report.ok,
                "examined": report.examined,
                "problems": report.problems,
                "resources": report.resources,
                "balances": report.balances,
            },
            as_json,
            table=report.totals,
            title="两本账：对象与记录",
        )
        shown = report.rows if resource else [row for row in report.rows if row["结论"] != "平"]
        if not as_json:
            emit(
                {},
                False,
                table=[row | {"状态": BATCH_ZH.get(row["状态"], row["状态"])} for row in shown] if shown else None,
                title="批次对账",
                note=f"检查 {report.examined} 个批次：{verdict}"
                + "".join(f"\n  {problem}" for problem in report.problems),
            )
        if not report.ok:
            raise typer.Exit(1)
