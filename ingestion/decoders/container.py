"""Opening .gz and .zip with bounds, in memory, for every format.

Bounds: expanded size, ratio, number of entries, depth (a .gz in a .zip is opened, an archive in an archive is not). An
entry whose name could be a place outside (a parent folder, an absolute path, a link), whose name another entry has, or
that is encrypted or damaged is not read; it is named in the result, so that it can be refused alone.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from dataclasses import dataclass

from ingestion.decoders.base import MAX_EXPANDED_BYTES, refusal
from lake.errors import TiyuError

MAX_ENTRIES = 5_000
MAX_RATIO = 300
RATIO_FREE_BYTES = 32 * 1024 * 1024
"""A short text may pack a thousandfold; what unfolds to more than this may be MAX_RATIO times what it was packed to."""
MAX_NAME = 1_000
_STEP = 1 << 20


@dataclass
class Entry:
    """One file found in an object. ``problem`` says in Chinese why ``content`` could not be had."""

    name: str
    content: bytes
    problem: str | None = None
    is_packed: bool = False


def is_zip(content: bytes) -> bool:
    return content[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def is_gzip(content: bytes) -> bool:
    return content[:2] == b"\x1f\x8b"


def unpack(name: str, content: bytes, *, limit: int = MAX_EXPANDED_BYTES) -> list[Entry]:
    """Files in an object: itself, the inside of a .gz, or the entries of a .zip (which may be .gz), in the order of the
    archive. Folders, hidden files and what a Macintosh adds are no entries.

    Errors: TIYU-ING-0216 more than ``limit`` bytes, MAX_RATIO or MAX_ENTRIES inside.
    """
    if is_zip(content):
        return _unzip(name, content, limit)
    if is_gzip(content):
        entry = _gunzip(name, content, name, limit)
        if entry.problem is None and (is_zip(entry.content) or is_gzip(entry.content)):
            return [Entry(entry.name, b"", "压缩包内还有压缩包", is_packed=True)]
        return [entry]
    return [Entry(name, content)]


def _too_large(object_name: str) -> TiyuError:
    return refusal(
        "TIYU-ING-0216",
        "压缩包解开后过大或文件过多，疑似压缩炸弹",
        "请确认文件来源；确属正常数据的，请拆分后重新报送",
        object_name=object_name,
    )


def _exceeds(expanded: int, packed: int, limit: int) -> bool:
    return expanded > limit or (expanded > RATIO_FREE_BYTES and expanded > packed * MAX_RATIO)


def _gunzip(name: str, content: bytes, object_name: str, limit: int) -> Entry:
    inner = name[:-3] if name.lower().endswith(".gz") else name
    pieces: list[bytes] = []
    size = 0
    rest = content
    try:
        while rest:
            worker = zlib.decompressobj(31)
            data = rest
            while not worker.eof:
                piece = worker.decompress(data, _STEP)
                data = worker.unconsumed_tail
                size += len(piece)
                if _exceeds(size, len(content), limit):
                    raise _too_large(object_name)
                pieces.append(piece)
                if not piece and not data and not worker.eof:
                    raise zlib.error("truncated")
            rest = worker.unused_data
            if rest and not any(rest):
                break  # zero padding
    except zlib.error:
        return Entry(inner, b"".join(pieces), "压缩文件损坏或被截断", is_packed=True)
    return Entry(inner, b"".join(pieces), is_packed=True)


def _unzip(name: str, content: bytes, left: int) -> list[Entry]:
    entries: list[Entry] = []
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = archive.infolist()
    except Exception:  # zipfile raises many kinds on damaged input
        return [Entry(name, b"", "压缩包损坏或被截断", is_packed=True)]
    if len(members) > MAX_ENTRIES:
        raise _too_large(name)
    seen: set[str] = set()
    for member in members:
        leaf = member.filename.rsplit("/", 1)[-1]
        if member.is_dir() or (leaf.startswith(".") and leaf != "..") or member.filename.startswith("__MACOSX/"):
            continue
        problem = _name_problem(member, seen)
        seen.add(member.filename)
        pieces: list[bytes] = []
        size = 0
        if problem is None and member.flag_bits & 1:
            problem = "压缩包中的文件已加密"
        if problem is None:
            try:
                with archive.open(member) as stream:
                    while piece := stream.read(_STEP):
                        size += len(piece)
                        if _exceeds(size, member.compress_size, left):
                            raise _too_large(name)
                        pieces.append(piece)
            except TiyuError:
                raise
            except Exception:
                problem = "压缩包中的文件损坏"
        left -= size
        entry = Entry(member.filename, b"".join(pieces) if problem is None else b"", problem, is_packed=True)
        if problem is None and is_gzip(entry.content):
            entry = _gunzip(entry.name, entry.content, name, left)
            left -= len(entry.content)
        if entry.problem is None and (_is_archive(entry.content) or is_gzip(entry.content)):
            entry = Entry(entry.name, b"", "压缩包内还有压缩包", is_packed=True)
        entries.append(entry)
    return entries


def _is_archive(content: bytes) -> bool:
    """A zip that is not a workbook (whose list of parts comes with its content types)."""
    return is_zip(content) and b"[Content_Types].xml" not in content[-65_536:]


def _name_problem(member: zipfile.ZipInfo, seen: set[str]) -> str | None:
    name = member.filename
    parts = name.replace("\\", "/").split("/")
    if len(name) > MAX_NAME or name.startswith(("/", "\\")) or ".." in parts or parts[0][1:2] == ":":
        return "压缩包中的文件名指向包外"
    if any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in member.orig_filename):
        return "压缩包中的文件名含控制字符"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "压缩包中的文件是链接"
    return "压缩包中的文件名重复" if name in seen else None
