"""The shared style: Jinja environment, number formats, static files."""

from __future__ import annotations

import functools
from datetime import date, datetime
from pathlib import Path
from typing import Any

import jinja2

from lake.clock import SHANGHAI
from sharing import files

_HERE = Path(__file__).parent
STATIC = ("tiyu.css", "favicon.svg", "catalogue.css", "catalogue.js")


def cell(value: Any) -> str:
    """A value as a Chinese reader expects it in a table cell: Shanghai time, 是/否, thousands separators, – for empty."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "是" if value else "否"
    if isinstance(value, datetime):
        return f"{value.astimezone(SHANGHAI):%Y-%m-%d %H:%M}" if value.tzinfo else f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6f}".rstrip("0").rstrip(".")
    return str(value)


def size(count: int) -> str:
    """A file size for people."""
    return (
        f"{count:,} B"
        if count < 1024
        else (f"{count / 1024:,.1f} KB" if count < 1024**2 else f"{count / 1024**2:,.1f} MB")
    )


@functools.cache
def environment() -> jinja2.Environment:
    """Jinja with automatic escaping; an unknown variable is an error, never an empty page."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["cell"] = cell
    env.filters["size"] = size
    return env


def render(
    template: str, *, depth: int, here: str, banner: str, title: str, home_depth: int | None = None, **values: Any
) -> bytes:
    """Render a page. ``depth``: folders between the page and its ``static/``; ``home_depth``: and the site's root.

    All links are relative, so that a site can be moved or mirrored as a folder.
    """
    home = "../" * (depth if home_depth is None else home_depth) or "./"
    text = (
        environment()
        .get_template(template)
        .render(static="../" * depth + "static/", home=home, here=here, banner=banner, title=title, **values)
    )
    return (text.rstrip("\n") + "\n").encode()


def write_static(root: Path) -> int:
    """Copy the style into a site's root; returns the number of files that changed."""
    return sum(
        files.write_if_changed(root / "static" / name, (_HERE / "static" / name).read_bytes()) for name in STATIC
    )


def columns(spec: dict[str, str], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Column descriptions for the table macro: name → title; numeric where all values are numbers, kept on one line where short."""
    result = []
    for name, title in spec.items():
        values = [row[name] for row in rows if row[name] is not None]
        numeric = bool(values) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        longest = max((len(value) for value in values if isinstance(value, str)), default=0)
        result.append(
            {
                "name": name,
                "title": title,
                "numeric": numeric,
                "hint": name,
                "keep": longest <= 20,
                "wide": longest > 20,
            }
        )
    return result
