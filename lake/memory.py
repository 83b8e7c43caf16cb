"""How the process takes memory from the system and gives it back."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

import numpy as np

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
LARGE_BYTES = 8 * 1024 * 1024
"""Blocks from here on come from the system one by one and go back to it when they are freed."""
KEPT_BYTES = 32 * 1024 * 1024
"""Free memory that a heap keeps at its end. Given back and taken again for each small array, it costs more than the array."""
HOLES_BYTES = 192 * 1024 * 1024
"""Free memory between what is in use that is kept for what comes next."""


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def give_back_large_blocks() -> bool:
    """Keep glibc from raising, as it does by itself, the size above which a freed block goes back to the system, and from
    trimming the end of a heap after each small one.

    Work in chunks frees blocks of many sizes; kept in the heap they fit the next chunk's so badly that the heap grows with the
    rows that have passed (22 bytes a row, measured). Returns whether there was a glibc to ask.
    """
    glibc = _glibc()
    return glibc is not None and bool(
        glibc.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES) and glibc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    )


def close_holes() -> bool:
    """Give free memory back from the middle of the heaps where much has gathered (between chunks of work). Returns whether it
    had."""
    glibc = _glibc()
    if glibc is None or glibc.mallinfo2().fordblks <= HOLES_BYTES:
        return False
    return bool(glibc.malloc_trim(0))


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    try:
        found = ctypes.CDLL(None)
        found.mallinfo2.restype = _Mallinfo
        found.malloc_trim.argtypes = [ctypes.c_size_t]
        return found if found.mallopt else None
    except (AttributeError, OSError):  # another C library: nothing is changed
        return None


class Blocks:
    """Large blocks of bytes that are used again and again.

    A block that comes from the system is cleared page by page while it is filled first, which takes far longer than to fill it
    (33 MB: 24 ms of 28, measured; more beside other work).
    """

    _SPARE_BYTES = 1024 * 1024

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    def joined(self, parts: Sequence[bytes | memoryview]) -> bytes:
        """The parts one after the other, as ``b"".join`` gives them; what is large stays as it is only until `give_back`."""
        size = sum(map(len, parts))
        if size < LARGE_BYTES:
            return b"".join(parts)
        block = self._free.pop() if self._free else bytearray(size + self._SPARE_BYTES)
        if len(block) < size:
            block.extend(bytes(size - len(block)))
        del block[size:]
        filled = np.frombuffer(block, dtype=np.uint8)
        position = 0
        for part in parts:
            filled[position : position + len(part)] = np.frombuffer(part, dtype=np.uint8)
            position += len(part)
        return cast("bytes", block)  # nobody changes it

    def give_back(self, block: bytes) -> None:
        """Say that a block of `joined` is not needed any more. One that an array still lies in is left to it."""
        if isinstance(block, bytearray):
            with suppress(BufferError):
                block.append(0)
                self._free.append(block)
