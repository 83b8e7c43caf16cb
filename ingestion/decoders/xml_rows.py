"""Decoder ``xml``: the elements at one path of a document are the records, read one by one.

Options: ``record_path`` names of the elements from the root to the record (``/report/rows/row``) · ``namespaces`` prefix
→ address, for paths that name prefixes; a step without prefix means that name in no or any namespace.

A source field is a path inside the record: ``@id`` an attribute, ``name`` a child, ``place/name`` a deeper one,
``place/@code`` its attribute, ``.`` the record's own text. ``_record_no`` is the 1-based place of the record. Text is
given as sent, without the white space around it; an element that is empty or ``xsi:nil`` is null.

A document type declaration is refused before anything of it is used, so no entity is ever expanded, no address is ever
fetched, and texts, depth and attributes keep the parser's limits.
"""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pyarrow as pa
from lxml import etree

from ingestion.decoders.base import Decoded, DecodeIssue, Layout, empty_table, extra_fields, refusal
from ingestion.decoders.ndjson import with_origin
from lake.errors import TiyuError

OPTIONS: dict[str, type | tuple[type, ...]] = {"record_path": str, "namespaces": dict}
MAX_DEPTH = 64
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_INSTANCE = "{http://www.w3.org/2001/XMLSchema-instance}"
_STEP = re.compile(r"^(?:[\w.-]+:)?[\w.-]+$")
_HINT = "请数据源单位重新导出 XML 后报送；文件已留存，未入库任何一行"
_BLOCK = 1 << 16
_ROWS = 16_384


def decode_chunk(options: dict[str, Any], objects: list[tuple[str, str, bytes]], layout: Layout) -> Decoded:
    """Decode XML documents. Refused as a whole: not well-formed, or with a document type declaration (TIYU-ING-0222), no
    record path like the contract's (0212), a field in every record that the contract does not know (0211). A record with
    an unknown field on it alone, or with a field twice, is an issue."""
    steps = _steps(options)
    tables: list[pa.Table] = []
    issues: list[DecodeIssue] = []
    refusals: dict[str, TiyuError] = {}
    root_counts: dict[str, int] = {}
    for number, (sha, name, content) in enumerate(objects):
        try:
            table, record_no, found = _Document(steps, options, layout, name, sha).read(content)
        except TiyuError as error:
            refusals[sha] = error
            continue
        issues += found
        root_counts[sha] = table.num_rows + len(found)
        tables.append(with_origin(table, record_no, np.full(len(record_no), number, dtype=np.int64), objects))
    rows = pa.concat_tables(tables) if tables else empty_table(layout.fields)
    return Decoded({layout.table: rows}, issues, sum(root_counts.values()), root_counts, refusals)


def _steps(options: dict[str, Any]) -> list[str]:
    path = str(options.get("record_path", ""))
    steps = path.strip("/").split("/")
    if not path.startswith("/") or not all(_STEP.match(step) for step in steps):
        raise TiyuError(
            "TIYU-ING-0202", "契约中的 recordPath 应写作 /根元素/…/记录元素", "请修改契约", 2, option="recordPath"
        )
    return steps


class _Document:
    """One document being read."""

    def __init__(self, steps: list[str], options: dict[str, Any], layout: Layout, name: str, sha: str):
        self.steps = steps
        self.prefix_of = {address: prefix for prefix, address in (options.get("namespaces") or {}).items()}
        self.layout = layout
        self.name = name
        self.sha = sha
        self.record_no = 0
        self.issues: list[DecodeIssue] = []
        self.unknown: set[str] = set()
        self.unknown_records = 0
        self.kept: list[int] = []

    def read(self, content: bytes) -> tuple[pa.Table, np.ndarray[Any, Any], list[DecodeIssue]]:
        values: dict[str, list[str | None]] = {field: [] for field in self.layout.fields}
        kept: list[int] = []
        parts: list[pa.Table] = []
        path: list[str] = []
        matched = False
        parser = etree.XMLPullParser(
            events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
            remove_comments=True, remove_pis=True,
        )  # fmt: skip
        stream = io.BytesIO(content)
        try:
            while block := stream.read(_BLOCK):
                parser.feed(block)
                matched |= self._consume(parser, path, values, kept)
                if len(kept) >= _ROWS:
                    parts.append(_table(values))
                    for column in values.values():
                        column.clear()
                    self.kept += kept
                    kept.clear()
            parser.close()
            matched |= self._consume(parser, path, values, kept)
        except etree.XMLSyntaxError as error:
            place = {"line": error.lineno, "column": error.offset}
            raise refusal("TIYU-ING-0222", "文件不是格式良好的 XML", _HINT, object_name=self.name, **place) from None
        parts.append(_table(values))
        self.kept += kept
        if not matched:
            raise refusal(
                "TIYU-ING-0212",
                f"文件中没有契约约定的记录路径 /{'/'.join(self.steps)}",
                "请核对契约的 recordPath 与命名空间，或请数据源单位核对接口规范；文件已留存",
                object_name=self.name,
            )
        if self.record_no and self.unknown_records == self.record_no:
            raise extra_fields(self.name, sorted(self.unknown))
        return pa.concat_tables(parts), np.array(self.kept, dtype=np.int64), self.issues

    def _consume(self, parser: Any, path: list[str], values: dict[str, list[str | None]], kept: list[int]) -> bool:
        """Take what the parser has understood so far. Returns whether the place where records stand has been seen."""
        matched = False
        wanted = len(self.steps)
        for event, element in parser.read_events():
            if event == "start":
                if not path:
                    self._refuse_declaration(element)
                path.append(element.tag)
                if len(path) > MAX_DEPTH:
                    raise refusal("TIYU-ING-0222", "XML 嵌套过深", _HINT, object_name=self.name, limit=MAX_DEPTH)
                matched |= len(path) == wanted - 1 and self._is_at(path, self.steps[:-1])
                matched |= wanted == 1 and len(path) == 1 and self._is_at(path, self.steps)
                continue
            if len(path) == wanted and self._is_at(path, self.steps):
                self._record(element, values, kept)
            if len(path) <= wanted:  # what has been read, or is no record, is let go
                element.clear()
                parent = element.getparent()
                if parent is not None:
                    del parent[: parent.index(element)]
            path.pop()
        return matched

    def _refuse_declaration(self, root: Any) -> None:
        info = root.getroottree().docinfo
        if info.internalDTD is not None or info.doctype:
            raise refusal(
                "TIYU-ING-0222",
                "XML 含有文档类型声明（DTD），可能夹带实体，拒绝读取",
                "请数据源单位去掉 <!DOCTYPE …> 后重新报送；文件已留存，未入库任何一行",
                object_name=self.name,
            )

    def _is_at(self, path: list[str], steps: list[str]) -> bool:
        return all(self._same(step, tag) for step, tag in zip(steps, path, strict=True))

    def _same(self, step: str, tag: str) -> bool:
        return step == self._prefixed(tag) if ":" in step else step == etree.QName(tag).localname

    def _prefixed(self, tag: str) -> str:
        name = etree.QName(tag)
        prefix = self.prefix_of.get(name.namespace or "")
        return f"{prefix}:{name.localname}" if prefix else name.localname

    def _record(self, element: Any, values: dict[str, list[str | None]], kept: list[int]) -> None:
        self.record_no += 1
        found: dict[str, str | None] = {}
        repeated = self._collect(element, "", found)
        extra = [name for name in found if name not in values]
        if extra and not self.layout.allow_extra:
            self.unknown.update(extra)
            self.unknown_records += 1
            self._issue("decode.unknown_field", "含有契约未登记的字段")
            return
        self.layout.note_unknown(self.name, extra)
        if repeated:
            self._issue("decode.repeated_field", "的同一字段出现多次")
        else:
            for field, column in values.items():
                column.append(found.get(field))
            kept.append(self.record_no)

    def _collect(self, element: Any, before: str, found: dict[str, str | None]) -> bool:
        """Values of an element and what stands in it, by path. Returns whether one of them came twice."""
        repeated = False
        for tag, text in element.attrib.items():
            if not tag.startswith(_INSTANCE):
                found[f"{before}@{self._prefixed(tag)}"] = text or None
        own = "".join([element.text or "", *(child.tail or "" for child in element)]).strip()
        for child in element:
            path = before + self._prefixed(child.tag)
            if len(child) or any(not tag.startswith(_INSTANCE) for tag in child.attrib):
                repeated |= path in found or any(name.startswith(f"{path}/") for name in found)
                repeated |= self._collect(child, f"{path}/", found)
                text = "" if len(child) else (child.text or "").strip()
                if text or not len(child):
                    found[path] = text or None
                continue
            repeated |= path in found or any(name.startswith(f"{path}/") for name in found)
            nil = child.get(_NIL) in ("true", "1")
            found[path] = None if nil else (child.text or "").strip() or None
        if own and (not before or len(element)):
            found[f"{before}."] = own
        return repeated

    def _issue(self, rule_id: str, reason: str) -> None:
        where = f"第 {self.record_no} 条记录{reason}"
        self.issues.append(DecodeIssue(self.record_no, None, None, rule_id, where, None, self.sha))


def _table(values: dict[str, list[str | None]]) -> pa.Table:
    return pa.table({field: pa.array(column, pa.string()) for field, column in values.items()})
