"""The picture of where an entry comes from and where it goes: SVG, entries as boxes, sources left, pages right."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from catalog.entries import Entry

_BOX_W, _BOX_H, _GAP_X, _GAP_Y, _PAD = 208, 44, 46, 12, 8
_MAX_LINE = 15
_MOST = 9
"""Boxes in one column; more are summed up in a last one, and the list below the picture names them all."""


@dataclass(frozen=True)
class _Box:
    key: str
    title: str
    sub: str
    href: str | None
    css: str


def levels(entry: Entry, entries: dict[str, Entry], direction: str) -> list[list[str]]:
    """Ids of entries by distance (1, 2, …) upstream or downstream; each entry once, at its longest distance.

    At the longest, so that an arrow never points backwards; a circle (there is none in a lineage) would end at 20.
    """
    distance: dict[str, int] = {}
    front = [entry.id]
    for step in range(1, 21):
        front = sorted({name for item in front for name in getattr(entries[item], direction) if name in entries})
        if not front:
            break
        distance |= dict.fromkeys(front, step)
    distance.pop(entry.id, None)
    return [
        sorted(name for name, at in distance.items() if at == step)
        for step in range(1, max(distance.values(), default=0) + 1)
    ]


def draw(entry: Entry, entries: dict[str, Entry]) -> str:
    """SVG text of the whole way through an entry. Links are relative to an entry's page."""
    up, down = levels(entry, entries, "upstream"), levels(entry, entries, "downstream")
    columns = [*reversed(up), [entry.id], *down]
    boxes: dict[str, tuple[int, int]] = {}
    drawn: list[str] = []
    tallest = max(min(len(column), _MOST + 1) for column in columns)
    height = tallest * (_BOX_H + _GAP_Y) - _GAP_Y + 2 * _PAD
    for index, column in enumerate(columns):
        shown = column if len(column) <= _MOST + 1 else column[:_MOST]
        rest = len(column) - len(shown)
        count = len(shown) + bool(rest)
        top = _PAD + (height - 2 * _PAD - (count * (_BOX_H + _GAP_Y) - _GAP_Y)) // 2
        left = _PAD + index * (_BOX_W + _GAP_X)
        for row, name in enumerate(shown):
            at = (left, top + row * (_BOX_H + _GAP_Y))
            boxes[name] = at
            drawn.append(_box(_described(entries[name], name == entry.id), *at))
        if rest:
            at = (left, top + len(shown) * (_BOX_H + _GAP_Y))
            drawn.append(_box(_Box("", f"另有 {rest} 个", "见下方清单", None, "more"), *at))
    arrows = [
        _arrow(boxes[source], boxes[name])
        for name in boxes
        for source in entries[name].upstream
        if source in boxes and boxes[source][0] < boxes[name][0]
    ]
    width = len(columns) * (_BOX_W + _GAP_X) - _GAP_X + 2 * _PAD
    label = f"{entry.title_zh}的来源与去向：上游 {sum(map(len, up))} 个，下游 {sum(map(len, down))} 个"
    return (
        f'<svg class="lineage" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(arrows)}{"".join(drawn)}</svg>'
    )


def _described(entry: Entry, here: bool) -> _Box:
    css = "here" if here else entry.kind
    return _Box(entry.id, entry.title_zh, entry.id, None if here else f"../{entry.id}/", css)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _box(box: _Box, x: int, y: int) -> str:
    inside = (
        f"<title>{escape(box.title)} {escape(box.sub)}</title>"
        f'<rect class="lb {box.css}" x="{x}" y="{y}" width="{_BOX_W}" height="{_BOX_H}" rx="5"/>'
        f'<text x="{x + 10}" y="{y + 18}" class="lt">{escape(_short(box.title, _MAX_LINE))}</text>'
        f'<text x="{x + 10}" y="{y + 35}" class="ls">{escape(_short(box.sub, 30))}</text>'
    )
    return f'<a href="{escape(box.href)}">{inside}</a>' if box.href else f"<g>{inside}</g>"


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + _BOX_W, start[1] + _BOX_H // 2
    x2, y2 = end[0], end[1] + _BOX_H // 2
    bend = (x1 + x2) // 2 if x2 - x1 <= _GAP_X else x2 - _GAP_X // 2
    return f'<path class="la" d="M{x1} {y1} H{bend - 6} C{bend} {y1} {bend} {y2} {bend + 6} {y2} H{x2}"/>'
