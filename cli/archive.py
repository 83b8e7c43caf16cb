"""`tiyu archive check`: is everything that was ever received still there and whole?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cli.output import AsJson, emit, print_banner


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="The raw archive.", no_args_is_help=True)
    app.add_typer(group, name="archive")

    @group.callback()
    def main() -> None:
        """The raw archive."""

    @group.command("check")
    def check(
        resources: Annotated[list[str] | None, typer.Argument(help="Source resources; all when left out.")] = None,
        as_json: AsJson = False,
    ) -> None:
        """Open every archived object and compare it with its name; exit code 1 when one is missing or damaged.

        Reads everything once, shows no content and changes nothing: it may run at any time.
        """
        from ingestion import archive, batch_list
        from ingestion.inspection import Inspected, inspect

        def progress(resource: str, done: int, count: int) -> None:
            if not as_json and (done == count or done % 1000 == 0):
                typer.echo(f"{resource} {done:,}/{count:,}", err=True)

        report: list[Inspected] = inspect(resources, progress)
        if not as_json:
            print_banner()
        objects = sum(item.objects for item in report)
        bad = [(item.resource, name, code) for item in report for name, code in item.damaged.items()]
        ok = bool(objects) and not bad
        codes = {code for _, _, code in bad}
        remedies = [archive.REMEDY] if codes & set(archive.DAMAGED) else []
        if "TIYU-ARC-0005" in codes:
            remedies.append(batch_list.REMEDY)
        verdict = "全部完好" if ok else f"{len(bad)} 个缺失或损坏" if bad else "归档是空的，不算通过"
        emit(
            {"ok": ok, "objects": objects, "resources": [asdict(item) for item in report]},
            as_json,
            table=[
                {"数据源": item.resource, "对象": item.objects, "字节（明文）": f"{item.bytes:,}", "批次清单": item.lists, "问题": len(item.damaged)}
                for item in report
            ],
            title="原始归档检查",
            note=f"检查 {objects:,} 个对象、{sum(item.lists for item in report):,} 份批次清单：{verdict}"
            + "".join(f"\n  {code} {resource}/{name}" for resource, name, code in bad)
            + "".join(f"\n处理办法：{remedy}" for remedy in remedies),
        )  # fmt: skip
        if not ok:
            raise typer.Exit(1)
