"""Key hashes that are too many for memory, in files of one batch's staging folder, read again a part at a time.

A file is what was put away at one time: Arrow's file format, each of its parts hashes of one day in ascending order, among which
a few are found without a look at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.decoders.base import RECORD_NO

KEY, SEQ = "_key", "_seq"
PLACE = pa.schema([(KEY, pa.uint64()), (SEQ, pa.int32()), (RECORD_NO, pa.int64())])
PART_ROWS = 256 * 1024
Hashes: TypeAlias = npt.NDArray[np.uint64]
Places: TypeAlias = npt.NDArray[np.int64]


class KeyFiles:
    """Key hashes with the place of their record (`PLACE`), by day; a day of None is one like the others."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._files = 0
        self._parts: dict[date | None, list[tuple[int, int]]] = {}
        self._forgotten: list[int] = []

    def put(self, rows_of: Mapping[date | None, pa.Table]) -> None:
        """Write rows by day. Raises OSError when the disk does not take them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        number = 0
        with pa.ipc.new_file(str(self._path(self._files)), PLACE) as file:
            for day, rows in rows_of.items():
                ordered = rows.take(pa.array(np.argsort(rows[KEY].to_numpy()))).combine_chunks()
                for part in ordered.to_batches(max_chunksize=PART_ROWS):
                    file.write_batch(part)
                    self._parts.setdefault(day, []).append((self._files, number))
                    number += 1
        self._files += 1

    def find(
        self, day: date | None, wanted: Hashes, *, every_day: bool = False, only_keys: bool = False
    ) -> Iterator[pa.Table]:
        """The rows of a day, or of all, that have any of these hashes (in ascending order, each once), part by part; without
        their places where only the hashes are asked for."""
        days = self._parts.values() if every_day else [self._parts.get(day, [])]
        # what is forgotten is told by its place
        fields = [0] if only_keys and not self._forgotten else None
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        opened, reader = -1, None
        for number, part in sorted(part for parts in days for part in parts):
            if reader is None or number != opened:
                opened, reader = number, pa.ipc.open_file(pa.OSFile(str(self._path(number))), options=options)
            rows = pa.Table.from_batches([reader.get_batch(part)])
            rows = rows.take(pa.array(positions_in_order(rows[KEY].to_numpy(), wanted)))
            if self._forgotten:
                rows = rows.filter(pc.invert(pc.is_in(rows[SEQ], pa.array(self._forgotten, pa.int32()))))
            yield rows

    def forget_object(self, seq: int) -> None:
        """Give the rows of an object no more, of which none come hereafter."""
        self._forgotten.append(seq)

    def _path(self, number: int) -> Path:
        return self._folder / f"keys-{number:06}.arrow"


def positions_in_order(keys: Hashes, wanted: Hashes) -> Places:
    """Where any of a few hashes stands among many; both are in ascending order, the few once each."""
    first = np.searchsorted(keys, wanted)
    count = np.searchsorted(keys, wanted, side="right") - first
    return np.repeat(first - (np.cumsum(count) - count), count) + np.arange(count.sum())
