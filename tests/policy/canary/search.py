"""Searches every byte: a container is opened, a columnar file read column by column, and what is inside searched again.

A file whose bytes are packed in a way this module does not know is an error, not a file without findings.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import sqlite3
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import duckdb

from tests.policy.canary.persons import Needles

MAX_DEPTH = 4
SERIES = 12
"""Length of the shortest series of values that counts as a signature."""
ZSTD = b"\x28\xb5\x2f\xfd"


PACKED = ("gzip", "bz2", "xz", "zip", "zlib", "sqlite value")
"""What is opened again; the other formats give values, which are searched once."""


class Unreadable(Exception):
    """Bytes that nobody here can look into."""


@dataclass
class Findings:
    """What was looked at and what was found: item → places."""

    files: int = 0
    bytes: int = 0
    decoded: Counter[str] = field(default_factory=Counter)
    """Container format → how many were opened."""
    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, other: Findings) -> None:
        """Sum up."""
        self.files += other.files
        self.bytes += other.bytes
        self.decoded += other.decoded
        for item, places in other.found.items():
            self.found.setdefault(item, []).extend(places)

    def except_for(self, allowed: Iterable[str]) -> dict[str, list[str]]:
        """Findings of items that are not allowed here, a few places each."""
        return {item: sorted(set(places))[:5] for item, places in self.found.items() if item not in set(allowed)}

    def __str__(self) -> str:
        opened = "、".join(f"{kind} {count}" for kind, count in sorted(self.decoded.items()))
        return f"{self.files} files, {self.bytes:,} bytes after decoding ({opened})"


class Search:
    """One search over files or bytes."""

    def __init__(self, needles: Needles) -> None:
        self.needles = needles

    def tree(self, root: Path, skip: Callable[[Path], bool] = lambda path: False) -> Findings:
        """Every file below a folder, its name included."""
        result = Findings()
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file() and not path.is_symlink() and not skip(path):
                result.add(self.file(path, path.relative_to(root).as_posix() if path != root else path.name))
        return result

    def file(self, path: Path, name: str | None = None) -> Findings:
        """One file."""
        result = self.blob(path.read_bytes(), name or path.name)
        result.files = 1
        return result

    def blob(self, data: bytes, name: str, depth: int = 0) -> Findings:
        """Bytes that came from somewhere, whatever is packed in them included."""
        if depth > MAX_DEPTH:
            raise Unreadable(f"{name}: packed more than {MAX_DEPTH} times")
        result = Findings()
        documents = [(name, data), (name, name.encode("utf-8", "replace"))]
        for kind, inner_name, inner in _opened(data, name):
            result.decoded[kind] += 1
            if kind in PACKED:
                result.add(self.blob(inner, f"{name}!{inner_name}", depth + 1))
            else:
                documents.append((f"{name}!{inner_name}", inner))
        result.bytes += sum(len(text) for _, text in documents)
        for (place, _), items in zip(documents, self.needles.found([text for _, text in documents]), strict=True):
            for item in items:
                result.found.setdefault(item, []).append(place)
        return result


def _opened(data: bytes, name: str) -> Iterator[tuple[str, str, bytes]]:
    """(format, name, bytes) of everything inside; nothing for plain bytes."""
    try:
        if data[:2] == b"\x1f\x8b":
            yield "gzip", "content", gzip.decompress(data)
        elif data[:3] == b"BZh":
            yield "bz2", "content", bz2.decompress(data)
        elif data[:6] == b"\xfd7zXZ\x00":
            yield "xz", "content", lzma.decompress(data)
        elif data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as packed:
                for entry in packed.infolist():
                    yield "zip", entry.filename, packed.read(entry)
        elif data[:4] == b"PAR1":
            yield from _parquet(data)
        elif data[:16] == b"SQLite format 3\x00":
            yield from _sqlite(data)
        elif data[8:12] == b"DUCK":
            yield from _duckdb(data)
        elif data[:4] == ZSTD:
            raise Unreadable(f"{name}: zstd")
        elif (inflated := _inflated(data)) is not None:
            yield "zlib", "content", inflated
        else:
            yield from _text(data)
    except (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError, duckdb.Error, sqlite3.DatabaseError) as error:
        raise Unreadable(f"{name}: {error}") from error


def _inflated(data: bytes) -> bytes | None:
    """What a bare zlib stream holds, None for other bytes (its head is short enough to stand elsewhere by chance)."""
    if data[:1] != b"\x78" or data[1:2] not in (b"\x01", b"\x5e", b"\x9c", b"\xda"):
        return None
    with suppress(zlib.error):
        return zlib.decompress(data)
    return None


def _text(data: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Texts with rows: the values of one column side by side, for what is only seen in a series of values."""
    head = data[:200].lstrip()
    if head[:1] in (b"{", b"["):
        fields: dict[str, list[str]] = {}
        for document in _documents(data):
            _gather(document, "", fields)
        for name, values in fields.items():
            yield "json field", name, "\n".join(values).encode("utf-8", "replace")
    elif head[:1] == b"<":
        for row in (rb"<[a-z]*:?([a-zA-Z]\w*)(?:\s[^<>]*)?>([^<>]+)</",):
            tags: dict[bytes, list[bytes]] = {}
            for tag, text in re.findall(row, data):
                tags.setdefault(tag, []).append(text)
            for tag, texts in tags.items():
                yield "markup tag", tag.decode(), b"\n".join(texts)
        cells = [
            re.findall(rb"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S) for row in re.findall(rb"<tr.*?</tr>", data, re.S)
        ]
        for number, column in enumerate(zip_longest(*cells, fillvalue=b"")):
            yield "markup column", str(number), b"\n".join(column)
    else:
        lines = data.splitlines()[:200_000]
        for sign in (b",", b"\t", "│".encode()):
            rows = [line.split(sign) for line in lines if sign in line]
            if len(rows) >= SERIES:
                for number, column in enumerate(zip_longest(*rows, fillvalue=b"")):
                    yield "text column", str(number), b"\n".join(column)


def _documents(data: bytes) -> Iterator[Any]:
    try:
        yield json.loads(data)
        return
    except ValueError:
        pass
    for line in data.splitlines():
        with suppress(ValueError):
            yield json.loads(line)


def _gather(value: Any, name: str, fields: dict[str, list[str]]) -> None:
    """Every value of a JSON document by the names that lead to it; keys are values too."""
    if isinstance(value, dict):
        fields.setdefault(f"{name}{{}}", []).extend(value)
        for key, inner in value.items():
            _gather(inner, f"{name}.{key}" if len(name) < 60 else name, fields)
    elif isinstance(value, list):
        for inner in value:
            _gather(inner, f"{name}[]", fields)
    elif value is not None:
        fields.setdefault(name, []).append(str(value))


def _columns(con: duckdb.DuckDBPyConnection, relation: str) -> Iterator[tuple[str, bytes]]:
    """Each column as text in stored order, values apart by one line break; instants in UTC, besides in Shanghai time."""
    for name, kind, *_ in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall():
        quoted = '"' + name.replace('"', '""') + '"'
        texts = [f"CAST({quoted} AS VARCHAR)"]
        if kind == "BLOB":
            texts.append(f"hex({quoted})")
        if kind.startswith("TIMESTAMP"):
            texts.append(f"CAST(timezone('Asia/Shanghai', CAST({quoted} AS TIMESTAMPTZ)) AS VARCHAR)")
        for text in texts:
            row = con.execute(f"SELECT string_agg({text}, chr(10)) FROM {relation}").fetchone()
            yield name, (row[0] if row and row[0] else "").encode()


def _session() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("SET timezone='UTC'; SET threads=1; SET preserve_insertion_order=true")
    return con


def _parquet(data: bytes) -> Iterator[tuple[str, str, bytes]]:
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, _session() as con:
        file.write(data)
        file.flush()
        for name, text in _columns(con, f"read_parquet('{file.name}', hive_partitioning=false)"):
            yield "parquet column", name, text


def _duckdb(data: bytes) -> Iterator[tuple[str, str, bytes]]:
    with tempfile.TemporaryDirectory() as folder, _session() as con:
        (Path(folder) / "x.duckdb").write_bytes(data)
        con.execute(f"ATTACH '{folder}/x.duckdb' AS opened (READ_ONLY)")
        described = con.execute(
            "SELECT 'table', schema_name, table_name, comment, sql FROM duckdb_tables() WHERE database_name = 'opened'"
            " UNION ALL SELECT 'view', schema_name, view_name, comment, sql FROM duckdb_views()"
            " WHERE database_name = 'opened' AND NOT internal ORDER BY ALL"
        ).fetchall()
        comments = con.execute("SELECT comment FROM duckdb_columns() WHERE database_name = 'opened'").fetchall()
        yield "duckdb catalogue", "catalogue", repr((described, comments)).encode()
        for kind, schema, table, *_ in described:
            if kind == "table":
                for column, text in _columns(con, f'opened."{schema}"."{table}"'):
                    yield "duckdb column", f"{schema}.{table}.{column}", text


def _sqlite(data: bytes) -> Iterator[tuple[str, str, bytes]]:
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        file.write(data)
        file.flush()
        con = sqlite3.connect(f"file:{file.name}?mode=ro&immutable=1", uri=True)
        con.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            for (table,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                cursor = con.execute(f'SELECT * FROM "{table}"')
                names = [entry[0] for entry in cursor.description]
                for name, values in zip(names, zip(*cursor.fetchall(), strict=True), strict=False):
                    for number, value in enumerate(v for v in values if isinstance(v, bytes)):
                        yield "sqlite value", f"{table}.{name}.{number}", value
                    text = "\n".join(
                        str(value) for value in values if value is not None and not isinstance(value, bytes)
                    )
                    yield "sqlite column", f"{table}.{name}", text.encode("utf-8", "surrogateescape")
        finally:
            con.close()


def kind_of(data: bytes) -> str:
    """The kind of file by its first bytes."""
    for kind, at, magic in (
        ("gzip", 0, b"\x1f\x8b"), ("zip", 0, b"PK\x03\x04"), ("parquet", 0, b"PAR1"), ("sqlite", 0, b"SQLite format 3\x00"),
        ("duckdb", 8, b"DUCK"),
    ):  # fmt: skip
        if data[at : at + len(magic)] == magic:
            return kind
    return "text"


def samples_by_kind(root: Path) -> dict[str, Path]:
    """One file of each kind below a folder."""
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size:
            with path.open("rb") as file:
                found.setdefault(kind_of(file.read(16)), path)
    return found
