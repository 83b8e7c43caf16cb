"""`tiyu contract`: draft one from a file, and try one on a sample before anything depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import AsJson, emit, print_table


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Contracts of sources: draft one from a file, try one on a sample.", no_args_is_help=True)

    @group.command("test")
    def test(
        contract: Annotated[str, typer.Argument(help="Source resource, or the path of a contract file anywhere.")],
        sample: Annotated[
            list[Path] | None,
            typer.Option(
                help="A file of the source (repeatable); default: its newest archived batch.",
            ),
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Run a sample through decoder, corrections, rules and deduplication; nothing is stored.

        Shows per column how much was filled and understood, per rule the records it refuses, previews masked. Exit code 1
        when the sample does not satisfy the contract.
        """  # fmt: skip
        from catalog import contracts
        from ingestion import trial

        path = Path(contract)
        is_file = path.suffix in (".yaml", ".yml") or path.exists()
        found = contracts.read_contract(path, anywhere=True) if is_file else contracts.load(contract)
        if found.kind != "source":
            raise typer.BadParameter("only the contract of a source can be tried on a sample")
        done = trial.run(found, trial.read_samples(sample) if sample else trial.samples_of(found))
        if as_json:
            emit(done, True)
        else:
            _show(done)
        if not done.ok:
            raise typer.Exit(1)

    @group.command("draft")
    def draft(
        source: Annotated[str, typer.Argument(help="A file of the source, or its http(s) address.")],
        resource: Annotated[str, typer.Option("--as", help="What the source shall be called: <domain>.<noun>.")],
        out: Annotated[
            Path | None,
            typer.Option(help="Write the contract below this folder instead of printing it.", file_okay=False),
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Look at a file and write a first contract for a person to edit: format, types, key, date, suggested grades.

        No value of the file stands in it. What the file alone cannot tell is marked 待确认 or named in the notes.
        """
        from ingestion import drafting

        done = drafting.draft(resource, *drafting.fetch(source))
        path = None
        if out is not None:
            path = drafting.keep(done, resource, out)
        if as_json:
            emit({"contract": done.text, "path": path, "notes": done.notes}, True)
            return
        if path is None:
            typer.echo(done.text, nl=False)
        note = [f"{len(done.columns)} 列，样本 {done.recognised.rows.height:,} 条", *done.notes]
        typer.echo("\n".join(["", *(f"· {text}" for text in note)]), err=True)
        if path is not None:
            typer.echo(f"已写入 {path}；改好后运行 tiyu contract test {path} --sample {source}", err=True)

    app.add_typer(group, name="contract")


def _show(done: Any) -> None:
    def share(part: int, whole: int) -> str:
        return f"{part / whole:.1%}" if whole else ""

    if done.columns:
        print_table(
            [
                {
                    "列": item.column,
                    "来源列": item.source,
                    "类型": item.type,
                    "填写": share(item.filled, item.rows),
                    "读懂": share(item.parsed, item.filled),
                    "不同值": item.distinct,
                }
                for item in done.columns
            ],
            "各列",
        )
    if done.refused_objects:
        print_table(
            [{"文件": o["object"], "代码": o["code"], "原因": o["reason"]} for o in done.refused_objects],
            "整体拒收的文件",
        )
    if done.rules:
        print_table(
            [
                {
                    "规则": rule.rule_id,
                    "处理": rule.effect,
                    "条数": rule.records,
                    "原因": rule.reason,
                    "记录号（前几条）": "；".join(f"{name} 第 {number} 条" for name, number in rule.first),
                }
                for rule in done.rules
            ],
            "未通过的规则",
        )
    if done.previews:
        print_table(
            [
                {"文件": p["object"], "记录号": p["record_no"], "规则": p["rule_id"], "预览（已遮蔽）": p["preview"]}
                for p in done.previews
            ],
            "被拒的记录",
        )
    if done.corrected:
        print_table([{"更正": name, "条数": count} for name, count in done.corrected.items()], "按契约更正")
    if done.suggestions:
        print_table([{"建议": text} for text in done.suggestions], "建议")
    emit(
        None,
        False,
        note=f"{done.resource} {done.version}：{done.objects} 个文件，解码 {done.decoded:,} = 入库 {done.accepted:,} + 隔离 {done.quarantined:,}"
        f" + 重复 {done.duplicate:,}；{'样本符合契约' if done.ok else '样本不符合契约'}；没有写入任何数据",
    )
