"""How the process gives memory back that it no longer needs."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
LARGE_BYTES = 8 * 1024 * 1024
"""Blocks from here on come from the system one by one and go back to it when they are freed."""
KEPT_BYTES = 32 * 1024 * 1024
"""Free memory that a heap keeps at its end. Given back and taken again for each small array, it costs more than the array."""


def give_back_large_blocks() -> bool:
    """Keep glibc from raising, as it does by itself, the size above which a freed block goes back to the system, and from
    trimming the end of a heap after each small one.

    Work in chunks frees blocks of many sizes; kept in the heap they fit the next chunk's so badly that the heap grows with the
    rows that have passed (22 bytes a row, measured). Returns whether there was a glibc to ask.
    """
    try:
        glibc = ctypes.CDLL(None)
        return bool(glibc.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES) and glibc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))
    except (AttributeError, OSError):  # another C library: nothing is changed
        return False
