"""Charts as inline SVG: no script, no outside request, readable without colour and printed as they are."""

from __future__ import annotations

from html import escape

import polars as pl

from sharing.open_data.config import DatasetSpec

_WIDTH = 920


def render(spec: DatasetSpec, frame: pl.DataFrame) -> str:
    """The dataset's one chart, chosen by its settings."""
    if frame.height == 0:
        return ""
    return {"bars": _bars, "heatmap": _heatmap}[spec.chart["kind"]](spec, frame)


def _svg(width: int, height: int, title: str, text: str, body: list[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><desc>{escape(text)}</desc>{''.join(body)}</svg>"
    )


def _bars(spec: DatasetSpec, frame: pl.DataFrame) -> str:
    by = spec.chart["by"]
    counts = frame.group_by(by).len("n").sort(["n", by], descending=[True, False])
    top, row = max(counts["n"]), 30
    scale = (_WIDTH - 190) / top
    body = []
    for index, (name, n) in enumerate(counts.select(by, "n").iter_rows()):
        y = index * row + 4
        body.append(f'<text class="label" x="104" y="{y + 16}" text-anchor="end">{escape(str(name))}</text>')
        body.append(f'<rect class="bar" x="112" y="{y}" width="{n * scale:.1f}" height="22" rx="2"/>')
        body.append(f'<text class="value" x="{112 + n * scale + 8:.1f}" y="{y + 16}">{n}</text>')
    text = "、".join(f"{name} {n}" for name, n in counts.select(by, "n").iter_rows())
    return _svg(_WIDTH, counts.height * row + 8, spec.chart["title"], text, body)


def _heatmap(spec: DatasetSpec, frame: pl.DataFrame) -> str:
    """Rows by district, columns by day; suppressed cells are hatched and hold no value."""
    c = spec.chart
    days = frame[c["column"]].unique().sort().to_list()[-c["last"] :]
    rows = frame.select("district_code", c["row"]).unique().sort("district_code")[c["row"]].to_list()
    shown = frame.filter(pl.col(c["column"]).is_in(days))
    values = shown[c["value"]].drop_nulls()
    top = int(values.max() or 1) if values.len() else 1
    left, cell_h, head = 92, 24, 26
    cell_w = (_WIDTH - left - 4) / len(days)
    body = [
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="hatch-back" width="6" height="6"/><line class="hatch-line" x1="0" y1="0" x2="0" y2="6"/></pattern></defs>'
    ]
    step = max(1, -(-len(days) // 14))
    for i, day in enumerate(days):
        if (len(days) - 1 - i) % step == 0:
            body.append(
                f'<text class="tick" x="{left + (i + 0.5) * cell_w:.1f}" y="16" text-anchor="middle">{day:%m-%d}</text>'
            )
    for j, name in enumerate(rows):
        body.append(
            f'<text class="label" x="{left - 8}" y="{head + j * cell_h + 16}" text-anchor="end">{escape(str(name))}</text>'
        )
    where = {(row, day): (i, j) for i, day in enumerate(days) for j, row in enumerate(rows)}
    for name, day, value, hidden in shown.select(c["row"], c["column"], c["value"], c["suppressed"]).iter_rows():
        i, j = where[name, day]
        box = f'x="{left + i * cell_w:.1f}" y="{head + j * cell_h}" width="{cell_w - 1.5:.1f}" height="{cell_h - 2}"'
        if hidden:
            body.append(
                f'<rect class="cell" fill="url(#hatch)" {box}><title>{escape(str(name))} {day} 已抑制</title></rect>'
            )
        else:
            level = min(6, int(7 * (value or 0) / (top + 1)))
            body.append(
                f'<rect class="cell heat-{level}" {box}><title>{escape(str(name))} {day}：{value} 人次</title></rect>'
            )
    y = head + len(rows) * cell_h + 10
    body.append(f'<text class="tick" x="{left}" y="{y + 12}">少</text>')
    body.extend(
        f'<rect class="cell heat-{level}" x="{left + 20 + level * 24}" y="{y}" width="22" height="14"/>'
        for level in range(7)
    )
    body.append(f'<text class="tick" x="{left + 194}" y="{y + 12}">多（最高 {top:,} 人次）</text>')
    body.append(f'<rect fill="url(#hatch)" x="{left + 360}" y="{y}" width="22" height="14"/>')
    body.append(f'<text class="tick" x="{left + 388}" y="{y + 12}">人数不足 {spec.k}，已抑制</text>')
    text = f"{len(rows)} 个区、{days[0]} 至 {days[-1]}；最高 {top} 人次；被抑制的单元格以斜线表示，不显示数值。"
    return _svg(_WIDTH, y + 24, c["title"], text, body)
