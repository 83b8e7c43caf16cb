"""`tiyu serve`: rebuild the read-only files that people query."""

from __future__ import annotations

import typer

from cli.output import AsJson, emit


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("serve")
    def serve(as_json: AsJson = False) -> None:
        """Publish the serving files (cockpit, analyst) from checked versions; unchanged files are left alone."""
        from ingestion.originals import originals
        from sharing.serving.publish import publish_serving

        report = publish_serving(recall=originals)
        masked = max((file.unrecalled for file in report.files), default=0)
        emit(
            report.to_dict(),
            as_json,
            title="服务文件",
            table=[
                {"受众": f.audience, "更新": "是" if f.changed else "否", "表": f.tables, "行": f.rows, "字节": f.bytes}
                for f in report.files
            ],
            note=("服务文件已更新" if report.changed else "没有变化，服务文件保持原样")
            + (f"；{masked} 个姓名未能从归档读回，仍显示遮蔽后的样子" if masked else ""),
        )
