"""`tiyu backup` and `tiyu restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import AsJson, emit

_KEYS_ZH = {
    "restored": "密钥已从备份恢复",
    "kept": "沿用本机现有密钥",
    "missing": "本机没有密钥，备份中也没有：没有当时的密钥，归档与标记都无法使用，请先放回密钥文件",
}


def register(app: typer.Typer) -> None:
    """Add both commands."""

    @app.command("backup")
    def backup(
        folder: Annotated[Path, typer.Argument(help="New folder for the backup, outside the state.")],
        with_keys: Annotated[
            bool,
            typer.Option("--with-keys", help="Take the key file along (mode 0600). Keep such a backup locked away."),
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        """Copy ledger, lake, archive, deliveries and open datasets, consistent with each other and verified."""
        from lake.backup import backup as run

        report = run(folder, with_keys=with_keys)
        note = (
            f"已备份 {report.tables} 张表、{report.files:,} 个文件、{report.bytes:,} 字节，逐个校验无误：{report.path}"
        )
        note += (
            "\n备份含密钥，请与数据分开保管"
            if with_keys
            else "\n备份不含密钥；没有密钥，归档与标记无法使用，请另行保管"
        )
        emit(report, as_json, note=note)

    @app.command("restore")
    def restore(
        folder: Annotated[Path, typer.Argument(help="Folder of a backup.")],
        force: Annotated[
            bool, typer.Option("--force", help="Replace the state that is there; it is kept beside under another name.")
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        """Check a backup and put it in place; stop scheduler and services first. Then run `tiyu reconcile` and `tiyu serve`."""
        from lake.backup import restore as run

        report = run(folder, force=force)
        note = (
            f"已恢复 {report.taken_at} 的备份：{report.tables} 张表、{report.files:,} 个文件；{_KEYS_ZH[report.keys]}"
            + "".join(f"\n原状态保留在 {path}，确认无误后自行删除" for path in report.kept)
            + "\n接着运行 tiyu reconcile 核对，再运行 tiyu serve 重建服务文件"
        )
        emit(report, as_json, note=note)
