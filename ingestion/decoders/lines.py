"""Splitting many text objects into physical lines at once, with byte ranges, without a Python loop over lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Joined: TypeAlias = Callable[[Sequence[bytes | memoryview]], bytes]
"""Puts parts together (`lake.memory.Blocks`)."""

_BOMS = {"utf-8": b"\xef\xbb\xbf", "gb18030": b"\x84\x31\x95\x33"}


@dataclass(frozen=True)
class Piece:
    """A part of a large object, readable as if it were one. byte_shift, line_shift: what must be added to a byte position
    or line number in it to get that in the object (the latter where reasons name lines)."""

    content: bytes
    byte_shift: int
    line_shift: int = 0


@dataclass
class Lines:
    """Lines of a chunk of objects.

    buffer: the objects' bytes one after the other, each ended by a newline · data: the same as bytes in numpy ·
    start/end: byte range of each line in the buffer, without line end · object_no: index of the line's object ·
    line_no: 1-based physical line in its object · base: where each object starts in the buffer (after a byte-order
    mark, whose length is in ``skipped``).
    """

    buffer: bytes
    data: npt.NDArray[np.uint8]
    start: Ints
    end: Ints
    object_no: Ints
    line_no: Ints
    base: Ints
    skipped: Ints

    def byte_range(self, index: int) -> tuple[int, int]:
        """Byte range of a line in its object as received."""
        number = int(self.object_no[index])
        shift = int(self.skipped[number]) - int(self.base[number])
        return int(self.start[index]) + shift, int(self.end[index]) + shift

    def text_range(self, index: int | np.integer[Any]) -> bytes:
        return self.buffer[int(self.start[index]) : int(self.end[index])]


def split_lines(contents: list[bytes], encoding: str, *, with_marks: bool = True) -> Lines:
    """Split objects at LF or CRLF. Safe on raw bytes of UTF-8 and GB18030: 0x0A is never part of a character.

    with_marks: objects may begin with a byte-order mark, which is left out."""
    mark = _BOMS.get(encoding, b"") if with_marks else b""
    skipped = np.array([len(mark) if mark and item.startswith(mark) else 0 for item in contents], dtype=np.int64)
    pieces: list[bytes] = []
    base = np.zeros(len(contents), dtype=np.int64)
    position = 0
    for number, item in enumerate(contents):
        base[number] = position
        body = item[skipped[number] :] if skipped[number] else item
        pieces.append(body)
        position += len(body)
        if body and not body.endswith(b"\n"):
            pieces.append(b"\n")
            position += 1
    buffer = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    data = np.frombuffer(buffer, dtype=np.uint8)
    newline = places(data, 10)
    start = np.concatenate([np.zeros(1, np.int64), newline[:-1] + 1]) if len(newline) else newline
    end = newline.copy()
    if len(newline) and b"\r" in buffer:
        carriage = (end > start) & (data[np.maximum(end - 1, 0)] == 13)
        end -= carriage
    if len(contents) == 1:
        numbers = np.arange(1, len(start) + 1, dtype=np.int64)
        return Lines(buffer, data, start, end, np.zeros(len(start), np.int64), numbers, base, skipped)
    object_no = np.searchsorted(base, start, side="right").astype(np.int64) - 1
    # Empty objects share their base with the next one; searchsorted already names the last, which owns the bytes.
    first_line = np.searchsorted(start, base, side="left").astype(np.int64)
    line_no = np.arange(len(start), dtype=np.int64) - first_line[object_no] + 1
    return Lines(buffer, data, start, end, object_no, line_no, base, skipped)


_BLOCK = 128 * 1024
_WAITED_BYTES = 4 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024 * 1024
"""The longest line that is waited for: a record of that size is none, and what is not a text of lines has no line end at all."""


class LineTooLong(Exception):
    """A line is longer than MAX_LINE_BYTES; what came before it has been given."""


def cut_at_lines(
    pieces: Iterable[bytes], quote: bytes | None = None, size: int = 1
) -> Iterator[list[bytes | memoryview]]:
    """The same bytes cut anew behind line ends, so that a record lies in one piece, in pieces of about ``size`` bytes. A piece
    is given in parts, to be put together once, with what the caller has to add.

    With ``quote`` a cut is made only where the quotes before it are even, so that a quoted line break is no end of a
    record; where a long stretch has no such place (a stray quote) any line end will do. A line longer than a piece stays
    whole, up to MAX_LINE_BYTES; then LineTooLong is raised, and no more is read.
    """
    parts: list[bytes | memoryview] = []
    held = cut = quotes = 0  # bytes held, how many of them are whole lines, and the quotes behind those
    for piece in pieces:
        end = _last_end(piece, quote, quotes, held - cut + len(piece) > _WAITED_BYTES)
        if end:
            cut, quotes = held + end, 0
        quotes += _count(piece, quote, end) if quote else 0
        parts.append(piece)
        held += len(piece)
        too_long = held - cut > MAX_LINE_BYTES
        if cut and (held >= size or too_long):
            whole, parts = _parted(parts, cut)
            held, cut = held - cut, 0
            yield whole
        if too_long:
            raise LineTooLong
    if held:
        yield parts


def _parted(parts: list[bytes | memoryview], cut: int) -> tuple[list[bytes | memoryview], list[bytes | memoryview]]:
    """The first bytes of all parts, and the others."""
    behind: list[bytes | memoryview] = []
    total = sum(map(len, parts))
    while total - len(parts[-1]) >= cut:
        total -= len(parts[-1])
        behind.insert(0, parts.pop())
    last = memoryview(parts.pop())
    inside = len(last) - (total - cut)
    if inside < len(last):
        behind.insert(0, last[inside:])
    return [*parts, last[:inside]], behind


def _count(piece: bytes, byte: bytes, start: int = 0, end: int | None = None) -> int:
    """How often a byte occurs, most often not at all; `bytes.count` looks at each byte by itself."""
    end = len(piece) if end is None else end
    if piece.find(byte, start, end) < 0:
        return 0
    return int(np.count_nonzero(np.frombuffer(piece, dtype=np.uint8)[start:end] == byte[0]))


def places(data: npt.NDArray[np.uint8], byte: int) -> Ints:
    """Where a byte stands, found in blocks that fit into the processor's cache."""
    found = [np.flatnonzero(data[start : start + _BLOCK] == byte) + start for start in range(0, len(data), _BLOCK)]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def count_byte(content: bytes, byte: int) -> int:
    """How often a byte occurs; where it is often, faster than to look for each (`bytes.count`)."""
    data = np.frombuffer(content, dtype=np.uint8)
    blocks = (data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK))
    return sum(int(np.count_nonzero(block == byte)) for block in blocks)


def _last_end(piece: bytes, quote: bytes | None, before: int, anywhere: bool) -> int:
    """Offset behind the last line end of a piece at which the quotes are even; 0 for none (``anywhere``: then the last)."""
    last = end = piece.rfind(b"\n") + 1
    if not quote or not end:
        return end
    quotes = before + _count(piece, quote, 0, end)
    for _ in range(10_000):
        if quotes % 2 == 0:
            return end
        earlier = piece.rfind(b"\n", 0, end - 1) + 1
        if not earlier:
            break
        quotes -= _count(piece, quote, earlier, end)
        end = earlier
    return last if anywhere else 0


def undecodable(lines: Lines, encoding: str) -> npt.NDArray[np.bool_]:
    """Which lines hold a byte sequence that is not of ``encoding``. Costs one whole-buffer decode when all is well."""
    bad = np.zeros(len(lines.start), dtype=bool)
    if _decodes(lines.buffer, encoding):
        return bad
    ends = np.append(lines.base[1:], len(lines.buffer))
    for number in range(len(lines.base)):  # only now by object, and by line only inside the objects that fail
        if _decodes(lines.buffer[lines.base[number] : ends[number]], encoding):
            continue
        for index in np.flatnonzero(lines.object_no == number):
            bad[index] = not _decodes(lines.text_range(index), encoding)
    return bad


def _decodes(raw: bytes, encoding: str) -> bool:
    if encoding == "utf-8" and len(raw) < 2**31:
        bounds = pa.py_buffer(np.array([0, len(raw)], dtype=np.int32))
        try:
            pa.StringArray.from_buffers(1, bounds, pa.py_buffer(raw)).validate(full=True)
        except pa.ArrowInvalid:
            return False
        return True
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def blank(lines: Lines, white: bytes = b" \t\r") -> npt.NDArray[np.bool_]:
    """Which lines hold nothing but ``white``: spaces, tabs (unless they separate fields) and carriage returns."""
    first_byte = lines.data[lines.start] if len(lines.start) else lines.data[:0]
    candidate = np.isin(first_byte, np.frombuffer(white + b"\n", dtype=np.uint8))
    for index in np.flatnonzero(candidate):  # a line that begins with white space is rare
        candidate[index] = not lines.text_range(index).strip(white)
    return candidate


def gather(lines: Lines, keep: Ints) -> tuple[bytes, Ints]:
    """The kept lines with their line ends as one buffer, and the offset of each line in it (plus the end)."""
    return gather_ranges(lines, line_starts(lines), keep)


def line_starts(lines: Lines) -> Ints:
    """Offsets of all lines and of the end of the buffer: lines cover the buffer without gaps."""
    return np.append(lines.start, len(lines.buffer)).astype(np.int64)


def neighbours(bounds: Ints, keep: Ints) -> tuple[int, int] | None:
    """Byte range of the kept ranges where they follow each other without a gap (all but a header, say), else None."""
    if len(keep) and keep[-1] - keep[0] == len(keep) - 1 and (np.diff(keep) == 1).all():
        return int(bounds[keep[0]]), int(bounds[keep[-1] + 1])
    return None


def gather_ranges(lines: Lines, bounds: Ints, keep: Ints) -> tuple[bytes, Ints]:
    """The kept ranges among those that ``bounds`` cuts the buffer into (n + 1 offsets, from 0 to the end)."""
    if len(keep) == len(bounds) - 1:
        return lines.buffer, bounds
    length = np.diff(bounds)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(length[keep])])
    if (together := neighbours(bounds, keep)) is not None:
        return lines.buffer[together[0] : together[1]], offsets
    kept = np.zeros(len(length), dtype=bool)
    kept[keep] = True
    return lines.data[np.repeat(kept, length)].tobytes(), offsets
