"""What an object is: format, encoding, delimiter, where its header stands, and the settings by which its decoder reads it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import fastexcel
import polars as pl
from lxml import etree

from catalog import units
from ingestion import decoders
from ingestion.decoders import container, workbook
from ingestion.decoders.base import RECORD_NO
from ingestion.drafting import inside
from ingestion.drafting.most import is_most
from lake.errors import EXIT_USAGE, TiyuError

SAMPLE_BYTES = 4 << 20
"""A text file is looked at up to here; the rest is read by the decoder like any delivery."""
_DELIMITERS = (",", ";", "\t", "|")
_TOTAL = re.compile(r"^\W*(合计|总计|小计|共计|total|sum)", re.IGNORECASE)
_NUMBER = re.compile(r"^[+-]?[\d.,' ]*\d[\d.,' ]*%?$")
SEPARATOR = "/"
"""Between the levels of a header."""
FOOTER = "^\\W*(合计|总计|小计|共计|[Tt]otal|TOTAL|[Ss]um)"


@dataclass
class Recognised:
    """A recognised object.

    decoder: the contract's decoder settings as they are written (camelCase, with ``kind``). fields: source fields in order.
    rows: the records as texts, one column a field; numbers: their record numbers. refused: unreadable records, (record number, reason in Chinese). notes: what a
    person should look at. paths: fields that stand inside a record → where. lists: lists inside records, with their rows.
    """

    decoder: dict[str, Any]
    fields: tuple[str, ...]
    rows: pl.DataFrame
    refused: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)
    lists: list[RecognisedList] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)


@dataclass
class RecognisedList:
    """A list inside JSON records: its pointer, field → pointer in an element, and the elements as texts."""

    items: str
    paths: dict[str, str]
    rows: pl.DataFrame


def recognise(name: str, content: bytes, *, with_lists: bool = True) -> Recognised:
    """Tell what an object is and read its records. ``with_lists``: whether lists inside JSON records are taken out of them. Errors: TIYU-DRF-0001, 0002; a decoder's refusals as they are."""
    if not content.strip():
        raise _nothing(name)
    kind, inner_name, inner = _unpacked(name, content)
    shape = inside.Shape()
    notes = [f"文件装在 {kind} 压缩包里，解码器会自行拆开"] if kind else []
    if inner.startswith(b"PAR1"):
        settings, fields = {"kind": "parquet"}, _parquet_fields(inner)
    elif _is_workbook(inner):
        settings, fields, more = _workbook(inner_name, inner)
        notes += more
    elif _looks_like_xml(inner):
        settings, fields = _xml(inner_name, inner)
    elif inner.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        settings, records = _json(inner_name, inner)
        shape = inside.shape_of([item for item in records if isinstance(item, dict)], with_lists=with_lists)
        fields = tuple(shape.fields)
    else:
        settings, fields, more = _delimited(inner_name, inner)
        notes += more
    if not fields:
        raise _nothing(name)
    if kind:
        settings["container"] = kind
    rows, numbers, refused, lists = read(settings, fields, name, content, shape)
    paths = {item: path for item, path in shape.fields.items() if path is not None}
    notes += [f"“{item}”取自记录内部，按路径 {path} 成列" for item, path in paths.items()]
    notes += [f"记录内的列表 {item.items} 拆成子表，一项一行；任何一项不合规则，整条记录拒收" for item in lists]
    notes += [
        f"字段“{item}”里是对象或列表，形状不一或不是对象的列表，按 JSON 文本保留；要拆开请写 path 或子表"
        for item in shape.kept
    ]
    notes += [f"第 {number} 条记录无法读取：{reason}" for number, reason in refused[:10]]
    return Recognised(settings, fields, rows, refused, notes, paths, lists, numbers)


def read(
    settings: dict[str, Any], fields: tuple[str, ...], name: str, content: bytes, shape: inside.Shape
) -> tuple[pl.DataFrame, list[int], list[tuple[int, str]], list[RecognisedList]]:
    """The records of an object as the decoder of a contract with these settings would give them, their numbers, the
    unreadable ones, and the lists inside them."""

    def declared(table: str, columns: dict[str, str | None], items: str | None = None) -> SimpleNamespace:
        properties = [SimpleNamespace(source_name=name, derive=None, path=path) for name, path in columns.items()]
        return SimpleNamespace(
            is_root=items is None, table=table, name=table, properties=properties, drift=None, renames=(), items=items
        )

    root = declared("draft", {item: shape.fields.get(item) for item in fields})
    listed = [declared(item.items, dict(item.paths), item.items) for item in shape.lists]
    contract = SimpleNamespace(id="draft.draft", objects=[root, *listed], root=root)
    result = decoders.decode(
        settings, content, object_name=name, object_sha256=hashlib.sha256(content).hexdigest(), contract=contract
    )
    table = result.tables.get("draft")
    frame = pl.DataFrame(table) if table is not None else pl.DataFrame(schema=dict.fromkeys(fields, pl.String))
    lists = [
        RecognisedList(item.items, item.paths, pl.DataFrame(result.tables[item.items]).select(list(item.paths)))
        for item in shape.lists
    ]
    numbers = table[RECORD_NO].to_pylist() if table is not None else []
    return frame.select(fields), numbers, [(issue.record_no, issue.reason_zh) for issue in result.issues], lists


def _unpacked(name: str, content: bytes) -> tuple[str, str, bytes]:
    """The kind of container an object is ("" when it is none), and name and bytes of its first readable entry."""
    if container.is_gzip(content):
        kind = "gzip"
    elif container.is_zip(content) and not _is_workbook(content):
        kind = "zip"
    else:
        return "", name, content
    entries = [entry for entry in container.unpack(name, content) if entry.problem is None]
    if not entries:
        raise _nothing(name)
    return kind, entries[0].name, entries[0].content


def _is_workbook(content: bytes) -> bool:
    """A workbook is a zip itself; it names its list of content types near its beginning or in its directory at the end."""
    return workbook.is_old(content) or b"[Content_Types].xml" in content[:8192] + content[-65_536:]


def _nothing(name: str) -> TiyuError:
    return TiyuError(
        "TIYU-DRF-0002", "文件里没有找到带表头的数据", "换一个至少有表头和一行数据的样例文件", EXIT_USAGE, file=name
    )  # fmt: skip


# ------------------------------------------------------------------ delimited text
def _delimited(name: str, content: bytes) -> tuple[dict[str, Any], tuple[str, ...], list[str]]:
    encoding, text = text_of(name, content)
    delimiter = _delimiter(text)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    lines = _line_numbers(text, delimiter)
    header = _header(rows)
    if header is None:
        raise _nothing(name)
    names = [cell.strip("\ufeff \t\u3000") for cell in rows[header]]
    while names and not names[-1]:
        names.pop()
    settings: dict[str, Any] = {"kind": "csv", "encoding": encoding, "delimiter": delimiter}
    notes = []
    first_filled = next((n for n, row in enumerate(rows) if any(cell.strip() for cell in row)), 0)
    if header != first_filled:
        settings["headerRow"] = lines[header]
        notes.append(f"表头在第 {lines[header]} 行，上面的行当作标题略过")
    body = [row for row in rows[header + 1 :] if any(cell.strip() for cell in row)]
    if body and (found := _unit_row(body[0], body[1:], names)):
        settings["unitRow"] = found
        notes.append(_unit_note(found))
        body = body[1:]
    if body and _TOTAL.match(next((cell for cell in body[-1] if cell.strip()), "")):
        settings["footerPattern"] = FOOTER
        notes.append("末尾的合计行不作为数据")
    return settings, tuple(names), notes


def text_of(name: str, content: bytes) -> tuple[str, str]:
    """The encoding of a text (as a contract names it) and the text. Errors: TIYU-DRF-0001 none fits."""
    for mark, label, codec in (
        (b"\xef\xbb\xbf", "utf-8", "utf-8-sig"),
        (b"\xff\xfe", "utf-16", "utf-16"),
        (b"\xfe\xff", "utf-16", "utf-16"),
    ):
        if content.startswith(mark):
            return label, _cut(content).decode(codec, "ignore")
    sample = _cut(content)
    zeros = sample.count(0)
    if zeros > len(sample) // 4:
        label = "utf-16-le" if sample[1::2].count(0) > sample[0::2].count(0) else "utf-16-be"
        return label, sample.decode(label, "ignore")
    if zeros:
        raise TiyuError(
            "TIYU-DRF-0001", "不认识这种文件格式", "支持 CSV、XLSX、XLS、JSON、NDJSON、XML、Parquet 及其 zip、gzip 包", EXIT_USAGE,
            file=name,
        )  # fmt: skip
    for label in ("utf-8", "gb18030"):
        text = _decoded(sample, label, whole=len(sample) == len(content))
        if text is not None and (label == "utf-8" or _is_chinese(text)):
            return label, text
    return "windows-1252", sample.decode("cp1252", "replace")


def _cut(content: bytes) -> bytes:
    """Whole lines of at most the sample's size."""
    if len(content) <= SAMPLE_BYTES:
        return content
    return content[: content.rfind(b"\n", 0, SAMPLE_BYTES) + 1] or content[:SAMPLE_BYTES]


def _decoded(sample: bytes, codec: str, *, whole: bool) -> str | None:
    try:
        return sample.decode(codec)
    except UnicodeDecodeError as error:
        # a sample may end in the middle of a character
        return sample[: error.start].decode(codec) if not whole and error.start > len(sample) - 8 else None


def _is_chinese(text: str) -> bool:
    """Whether a text read as GB18030 is Chinese: accented Latin letters also form characters, but rare ones."""
    foreign = [char for char in text if ord(char) > 127]
    if not foreign:
        return True
    common = 0
    for char in set(foreign):
        try:
            char.encode("gb2312")
            common += 1
        except UnicodeEncodeError:
            continue
    return common >= 0.9 * len(set(foreign))


def _delimiter(text: str) -> str:
    """The delimiter by which most rows have the same number of fields, and more than one."""
    best, score = ",", 0.0
    lines = text[: 1 << 20]
    for delimiter in _DELIMITERS:
        rows = [row for row in csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter) if row]
        width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
        if width > 1 and (value := count / len(rows) + width / 1000) > score:
            best, score = delimiter, value
    return best


def _line_numbers(text: str, delimiter: str) -> list[int]:
    """1-based physical line on which each row begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    numbers, before = [], 0
    for _ in reader:
        numbers.append(before + 1)
        before = reader.line_num
    return numbers


def _header(rows: list[list[str]]) -> int | None:
    """The first row that names all columns: as wide as most rows, every cell filled, no two alike, no number among them."""
    filled = [len([cell for cell in row if cell.strip()]) for row in rows]
    if not rows or not any(filled):
        return None
    usual = Counter(count for count in map(len, rows) if count).most_common(1)[0][0]
    for number, row in enumerate(rows):
        cells = [cell.strip() for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if len(cells) < max(1, usual - 2) or (len(cells) < 2 <= usual) or not all(cells):
            continue
        if len(set(cells)) == len(cells) and not any(_NUMBER.match(cell) for cell in cells):
            return number
    return None


def _unit_row(row: list[str], below: list[list[str]], names: list[str]) -> dict[str, str]:
    """Units by column when a row under the header holds nothing else: known units over columns of numbers, blanks elsewhere."""
    found = {}
    for place, name in enumerate(names):
        cell = row[place].strip() if place < len(row) else ""
        if not cell:
            continue
        values = [line[place].strip() for line in below if place < len(line) and line[place].strip()]
        numbers = sum(bool(_NUMBER.match(value)) for value in values)
        agree = numbers == len(values) or is_most(numbers / len(values), len(values))
        if not values or not agree or _NUMBER.match(cell):
            return {}
        if not units.is_known(cell) and len(cell) > 8:
            return {}
        found[name] = cell
    return found


def _unit_note(found: dict[str, str]) -> str:
    strange = "、".join(name for name, unit in found.items() if not units.is_known(unit))
    rest = f"；单位不在单位表内的列：{strange}，请换成表内的写法" if strange else ""
    return f"表头下一行是计量单位，不是数据；已写入各列的 unit，请核对{rest}"


# ------------------------------------------------------------------ nested formats
def _json(name: str, content: bytes) -> tuple[dict[str, Any], list[Any]]:
    """The settings by which a JSON object is read, and its first records."""
    lines = [line for line in content.lstrip(b"\xef\xbb\xbf").splitlines() if line.strip()]
    records: list[Any] = []
    if len(lines) > 1 or lines[0].lstrip().startswith(b"{"):
        try:
            records = [json.loads(line) for line in lines[:2000]]
        except ValueError:
            records = []
        if len(records) > 1 and all(isinstance(item, dict) for item in records):
            return {"kind": "ndjson"}, records
    try:
        whole = json.loads(content)
    except ValueError:
        if records or lines[0].lstrip().startswith(b"{"):
            good = []
            for line in lines[:2000]:
                try:
                    good.append(json.loads(line))
                except ValueError:
                    continue
            if len(good) > len(lines) // 2:
                return {"kind": "ndjson"}, good
        raise TiyuError(
            "TIYU-DRF-0001", "文件像 JSON，但不是完整合法的 JSON", "核对文件是否完整", EXIT_USAGE, file=name
        ) from None
    path, items = _longest_list(whole)
    if items is None:
        if isinstance(whole, dict):
            return {"kind": "ndjson"}, [whole]
        raise _nothing(name)
    return {"kind": "json_items", "itemsPath": path}, items[:2000]


def _longest_list(value: Any, path: str = "", depth: int = 0) -> tuple[str, list[Any] | None]:
    """Where in a document its records are: the list of objects with the most members, not inside another such list."""
    if isinstance(value, list):
        return (path, value) if value and all(isinstance(item, dict) for item in value) else (path, None)
    best: tuple[str, list[Any] | None] = (path, None)
    if isinstance(value, dict) and depth < 6:
        for key, member in value.items():
            found = _longest_list(member, f"{path}.{key}" if path else key, depth + 1)
            if found[1] is not None and len(found[1]) > len(best[1] or ()):
                best = found
    return best


def _looks_like_xml(content: bytes) -> bool:
    return content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def _xml(name: str, content: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The path that most elements with content of their own share, and the fields below it."""
    paths: Counter[str] = Counter()
    fields: dict[str, dict[str, None]] = {}
    stack: list[str] = []
    try:
        for event, element in etree.iterparse(
            io.BytesIO(content),
            events=("start", "end"),
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
        ):
            if event == "start":
                stack.append(etree.QName(element).localname)
                continue
            path = "/" + "/".join(stack)
            if len(element) or element.attrib:
                paths[path] += 1
                found = fields.setdefault(path, {})
                found.update(dict.fromkeys(f"@{key}" for key in element.attrib))
                found.update(dict.fromkeys(etree.QName(child).localname for child in element if not len(child)))
            stack.pop()
            if element.getroottree().docinfo.doctype:
                break
    except etree.XMLSyntaxError:
        raise TiyuError(
            "TIYU-DRF-0001",
            "文件像 XML，但不是完整合法的 XML",
            "核对文件是否完整、编码是否如其声明",
            EXIT_USAGE,
            file=name,
        ) from None
    deep = [path for path in paths if path.count("/") > 1]
    if not deep:
        raise _nothing(name)
    best = max(deep, key=lambda path: (paths[path], len(fields[path])))
    return {"kind": "xml", "recordPath": best}, tuple(fields[best])


def _parquet_fields(content: bytes) -> tuple[str, ...]:
    import pyarrow.parquet as pq

    return tuple(pq.ParquetFile(io.BytesIO(content)).schema_arrow.names)


# ------------------------------------------------------------------ workbooks
def _workbook(name: str, content: bytes) -> tuple[dict[str, Any], tuple[str, ...], list[str]]:
    """The header of the first sheet that has one, and the other sheets laid out alike."""
    try:
        book = fastexcel.read_excel(content)
    except Exception as error:
        raise TiyuError(
            "TIYU-DRF-0001",
            "工作簿打不开",
            "核对文件是否损坏或加密",
            EXIT_USAGE,
            file=name,
            reason=type(error).__name__,
        ) from None
    found: list[tuple[str, int, int, tuple[str, ...]]] = []
    for sheet in book.sheet_names[:20]:
        rows = _cells(book, sheet)
        header = _header(rows)
        two = _two_levels(rows)
        if two is not None and (header is None or two[0] < header):
            found.append((sheet, two[0] + 1, 2, two[1]))
        elif header is not None:
            names = [cell.strip() for cell in rows[header]]
            found.append((sheet, header + 1, 1, tuple(names[: len(names) - [*map(bool, reversed(names))].index(True)])))
    if not found:
        raise _nothing(name)
    first, row, levels, fields = found[0]
    alike = [item[0] for item in found if item[1:] == found[0][1:]]
    settings: dict[str, Any] = {"kind": "xlsx"}
    notes = []
    if len(alike) > 1:
        settings["sheets"] = "^(" + "|".join(map(re.escape, alike)) + ")$"
        notes.append(f"{len(alike)} 张工作表版式相同，合为一个来源；以后新增的表请改 sheets 的写法")
    else:
        settings["sheet"] = first
    if others := [sheet for sheet in book.sheet_names if sheet not in alike]:
        notes.append(f"未读取的工作表 {len(others)} 张")
    if row > 1:
        settings["headerRow"] = row
        notes.append(f"表头在第 {row} 行，上面的行当作标题略过")
    if levels > 1:
        settings |= {"headerRows": levels, "headerSeparator": SEPARATOR}
        notes.append("表头有两层，列名由上下两层连成")
    rows = [line for line in _cells(book, first)[row + levels - 1 :] if any(line)]
    if rows and (units_found := _unit_row(rows[0], rows[1:], list(fields))):
        settings["unitRow"] = units_found
        notes.append(_unit_note(units_found))
    if rows and _TOTAL.match(next((cell for cell in rows[-1] if cell.strip()), "")):
        settings["footerPattern"] = FOOTER
        notes.append("末尾的合计行不作为数据")
    return settings, fields, notes


def _cells(book: fastexcel.ExcelReader, sheet: str) -> list[list[str]]:
    """The texts of a sheet's first rows."""
    grid = book.load_sheet(sheet, header_row=None, n_rows=2000, dtypes="string").to_polars()
    return [["" if cell is None else str(cell) for cell in line] for line in grid.iter_rows()]


def _two_levels(rows: list[list[str]]) -> tuple[int, tuple[str, ...]] | None:
    """A header of two rows: texts above with gaps, and texts below exactly where several columns share one above."""
    for number in range(min(len(rows) - 2, 20)):
        above, below = ([cell.strip() for cell in rows[number + shift]] for shift in (0, 1))
        if (
            sum(map(bool, above)) < 2
            or not any(below)
            or all(above)
            or any(_NUMBER.match(cell) for cell in (*above, *below) if cell)
        ):
            continue
        carried, names = "", []
        for upper, lower in zip(above, below, strict=True):
            carried = upper or (carried if lower else "")
            names.append(SEPARATOR.join(part for part in (carried, lower) if part))
        if (
            all(names)
            and len(set(names)) == len(names)
            and all(lower or upper for upper, lower in zip(above, below, strict=True))
        ):
            return number, tuple(names)
    return None
