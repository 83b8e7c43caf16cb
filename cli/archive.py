"""`tiyu archive`: is everything ever received still there and whole, its exact bytes again, and who had them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.output import AsJson, emit, print_banner
from cli.role import AsRole, acting


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

    @group.command("get")
    def get(
        batch: Annotated[str, typer.Argument(help="Batch id, or its first 8 or more characters.")],
        reason: Annotated[str, typer.Option(help="Why the raw content is needed; kept in the ledger.")],
        sha256: Annotated[
            str | None, typer.Option("--object", help="Only this object: sha256, or its first 8 or more characters.")
        ] = None,
        to: Annotated[Path | None, typer.Option(help="Folder for the files.", show_default="./BATCH")] = None,
        as_role: AsRole = None,
        as_json: AsJson = False,
    ) -> None:
        """Give back the exact bytes of a batch, each file compared with its hash before it gets its name.

        Raw content, personal data included: files are readable by this account only, and who, why and what is kept in the
        ledger (`tiyu archive log`). Never overwrites. Exit code 3 when an object is missing or damaged; the others are written.
        """
        from ingestion import archive, retrieval
        from protection import redaction

        who = acting("archive get", as_role)
        found = retrieval.find_batch(batch)
        report = retrieval.retrieve(
            found["batch_id"],
            to or Path(found["batch_id"]),
            sha256=sha256,
            account=who.account,
            role=who.role,
            reason=reason,
        )
        lost = "".join(f"\n  {code} {report.resource}/{sha}" for sha, code in report.damaged.items())
        shown = [{**asdict(item), "name": redaction.redact(item.name, "quarantine")} for item in report.objects]
        emit(
            {**asdict(report), "objects": shown, "ok": report.ok},
            as_json,
            table=[
                {
                    "文件": item["file"],
                    "字节": item["size"],
                    "来源中的名称": item["name"],
                    "sha256": item["sha256"][:16],
                }
                for item in shown
            ],
            title="取出的原始对象",
            note=f"{report.resource} 批次 {report.batch_id}：{len(report.objects)} 个对象与哈希逐一相符，写入 {report.folder}（仅本账号可读，用完请删除；已留痕）"
            + (f"\n{len(report.damaged)} 个缺失或损坏：{lost}\n处理办法：{archive.REMEDY}" if lost else ""),
        )
        if not report.ok:
            raise typer.Exit(3)

    @group.command("log")
    def log(
        rows: Annotated[int, typer.Option(help="How many entries to show.", min=1)] = 50, as_json: AsJson = False
    ) -> None:
        """Show who was given raw objects, as which role, why, and how many files were written; newest first."""
        from lake import clock, ledger

        every = ledger.archive_accesses()
        emit(
            {"count": len(every), "accesses": every[:rows]},
            as_json,
            table=[
                {
                    "时间": f"{item['requested_at'].astimezone(clock.SHANGHAI):%Y-%m-%d %H:%M:%S}",
                    "账号": item["account"],
                    "角色": item["role"],
                    "资源": item["resource"],
                    "批次": item["batch_id"],
                    "对象": item["sha256"][:16] if item["sha256"] else f"全部 {item['object_count']} 个",
                    "取出": "未完成" if item["returned_count"] is None else item["returned_count"],
                    "理由": item["reason"],
                }
                for item in every[:rows]
            ],
            title="原始对象取出记录",
            note=f"共 {len(every)} 次",
        )
