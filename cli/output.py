"""What every command prints: a table for people, JSON for programs, errors with a code and a way out."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lake.errors import TiyuError

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]

BATCH_ZH = {
    "archived": "待处理",
    "accepted": "全部入库",
    "partial": "部分入库",
    "refused": "拒收",
    "withdrawn": "已撤回",
    "held": "扣下待定",
}
"""What a screen calls the state of a batch; JSON keeps the ledger's word."""

#: Wide enough for any table when the output goes to a file or a pipe.
_PIPE_WIDTH = 200

_out = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
_err = Console(stderr=True)


def _default(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dt.date | dt.datetime | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def to_json(data: Any) -> str:
    """JSON text of reports, dates and decimals included."""
    return json.dumps(data, ensure_ascii=False, indent=2, default=_default)


def emit(
    data: Any, as_json: bool, *, table: Sequence[Mapping[str, Any]] | None = None, title: str = "", note: str = ""
) -> None:
    """Print ``data`` as JSON, or ``table`` (rows with the same keys) and ``note`` for people."""
    if as_json:
        sys.stdout.write(to_json(data) + "\n")
        return
    if table is not None:
        print_table(table, title)
    if note:
        _out.print(note, highlight=False, soft_wrap=True, markup=False)


def print_banner() -> None:
    """Say that a lake is a demonstration, on every screen that shows its numbers."""
    from lake import properties

    if banner := properties.demo_banner():
        _out.print(banner, style="yellow", highlight=False, soft_wrap=True, markup=False)


def print_table(rows: Sequence[Mapping[str, Any]], title: str = "") -> None:
    """A plain table of dictionaries; an empty one says so."""
    if not rows:
        _out.print(f"{title or '结果'}：没有记录", highlight=False)
        return
    grid = Table(title=title or None, title_justify="left", header_style="bold")
    for number, key in enumerate(rows[0]):
        numeric = all(isinstance(row[key], int | float | decimal.Decimal) or row[key] is None for row in rows)
        grid.add_column(str(key), justify="right" if numeric else "left", overflow="fold", no_wrap=number == 0)
    for row in rows:
        grid.add_row(*(Text(_cell(value)) for value in row.values()))  # Text: a value is never read as markup
    _out.print(grid)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    grouped = isinstance(value, int | decimal.Decimal) and not isinstance(value, bool)
    return f"{value:,}" if grouped else str(value)


def print_error(error: TiyuError, as_json: bool = False) -> None:
    """The one way an error reaches the operator (stderr; JSON when asked for)."""
    if as_json:
        sys.stderr.write(to_json({"error": error.as_dict()}) + "\n")
    else:
        _err.print(str(error), style="red", highlight=False, soft_wrap=True, markup=False)
