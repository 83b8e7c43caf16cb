"""`tiyu open-data`: publish open datasets and their pages."""

from __future__ import annotations

import typer

from cli.output import AsJson, emit


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Open datasets: immutable versions, files, pages.", no_args_is_help=True)

    @group.command("build")
    def build(as_json: AsJson = False) -> None:
        """Publish what changed since the last version; building again without change writes nothing."""
        from sharing.open_data.build import build_open_data

        report = build_open_data()
        words = {"published": "已发布新版本", "unchanged": "内容未变，不产生新版本"}
        emit(
            report.as_dict(),
            as_json,
            table=[
                {
                    "数据集": d.dataset,
                    "版本": d.version,
                    "结果": words[d.action],
                    "行数": d.row_count,
                    "查过的字段": d.columns_examined,
                    "查过的统计单元": d.cells_examined,
                }
                for d in report.datasets
            ],
            title="开放数据",
            note=f"更新页面 {report.pages_written} 个",
        )
        if not as_json:
            for item in report.datasets:
                typer.echo(f"目录：{item.path}")

    @group.command("verify")
    def verify(as_json: AsJson = False) -> None:
        """Prove that no published version was altered."""
        from lake.errors import TiyuError
        from lake.settings import settings
        from sharing.open_data import versions

        folders = sorted(path.parent for path in settings().open_root.glob("*/v*/version.json"))
        if not folders:
            raise TiyuError("TIYU-OPEN-0007", "没有任何已发布版本，无从核对", "先运行 tiyu open-data build")
        rows = [{"数据集": f.parent.name, "版本": f.name, "核对文件数": versions.check(f)} for f in folders]
        emit({"examined": len(rows), "versions": rows}, as_json, table=rows, title="已发布版本完整")

    app.add_typer(group, name="open-data")
