"""Opening .gz and .zip with bounds, in memory."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass

from ingestion.decoders.base import MAX_EXPANDED_BYTES, refusal

MAX_ENTRIES = 5_000
_STEP = 1 << 20


@dataclass
class Entry:
    """One file found in an object. ``problem`` says in Chinese why ``content`` could not be had."""

    name: str
    content: bytes
    problem: str | None = None
    is_packed: bool = False


def unpack(name: str, content: bytes) -> list[Entry]:
    """Files in an object: itself, the inside of a .gz, or the entries of a .zip (which may be .gz).

    Errors: TIYU-ING-0216 more than MAX_EXPANDED_BYTES or MAX_ENTRIES inside.
    """
    if content[:4] == b"PK\x03\x04" or content[:4] == b"PK\x05\x06":
        return _unzip(name, content)
    if content[:2] == b"\x1f\x8b":
        return [_gunzip(name, content, name, MAX_EXPANDED_BYTES)]
    return [Entry(name, content)]


def _too_large(object_name: str) -> Exception:
    return refusal(
        "TIYU-ING-0216",
        "压缩包解开后过大或文件过多，疑似压缩炸弹",
        "请确认文件来源；确属正常数据的，请拆分后重新报送",
        object_name=object_name,
    )


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
                if size > limit:
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


def _unzip(name: str, content: bytes) -> list[Entry]:
    entries: list[Entry] = []
    left = MAX_EXPANDED_BYTES
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = archive.infolist()
    except Exception:  # zipfile raises many kinds on damaged input
        return [Entry(name, b"", "压缩包损坏或被截断", is_packed=True)]
    if len(members) > MAX_ENTRIES:
        raise _too_large(name)
    for member in members:
        leaf = member.filename.rsplit("/", 1)[-1]
        if member.is_dir() or leaf.startswith(".") or member.filename.startswith("__MACOSX/"):
            continue
        problem = "压缩包中的文件已加密" if member.flag_bits & 1 else None
        pieces: list[bytes] = []
        if problem is None:
            try:
                with archive.open(member) as stream:
                    while piece := stream.read(_STEP):
                        left -= len(piece)
                        if left < 0:
                            raise _too_large(name)
                        pieces.append(piece)
            except Exception as error:
                if getattr(error, "code", None) == "TIYU-ING-0216":
                    raise
                problem = "压缩包中的文件损坏"
        entry = Entry(member.filename, b"".join(pieces), problem, is_packed=True)
        if problem is None and entry.content[:2] == b"\x1f\x8b":
            entry = _gunzip(entry.name, entry.content, name, left)
            left -= len(entry.content)
        entries.append(entry)
    return entries
