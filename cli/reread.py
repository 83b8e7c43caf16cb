"""`tiyu reread`: a contract changed; history follows from the archive."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import AsJson, emit, print_table

_NAMES = {"decoded": "解码", "accepted": "入库", "quarantined": "隔离", "duplicate": "重复"}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("reread")
    def reread(
        resource: Annotated[str, typer.Argument(help="Source resource whose contract version was raised.")],
        as_json: AsJson = False,
    ) -> None:
        """Read the archived history of a source again under its contract's new version; nothing is fetched.

        Everything is tried before anything is changed. Run `tiyu gate` and `tiyu build` afterwards; until then readers
        see the tables as they were.
        """
        from ingestion.reread import reread as run

        report = run(resource)
        seconds = report.ingest.seconds if report.ingest else 0.0
        emit(
            report,
            as_json,
            note=(
                f"{resource}：按契约 {report.contract_version} 重读 {report.batches} 个批次、{report.objects} 个对象"
                f"（原契约 {'、'.join(report.from_versions) or report.contract_version}），用时 {seconds:.1f} 秒"
                + (f"；{report.withdrawn_left} 个已撤回的批次保持撤回" if report.withdrawn_left else "")
                + f"\n接着运行 tiyu gate {resource}，再运行 tiyu build"
            ),
        )
        if not as_json:
            rows = [{"": name, "此前": report.before[key], "现在": report.after[key]} for key, name in _NAMES.items()]
            print_table(rows, "记录数")
