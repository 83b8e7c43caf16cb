"""`tiyu stream`: receive messages of a broker until stopped."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from cli.output import AsJson, emit


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("stream")
    def stream(
        resources: Annotated[
            list[str] | None,
            typer.Argument(
                help="Sources whose connector is mqtt. Default: all that have a connection.", show_default=False
            ),
        ] = None,
        commit_seconds: Annotated[
            float, typer.Option(help="Seconds between two commits into the lake.", min=1, max=600)
        ] = 10.0,
        status: Annotated[bool, typer.Option("--status", help="Show what each stream is doing, and end.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Receive messages and bring them into the lake every few seconds, until SIGTERM or Ctrl-C.

        Meant to be kept running by a supervisor (systemd, compose). Stopping loses nothing: the broker keeps the session.
        """
        from ingestion import stream as streams

        if status:
            found = streams.status()
            emit(found, as_json, title="消息流", table=[_row(row) for row in found])
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        taken = streams.run(
            resources or (), commit_s=commit_seconds, stop=stop, say=lambda text: typer.echo(text, err=True)
        )
        emit(
            taken,
            as_json,
            note="；".join(
                f"{item.resource}：消息 {item.messages:,}，入库 {item.accepted:,}，隔离 {item.quarantined:,}，重复 {item.duplicate:,}"
                for item in taken
            ),
        )


def _row(row: dict[str, object]) -> dict[str, object]:
    return {
        "来源": row["resource"],
        "接收中": "是" if row["running"] else "否",
        "已连接": "是" if row["running"] and row.get("connected") else "否",
        "待入库段": row["waiting_segments"],
        "待入库字节": row["waiting_bytes"],
        "最近问题": row.get("problem") or "",
        "记录时间": row.get("noted_at") or "",
    }
