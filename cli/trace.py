"""`tiyu trace`: from a KPI value back to batches and source files."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.output import BATCH_ZH, AsJson, emit, print_banner
from cli.role import AsRole

SHOWN = 8


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("trace")
    def trace(
        kpi: Annotated[str, typer.Argument(help="KPI code, e.g. V-04.")],
        district: Annotated[str, typer.Option(help="District code; 310000 is the whole city.")] = "310000",
        date: Annotated[str | None, typer.Option(help="A day of the period, YYYY-MM-DD; default the latest.")] = None,
        as_role: AsRole = None,
        variant: Annotated[str | None, typer.Option(help="Population of the KPI, e.g. platform.")] = None,
        as_json: AsJson = False,
    ) -> None:
        """Show where a number comes from: models, tables and versions, batches, source files."""
        import datetime

        from lake.errors import EXIT_USAGE, TiyuError
        from sharing.serving import trace as tracing

        try:
            day = datetime.date.fromisoformat(date) if date else None
        except ValueError:
            raise TiyuError("TIYU-TRC-0004", "日期不合法", "写成 YYYY-MM-DD", EXIT_USAGE, date=date) from None
        found = tracing.trace(kpi.upper(), district=district, day=day, variant=variant)
        if as_json:
            emit(found.to_dict(), True)
            return
        print_banner()
        _show(found)


def _show(found: Any) -> None:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    from sharing.sites.live import QUALITY_ZH

    def add(node: Tree, text: str) -> Tree:
        return node.add(Text(text))  # a file name may hold brackets, which are no markup

    row = found.kpi
    value = "无" if row["value"] is None else f"{row['value']:,.2f}".rstrip("0").rstrip(".")
    variant = f"·{row['variant_name']}" if row.get("variant_name") else ""
    parts = f"　分子 {row['numerator']}　分母 {row['denominator']}" if row["denominator"] is not None else ""
    tree = Tree(Text(f"{row['kpi_code']} {row['kpi_name']}{variant} = {value} {row['unit']}{parts}"))
    add(
        tree,
        f"范围：{row['district_name']}，{row['period_start_date']} 至 {row['period_end_date']}；{QUALITY_ZH.get(row['quality'], row['quality'])}",
    )
    if found.definition:
        add(tree, f"定义：{found.definition}")
    chain = add(tree, "经过的表（读取的版本）")
    for step in found.chain:
        reads = f" ← {'、'.join(step['reads'])}" if step["reads"] else ""
        add(chain, f"{step['table']} v{step['version']}{reads}")
    for source in found.sources:
        branch = add(
            tree,
            f"{source.table} v{source.version}（{source.resource}）：{source.rows:,} 行，{len(source.batches)} 个批次{f'，{source.note}' if source.note else ''}",
        )
        for batch in source.batches[-SHOWN:]:
            leaf = add(
                branch,
                f"批次 {batch.batch_id[:16]}　{batch.rows:,} 行　收到 {batch.received_at or '未知'}　{BATCH_ZH.get(batch.status, batch.status or '')}",
            )
            for entry in batch.objects[:SHOWN]:
                add(leaf, f"{entry.name}　{entry.rows:,} 行　sha256 {entry.sha256[:16]}…")
            if len(batch.objects) > SHOWN:
                add(leaf, f"……另有 {len(batch.objects) - SHOWN} 个对象（--json 查看全部）")
        if len(source.batches) > SHOWN:
            add(branch, f"……另有 {len(source.batches) - SHOWN} 个批次（--json 查看全部）")
    if not found.sources:
        add(tree, "该指标由平台自身的运行数据计算，没有外部来源文件")
    if found.other_inputs:
        add(tree, f"同时读取：{'、'.join(found.other_inputs)}")
    places = add(tree, "在哪里看")
    for what, where in found.places.items():
        add(places, f"{what}：{where}")
    Console().print(tree)
