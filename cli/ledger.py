"""`tiyu ledger rebuild`: the control ledger is gone and there is no backup."""

from __future__ import annotations

import typer

from cli.output import AsJson, emit


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="The control ledger.", no_args_is_help=True)
    app.add_typer(group, name="ledger")

    @group.callback()
    def main() -> None:
        """The control ledger."""

    @group.command("rebuild")
    def rebuild(as_json: AsJson = False) -> None:
        """Make a lost or damaged ledger again from archive and tables; a backup (`tiyu restore`) is better if there is one.

        Stop scheduler and services first. Afterwards no table is checked: run the commands it prints.
        """
        from ingestion.rebuild import rebuild as run

        report = run()
        note = (
            f"已重建控制台账：{report.batches} 个批次、{report.objects} 个对象"
            f"（未完成 {report.unfinished}，撤回 {report.withdrawn}），重放决定 {report.decisions} 条"
        )
        note += f"\n原台账文件保留在 {report.kept}" if report.kept else ""
        note += (
            "\n接着：tiyu catalog publish；按 venue.register 在先的次序对每个资源 tiyu ingest 与 tiyu gate；"
            "tiyu build；tiyu gate（应用层各表）；tiyu serve；最后 tiyu reconcile"
        )
        emit(report, as_json, note=note)
