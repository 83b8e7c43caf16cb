"""Where the messages of a FIT sequence stand, without reading what they say.

Nearly all of an activity file is its ``record`` messages, which are wanted as columns; only the few others are wanted as
messages. :func:`without_records` gives a sound file of just those, so that nobody builds a dictionary for each second of
training (FIT protocol, "Record Header Byte": a message's size is known from the definition before it).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from fitdecode.utils import compute_crc

_RECORD = 20
_COMPRESSED, _DEFINITION, _DEVELOPER = 0x80, 0x40, 0x20


@dataclass(frozen=True)
class Thinned:
    """A sequence without its ``record`` messages, and how many it had."""

    data: bytes
    records: int


def without_records(part: bytes) -> Thinned | None:
    """One whole sequence (header, messages, CRC) without its ``record`` messages.

    None where it cannot be done: there are none, the messages do not fill the sequence exactly, or a message of another kind
    takes its time from the one before it (compressed-timestamp header), which may be a record. The CRC of ``part`` is not
    looked at.
    """
    if len(part) < 14 or part[0] < 12:
        return None
    at, end = part[0], part[0] + int.from_bytes(part[4:8], "little")
    if end + 2 != len(part):
        return None
    body = np.frombuffer(part, np.uint8)
    known: dict[int, tuple[int, bool]] = {}
    kept: list[bytes] = []
    since, records = at, 0
    while at < end:
        head = part[at]
        is_compressed = bool(head & _COMPRESSED)
        if not is_compressed and head & _DEFINITION:
            found = _definition(part, at, end)
            if found is None:
                return None
            at, known[head & 0x0F] = found
            continue
        size, is_record = known.get((head >> 5) & 0x03 if is_compressed else head & 0x0F, (0, False))
        if not size or (is_compressed and not is_record):
            return None
        if is_record:
            kept.append(part[since:at])
            count = _run(body[at:end:size], head, 0xE0 if is_compressed else 0xFF)
            records += count
            at += count * size
            since = at
        else:
            at += size
    if at != end or not records:
        return None
    kept.append(part[since:end])
    thin = b"".join(kept)
    header = struct.pack("<B3sI4s", 14, part[1:4], len(thin), b".FIT")
    whole = header + struct.pack("<H", compute_crc(header)) + thin
    return Thinned(whole + struct.pack("<H", compute_crc(whole)), records)


def _definition(part: bytes, at: int, end: int) -> tuple[int, tuple[int, bool]] | None:
    """Behind a definition message: (place, (size of its data messages with their header, whether they are records))."""
    fields = at + 6
    if fields > end:
        return None
    number = int.from_bytes(part[at + 3 : at + 5], "big" if part[at + 2] else "little")
    behind = fields + 3 * part[at + 5]
    size = 1 + sum(part[fields + 1 : behind : 3])
    if part[at] & _DEVELOPER:
        if behind >= end:
            return None
        own = behind + 1
        behind = own + 3 * part[behind]
        size += sum(part[own + 1 : behind : 3])
    return (behind, (size, number == _RECORD)) if behind <= end else None


def _run(heads: np.ndarray[tuple[int], np.dtype[np.uint8]], head: int, mask: int) -> int:
    """How many messages of the same kind and size follow one another; ``heads`` are the bytes where their headers would be."""
    looked, width = 1, 64
    while looked < len(heads):
        others = np.flatnonzero((heads[looked : looked + width] & mask) != (head & mask))
        if len(others):
            return looked + int(others[0])
        looked, width = looked + width, width * 4
    return len(heads)
