"""`tiyu serve`: rebuild the read-only files that people query."""

from __future__ import annotations

import typer

from cli.output import AsJson, emit


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("serve")
    def serve(as_json: AsJson = False) -> None:
        """Publish the serving files (cockpit, analyst) from checked versions; unchanged files are left alone."""
        from sharing.serving.publish import publish_serving

        report = publish_serving()
        emit(report, as_json, note=f"服务文件已就绪：{report}")
