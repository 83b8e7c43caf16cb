"""What all places of files have in common: which files are taken, when a file is finished, how many make a batch.

Delivery order is the order of names: the sources put date and hour into names. A file is *settled* when its size and
stamp stay the same over a short look, so a file that is still being written waits for the next batch; one that changes
or vanishes while it is read is left out and waits as well. Listings are read as a stream: only the files of one batch
are held, whatever the number of files in the place.
"""

from __future__ import annotations

import fnmatch
import heapq
import io
import mimetypes
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from ingestion.connectors.base import FetchedObject, ObjectChanged, Reach, unavailable

#: Files of one batch; more wait for the next one. Bounds the memory of a listing.
BATCH_FILES = 50_000
MAX_OBJECT_BYTES = 2 << 30
"""Bytes of one file; a larger one is told and left where it is."""
LONGEST_NAME = 1024

_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart", ".swp")
_MEDIA_TYPES = {
    ".ndjson": "application/x-ndjson",
    ".csv": "text/csv",
    ".json": "application/json",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".parquet": "application/vnd.apache.parquet",
    ".fit": "application/vnd.ant.fit",
    ".tcx": "application/vnd.garmin.tcx+xml",
    ".gpx": "application/gpx+xml",
    ".gz": "application/gzip",
    ".zip": "application/zip",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a listing. name: printable, below the place · size: bytes · stamp: changes with the content (time of change
    in nanoseconds or seconds, or an ETag) · written_at: Unix seconds by the place's clock, None when a file appears whole ·
    where: how the place finds it again.
    """

    name: str
    size: int
    stamp: str
    written_at: float | None
    where: Any

    @property
    def signature(self) -> str:
        """What tells that the file was seen before."""
        return f"{self.name}|{self.size}|{self.stamp}"


class FilePlace(ABC):
    """A connector over a place of files. Subclasses list, look and open; the rules are here."""

    def __init__(
        self,
        is_seen: Callable[[str], bool],
        *,
        pattern: str,
        settle_seconds: float,
        skew_seconds: float,
        max_object_bytes: int,
    ):
        self._is_seen = is_seen
        self._pattern = pattern
        self._settle_seconds = settle_seconds
        self._skew_seconds = skew_seconds
        self._max_object_bytes = max_object_bytes
        self._state: dict[str, Any] | None = None

    @classmethod
    def reach(cls, options: dict[str, Any]) -> Reach:
        """Files that are still there, chosen by the date in their path."""
        return "dated"

    @abstractmethod
    def _entries(self) -> Iterator[Entry]:
        """Files of the pattern, in any order, as a stream."""

    @abstractmethod
    def _now(self, entry: Entry) -> tuple[int, str] | None:
        """Size and stamp of the file at this moment, None when it is gone."""

    @abstractmethod
    def _open(self, entry: Entry) -> BinaryIO:
        """The file's content. Raises :class:`ObjectChanged` when it is gone."""

    def fetch(self, state: dict[str, Any], *, max_bytes: int) -> Iterator[FetchedObject]:
        """Settled files that ``is_seen`` does not know by signature, sorted by name, bounded by ``max_bytes``.

        Errors: TIYU-ING-0110 the place cannot be listed · 0111 a file cannot be read · 0112 (:class:`ObjectChanged`) a file
        changed or went away while it was read; it waits · 0113 a file is larger than allowed, told when all others are
        taken.
        """
        self._state = None
        waiting = _Counted(entry for entry in self._entries() if not self._is_seen(entry.signature))
        found = heapq.nsmallest(BATCH_FILES, waiting, key=lambda entry: entry.name)
        more = waiting.count > len(found)
        allowed = [entry for entry in found if entry.size <= self._max_object_bytes]
        refused = next((entry for entry in found if entry.size > self._max_object_bytes), None)
        settled = self._settled(allowed)
        if refused is not None and not settled:
            raise unavailable(
                "TIYU-ING-0113",
                "数据文件过大，未收取",
                "请数据源单位拆分后重新报送，并移走原文件；其他文件已照常收取",
                object=leaf(refused.name),
                size=refused.size,
                limit=self._max_object_bytes,
            )
        handed_out = 0
        for entry in settled:
            if handed_out and handed_out + entry.size > max_bytes:
                more = True
                break
            handed_out += max(entry.size, 1)
            yield FetchedObject(
                entry.name, media_type(entry.name), entry.size, partial(self._checked, entry), entry.signature
            )
        self._state = {key: state[key] for key in state if key not in ("more", "growing_count")}
        # a file that is too large is told in a batch of its own, behind all others
        self._state["more"] = more or (refused is not None and handed_out > 0)
        if len(settled) < len(allowed):
            self._state["growing_count"] = len(allowed) - len(settled)

    def next_state(self) -> dict[str, Any]:
        if self._state is None:
            raise RuntimeError("next_state is valid after the iterator of fetch is exhausted")
        return dict(self._state)

    def _settled(self, found: list[Entry]) -> list[Entry]:
        now = time.time()
        window = self._settle_seconds + self._skew_seconds
        fresh = [entry for entry in found if entry.written_at is not None and abs(now - entry.written_at) < window]
        if not fresh or not self._settle_seconds:
            return found
        age = 0.0 if self._skew_seconds else now - max(entry.written_at or now for entry in fresh)
        time.sleep(min(self._settle_seconds, max(0.0, self._settle_seconds - age)))
        growing = {entry.name for entry in fresh if self._now(entry) != (entry.size, entry.stamp)}
        return [entry for entry in found if entry.name not in growing]

    def _checked(self, entry: Entry) -> BinaryIO:
        return _Checked(self._open(entry), entry, self._now)  # type: ignore[return-value]


class _Checked(io.RawIOBase):
    """The content of a file, given only if it is whole: as long as listed, and with the same stamp when it ends."""

    def __init__(self, stream: BinaryIO, entry: Entry, now: Callable[[Entry], tuple[int, str] | None]):
        self._stream, self._entry, self._now = stream, entry, now
        self._size = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        data = self._stream.read(size)
        self._size += len(data)
        if self._size > self._entry.size or (size and not data and not self._is_whole()):
            raise ObjectChanged(leaf(self._entry.name))
        return data

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _is_whole(self) -> bool:
        return self._size == self._entry.size and self._now(self._entry) == (self._entry.size, self._entry.stamp)


class _Counted:
    """Passes entries through and counts them."""

    def __init__(self, entries: Iterable[Entry]):
        self._entries = entries
        self.count = 0

    def __iter__(self) -> Iterator[Entry]:
        for entry in self._entries:
            self.count += 1
            yield entry


def media_type(name: str) -> str:
    """Media type by the end of a name."""
    known = _MEDIA_TYPES.get(os.path.splitext(name)[1].lower())
    return known or mimetypes.guess_type(name)[0] or "application/octet-stream"


def leaf(name: str) -> str:
    """The last part of a name: folders may be named after athletes, and messages reach logs."""
    return name.rsplit("/", 1)[-1][:200]


def is_ignored(name: str) -> bool:
    """Whether the last part of a name says that the file is hidden or not finished."""
    return name.startswith((".", "~$")) or name.lower().endswith(_UNFINISHED)


def fixed_folder(pattern: str) -> list[str]:
    """The leading folders of a pattern that hold no wildcard."""
    parts = pattern.split("/")[:-1]
    return parts[: next((number for number, part in enumerate(parts) if set(part) & set("*?[")), len(parts))]


def matches(name: str, pattern: str) -> bool:
    """Glob over path parts: ``*`` stays within one part, ``**`` spans any number of parts, also none."""
    return _match_parts(name.split("/"), pattern.split("/"))


def _match_parts(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_match_parts(parts[skip:], patterns[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _match_parts(parts[1:], patterns[1:])
