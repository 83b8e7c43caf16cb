"""Deliveries as bytes: the truth first, then the file or the interface's rows with the day's slips among them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import xlsxwriter

from simulation.records.feed import Feed, Form, Row
from simulation.sizes import SHANGHAI
from simulation.times import local_seconds, stream

if TYPE_CHECKING:
    from simulation.city import City
    from simulation.sources import Sources


def deliver(feed: Feed, city: City, day: date, sources: Sources, truth: Path) -> int:
    """Write one delivery if the feed has one on ``day``; returns its true records.

    ``truth/records/RESOURCE/YYYYMMDD.ndjson`` holds the rows as they are, written before anything is spoiled.
    """
    if not feed.delivers(city, day):
        return 0
    rows = [_plain(row) for row in feed.rows(city, day, feed.before(city, day))]
    if not rows:
        return 0  # a register that did not change is not sent
    path = truth / "records" / feed.resource / f"{day:%Y%m%d}.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(_line(row) + "\n" for row in rows), "utf-8")
    sent = _spoiled(feed, city, day, rows, sources)
    if feed.form.kind == "api":
        _to_api(feed, sent, sources)
    else:
        name = f"{feed.folder}/{feed.form.stem}_{day:%Y%m%d}.{feed.form.extension}"
        sources.deliver_file(name, encode(feed.form, feed.columns, sent, day), feed.resource)
    return len(rows)


def _spoiled(feed: Feed, city: City, day: date, rows: list[Row], sources: Sources) -> list[Row]:
    """The rows with copies and slips at drawn places; counted as they are made. The first delivery of a new city has all of them."""
    ledger, resource = sources.ledger, feed.resource
    first = city.number == 0 and not ledger.true[resource]
    ledger.true[resource] += len(rows)
    rng = stream(city.seed, f"dirt {resource}", day.toordinal())
    extra: list[Row] = []
    if rng.random() < 0.7 or first:
        extra.append(dict(rows[int(rng.integers(len(rows)))]))
        ledger.duplicates[resource]["within_file"] += 1
    for number, (kind, wrong) in enumerate(feed.slips.items()):
        if (day.toordinal() + number) % 3 and not first:
            continue
        spoiled = dict(rows[int(rng.integers(len(rows)))]) | wrong
        if feed.key not in wrong:
            spoiled[feed.key] = f"{spoiled[feed.key]}X{number}"
        extra.append(spoiled)
        ledger.bad[resource][kind] += 1
    sent = list(rows)
    for row in extra:
        sent.insert(int(rng.integers(len(sent) + 1)), row)
    return sent


def encode(form: Form, columns: Sequence[str], rows: Sequence[Row], day: date) -> bytes:
    """Rows as the bytes of one file; they depend on nothing but the arguments."""
    if form.kind == "ndjson":
        return "".join(_line(_nested(form, row)) + "\n" for row in rows).encode()
    if form.kind == "xml":
        return _markup(form, columns, rows)
    if form.kind == "parquet":
        return _columnar(columns, rows)
    if form.kind == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\r\n" if form.encoding == "gb18030" else "\n")
        writer.writerow(columns)
        writer.writerows([row[name] for name in columns] for row in rows)
        return out.getvalue().encode(form.encoding)
    return _workbook(form, columns, rows, day)


def _nested(form: Form, row: Row) -> Row:
    """The record with the columns of `Form.inside` in objects of their own, where the first of them stood."""
    owner = {column: member for member, columns in form.inside.items() for column in columns}
    made: Row = {}
    for name, value in row.items():
        if name in owner:
            made.setdefault(owner[name], {})[name] = value
        else:
            made[name] = value
    return made


def _markup(form: Form, columns: Sequence[str], rows: Sequence[Row]) -> bytes:
    """One element a record, one element a column; an empty one where there is no value."""
    root = ElementTree.Element(f"{form.stem}s")
    for row in rows:
        record = ElementTree.SubElement(root, form.stem)
        for name in columns:
            value = row[name]
            ElementTree.SubElement(record, name).text = None if value is None else str(value)
    ElementTree.indent(root, " ")
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _columnar(columns: Sequence[str], rows: Sequence[Row]) -> bytes:
    """Typed columns; one in which a number was written in words is a column of texts, as its program would have it."""
    made = {}
    for name in columns:
        values = [row[name] for row in rows]
        kinds = {type(value) for value in values if value is not None}
        mixed = len(kinds) > 1 and str in kinds
        made[name] = [None if value is None else str(value) for value in values] if mixed else values
    buffer = io.BytesIO()
    pl.DataFrame(made, strict=False).write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def _workbook(form: Form, columns: Sequence[str], rows: Sequence[Row], day: date) -> bytes:
    """A form with a merged title row above its header."""
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer, {"in_memory": True})
    book.set_properties({"created": datetime(day.year, day.month, day.day, tzinfo=SHANGHAI), "author": "演示"})
    sheet = book.add_worksheet(form.sheet)
    bold = book.add_format({"bold": True, "align": "center"})
    sheet.merge_range(0, 0, 0, len(columns) - 1, form.title, bold)
    sheet.write_row(1, 0, columns, bold)
    for number, row in enumerate(rows):
        sheet.write_row(number + 2, 0, [row[name] for name in columns])
    book.close()
    return buffer.getvalue()


def _to_api(feed: Feed, rows: Sequence[Row], sources: Sources) -> None:
    """Rows behind an interface, in its serving order once the city writes its files."""
    sources.record_apis[feed.form.api].add(
        np.array([local_seconds(str(row[feed.form.api_time])) for row in rows], np.int64),
        pl.Series([str(row[feed.form.api_id]) for row in rows], dtype=pl.String),
        np.array([_line(row) for row in rows], dtype=object),
    )


def _plain(row: Row) -> Row:
    """Values of plain Python, whatever they were drawn with."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))
