"""`tiyu keys`: key material of this installation."""

from __future__ import annotations

import typer

from cli.output import AsJson, emit


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Key material (archive envelope, tokens).", no_args_is_help=True)

    @group.command("init")
    def init(as_json: AsJson = False) -> None:
        """Create the key file, or add the keys it lacks; an existing key is never touched."""
        from protection import keys

        path = keys.ensure()
        emit({"key_file": str(path)}, as_json, note=f"密钥文件：{path}（权限 0600；请离线备份，丢失后归档不可恢复）")

    app.add_typer(group, name="keys")
