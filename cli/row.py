"""`tiyu row`: what became of a received row, and why."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import BATCH_ZH, AsJson, emit, print_banner, print_table
from cli.role import AsRole
from lake import clock

if TYPE_CHECKING:
    from ingestion.fate import Answer, Fate

_OUTCOMES = {
    "accepted": "重放后入库",
    "duplicate": "重放后计为重复",
    "reread": "对象重新读入，另行记账",
    "rejudged": "按现在的规则仍不合格",
    "discarded": "放弃",
}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("row")
    def row(
        find: Annotated[
            list[str],
            typer.Argument(
                help="OBJECT or OBJECT#RECORD (sha256, 8 characters or more) · RESOURCE COLUMN=VALUE … · a token, identity or"
                " mobile number · - to read that from standard input, so that it is in no shell history."
            ),
        ],
        rows: Annotated[int, typer.Option(help="How many of the rows found to tell about.", min=1)] = 20,
        as_role: AsRole = None,
        as_json: AsJson = False,
    ) -> None:
        """Tell what became of a received row: stored, refused, duplicate, replaced, discarded or erased, why, and by which way.

        Shows names, rules and reasons, never a value. Exit code 1 when no such row was ever received.
        """
        from ingestion.fate import ask

        words = find
        if find == ["-"]:
            words = (typer.prompt("要找的行", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()).split()

        def progress(resource: str, done: int, count: int) -> None:
            if not as_json and (done == count or done % 200 == 0):
                typer.echo(f"{resource} 已查 {done:,}/{count:,} 个对象", err=True)

        answer = ask(words, limit=rows, progress=progress)
        if as_json:
            emit(answer, True)
        else:
            print_banner()
            _show(answer)
        if not answer.found:
            raise typer.Exit(1)


def _time(value: datetime | None) -> str:
    return f"{value.astimezone(clock.SHANGHAI):%Y-%m-%d %H:%M:%S}" if value else ""


def _show(answer: Answer) -> None:
    for fate in answer.fates:
        print_table([{"": name, "内容": text} for name, text in _lines(fate) if text], _title(fate))
    seen = answer.searched
    looked = (
        f"查找方式：{seen.asked}。查了 {seen.resources} 个来源、{seen.batches:,} 个批次、{seen.objects:,} 个对象的台账"
        f"，表中 {seen.table_rows:,} 行，重新解码 {seen.decoded_objects:,} 个对象的 {seen.decoded_records:,} 条记录"
    )
    if not answer.found:
        emit({}, False, note=f"从未收到这一行。{looked}")
    else:
        more = f"；只列出前 {len(answer.fates)} 处，--rows 可增" if answer.found > len(answer.fates) else ""
        emit({}, False, note=f"找到 {answer.found:,} 处{more}。{looked}")


def _title(fate: Fate) -> str:
    number = f"#{fate.record_no}" if fate.record_no is not None else ""
    return f"{fate.resource} {fate.object[:16]}{number}"


def _lines(fate: Fate) -> list[tuple[str, str]]:
    from ingestion.fate import STATES_ZH

    seen = f"已检版本 {fate.checked_version}" if fate.checked_version is not None else "该表还没有通过质量闸门的版本"
    other = f"{fate.other.object[:16]}#{fate.other.record_no}（批次 {fate.other.batch_id}）" if fate.other else ""
    lines = [
        ("结论", STATES_ZH.get(fate.state, fate.state)),
        ("原因", fate.reason or ""),
        ("规则", fate.rule_id or ""),
        ("对应的记录", other),
        ("时间", _time(fate.since)),
        ("读者可见", ("看得到，" if fate.visible else "看不到，") + seen),
        ("各记录", "、".join(f"{name} {count:,}" for name, count in fate.counts.items())),
        ("来源文件", fate.object_name),
        ("对象", fate.object),
        (
            "批次",
            f"{fate.batch_id}（{BATCH_ZH.get(fate.batch_status, fate.batch_status)}，契约 {fate.contract_version}）",
        ),
        ("重读自", fate.supersedes or ""),
        ("运行", f"{fate.run_id}，收到于 {_time(fate.received_at)}"),
        ("表", fate.table),
        ("更正", "、".join(fate.corrections)),
        ("批次规则", "；".join(fate.findings)),
    ]
    for item in fate.decisions:
        text = _OUTCOMES.get(item.outcome, item.outcome)
        text += "".join(f"，{part}" for part in (item.rule_id, item.reason, item.decided_by) if part)
        text += f"；{_time(item.taken_back_at)} 已取回" if item.taken_back_at else ""
        lines.append((_time(item.at), f"{text}（{item.undertaking}）"))
    return lines
