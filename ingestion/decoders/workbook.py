"""What a workbook (.xlsx) says beside its values, read from its parts with bounds: how far its cells reach, what its shared
texts unfold to, which cells are merged, which formulas have no result."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lxml import etree

_OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PLACE = re.compile(rb"""\br\s*=\s*["']\$?([A-Za-z]{0,3})\$?(\d{1,7})["']""")
_CELL = re.compile(rb"""<(?:\w+:)?c\b[^>]*?\br\s*=\s*["']([A-Z]{1,3})\d{1,7}["'][^>]*(?<!/)>""")
_SHARED = re.compile(rb"""\bt\s*=\s*["']s["'][^>]*>\s*<(?:\w+:)?v>\s*(\d{1,9})\s*<""")
_MERGE = re.compile(rb"""<(?:\w+:)?mergeCell\b[^>]*?\bref\s*=\s*["']([A-Z]{1,3}\d{1,7}):([A-Z]{1,3}\d{1,7})["']""")
_FORMULA = re.compile(rb"<(?:\w+:)?f[\s/>]")
_STEP = 1 << 20
_OVERLAP = 256
MAX_MERGES = 100_000
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_STRICT_RELATION = "{http://purl.oclc.org/ooxml/officeDocument/relationships}id"


@dataclass
class Sheet:
    """Zero-based places: merges as (row, column, last row, last column), and formulas without a result."""

    merges: list[tuple[int, int, int, int]] = field(default_factory=list)
    without_result: list[tuple[int, int]] = field(default_factory=list)
    first_column: int = 0


@dataclass
class Facts:
    """grid_cells: rows × columns of the largest part · text_bytes: what shared texts unfold to · sheets: by name."""

    grid_cells: int = 0
    text_bytes: int = 0
    sheets: dict[str, Sheet] = field(default_factory=dict)


def is_old(content: bytes) -> bool:
    """Whether an object is a workbook of before 2007 (.xls)."""
    return content.startswith(_OLD)


def first_column(facts: Facts, sheet: str) -> int:
    """The zero-based column that the reader's grid begins with: the leftmost one that has a cell."""
    known = facts.sheets.get(sheet)
    return known.first_column if known else 0


def place(text: str) -> tuple[int, int]:
    """Zero-based row and column of ``B3``."""
    letters = text.rstrip("0123456789")
    return int(text[len(letters) :]) - 1, _column_number(letters.encode()) - 1


def read_facts(archive: zipfile.ZipFile) -> Facts:
    """Facts of a workbook whose parts are known to be sound and of bounded size. Raises what zipfile and lxml raise."""
    facts = Facts()
    used: dict[str, Any] = {}
    parts: dict[str, Sheet] = {}
    lengths = np.zeros(0, dtype=np.int64)
    for item in archive.infolist():
        if item.filename.lower().endswith("sharedstrings.xml"):
            lengths = _text_lengths(archive, item)
        sheet, cells, references, has_formula = _scan(archive, item)
        facts.grid_cells = max(facts.grid_cells, cells)
        used[item.filename] = references
        if has_formula:
            sheet.without_result = _without_result(archive, item)
        parts[item.filename.lower()] = sheet
    for references in used.values():
        inside = references[references < len(lengths)]
        facts.text_bytes += int(lengths[inside].sum())
    for name, part in _sheet_parts(archive).items():
        if part.lower() in parts:
            facts.sheets[name] = parts[part.lower()]
    return facts


def _scan(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> tuple[Sheet, int, np.ndarray[Any, Any], bool]:
    """One pass over a part (any part may be a sheet): extent, merges, references to shared texts, whether it has formulas."""
    rows = columns = 1
    leftmost = 1 << 20
    has_formula = False
    sheet = Sheet()
    references: list[np.ndarray[Any, Any]] = []
    rest = b""
    with archive.open(item) as stream:
        while piece := stream.read(_STEP):
            text = rest + piece
            for letters, digits in set(_PLACE.findall(text)):
                rows = max(rows, int(digits))
                columns = max(columns, _column_number(letters))
            leftmost = min([leftmost, *map(_column_number, set(_CELL.findall(text)))])  # a cell without a value is none
            has_formula = has_formula or _FORMULA.search(text) is not None
            fresh = [found for found in _SHARED.finditer(text) if found.end() > len(rest)]
            references.append(np.array([int(found[1]) for found in fresh], dtype=np.int64))
            for found in _MERGE.finditer(text):
                if found.end() > len(rest) and len(sheet.merges) < MAX_MERGES:
                    sheet.merges.append((*place(found[1].decode()), *place(found[2].decode())))
            rest = piece[-_OVERLAP:]
    sheet.first_column = leftmost - 1 if leftmost < 1 << 20 else 0
    joined = np.concatenate(references) if references else np.zeros(0, dtype=np.int64)
    return sheet, rows * columns, joined, has_formula


def _iterparse(stream: Any, *tags: str) -> Any:
    return etree.iterparse(
        stream, events=("end",), tag=tags, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )


def _text_lengths(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    lengths: list[int] = []
    with archive.open(item) as stream:
        for _, element in _iterparse(stream, "{*}si"):
            lengths.append(sum(len(text) for text in element.itertext()))
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
    return np.array(lengths, dtype=np.int64)


def _without_result(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    with archive.open(item) as stream:
        for _, element in _iterparse(stream, "{*}c", "{*}row"):
            if element.tag.endswith("row"):
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
                continue
            names = {child.tag.rpartition("}")[2]: child for child in element}
            # an empty text is a result as well: it is written as such
            if "f" in names and "is" not in names and element.get("t") != "str":
                value = names.get("v")
                if (value is None or not value.text) and element.get("r"):
                    found.append(place(element.get("r")))
    return found


def _sheet_parts(archive: zipfile.ZipFile) -> dict[str, str]:
    """Name of each sheet → its part."""
    targets: dict[str, str] = {}
    parts = {name.lower(): name for name in archive.namelist()}
    if "xl/workbook.xml" not in parts or "xl/_rels/workbook.xml.rels" not in parts:
        return {}
    with archive.open(parts["xl/_rels/workbook.xml.rels"]) as stream:
        for _, element in _iterparse(stream, "{*}Relationship"):
            target = str(element.get("Target") or "")
            targets[str(element.get("Id"))] = target[1:] if target.startswith("/") else f"xl/{target}"
    found: dict[str, str] = {}
    with archive.open(parts["xl/workbook.xml"]) as stream:
        for _, element in _iterparse(stream, "{*}sheet"):
            relation = element.get(_RELATION) or element.get(_STRICT_RELATION)
            if relation in targets:
                found[str(element.get("name"))] = targets[str(relation)]
    return found


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number
