"""Hashes of the keys of a batch's rows: which key came before, and where its first record stands.

A hash is a number, nothing of the row. Those that came last are held in memory, the others in files (`ingestion.key_files`),
so memory does not grow with the batch.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.decoders.base import RECORD_NO
from ingestion.key_files import KEY, PLACE, SEQ, Hashes, KeyFiles, Places

HELD_BYTES = 16 * 1024 * 1024
"""Hashes held in memory with their places; what is above half of it then goes into a file."""
SEEN_BYTES = 64 * 1024 * 1024
_ROW_BYTES = 8 + 4 + 8
_TOGETHER_ROWS = 256 * 1024
_RECENT = 8


class KeyHashes:
    """Key hashes with the place of their record: that of its object in the batch (`SEQ`) and its number (`RECORD_NO`).

    A day is given where rows of the same key have the same date: then only those of the day are looked at. None: all.
    ``folder`` is where files may be made; the caller removes it.
    """

    def __init__(self, folder: Path):
        self._files = KeyFiles(folder)
        self._held: deque[tuple[date | None, pa.Table]] = deque()
        self._held_bytes = 0
        self._seen: OrderedDict[date | None, Seen] = OrderedDict()
        self._asked = 0

    def add(self, day: date | None, rows: pa.Table) -> Hashes:
        """Take the hashes of new rows (columns `KEY`, `SEQ`, `RECORD_NO`); returns those that are repeated among them or came
        before."""
        keys = np.sort(rows[KEY].to_numpy())
        repeated = np.concatenate([repeated_within(keys), self._came_before(day, keys)])
        self._hold(day, rows.select(PLACE.names).cast(PLACE))
        if self._held_bytes > HELD_BYTES:
            self._put_away()
        return repeated

    def _hold(self, day: date | None, rows: pa.Table) -> None:
        """Keep rows in memory, a few of them with those before, so that looking through all does not take longer the smaller
        the chunks are in which they came."""
        self._held_bytes += rows.num_rows * _ROW_BYTES
        while self._held and self._held[-1][0] == day and len(self._held[-1][1]) <= min(len(rows), _TOGETHER_ROWS):
            rows = pa.concat_tables([self._held.pop()[1], rows]).combine_chunks()
        self._held.append((day, rows))

    def forget_object(self, seq: int) -> None:
        """Take the hashes of an object's rows away."""
        self._files.forget_object(seq)
        others = [(day, rows.filter(pc.not_equal(rows[SEQ], pa.scalar(seq, pa.int32())))) for day, rows in self._held]
        self._held = deque(others)
        self._held_bytes = sum(rows.num_rows * _ROW_BYTES for _, rows in self._held)

    def first_places(self, day: date | None, keys: pa.Array) -> pl.DataFrame:
        """Where the first record of each of these hashes stands: `KEY`, `SEQ`, `RECORD_NO`."""
        found = [PLACE.empty_table(), *self._found(day, np.sort(keys.to_numpy()))]
        places: pl.DataFrame = pl.from_arrow(pa.concat_tables(found))  # type: ignore[assignment]
        return places.sort(SEQ, RECORD_NO).unique(KEY, keep="first", maintain_order=True)

    def _came_before(self, day: date | None, keys: Hashes) -> Hashes:
        """Those of the hashes (in ascending order) that there were before; from now on there are all of them."""
        seen = self._seen.pop(day, None) or Seen()
        self._seen[day] = seen  # the last one
        maybe = np.unique(keys[seen.maybe(keys)])
        seen.add(keys)
        self._asked += 1
        seen.last_asked = self._asked
        self._forget()
        if not len(maybe):
            return maybe
        found = [rows[KEY].to_numpy() for rows in self._found(day, maybe, only_keys=True)]
        return np.unique(np.concatenate([maybe[:0], *found]))

    def _forget(self) -> None:
        """Forget days that seem to be over, and the oldest ones where all together are too large; the last one never."""
        sizes = [item.size for item in self._seen.values() if item.size]
        size, recent = sum(sizes), self._asked - 2 * len(sizes) - _RECENT
        for item in [*self._seen.values()][:-1]:
            if size <= SEEN_BYTES and item.last_asked >= recent:
                break
            size -= item.size
            item.forget()

    def _found(self, day: date | None, wanted: Hashes, *, only_keys: bool = False) -> Iterator[pa.Table]:
        """Rows of a day with any of these hashes, which are in ascending order, each once."""
        for own, rows in self._held:
            if day is None or own == day:
                yield rows.take(pa.array(positions(rows[KEY].to_numpy(), wanted)))
        yield from self._files.find(day, wanted, every_day=day is None, only_keys=only_keys)

    def _put_away(self) -> None:
        """The oldest hashes into a file, until half of what may be held is left."""
        parts: dict[date | None, list[pa.Table]] = {}
        while self._held_bytes > HELD_BYTES // 2:
            day, rows = self._held.popleft()
            parts.setdefault(day, []).append(rows)
            self._held_bytes -= rows.num_rows * _ROW_BYTES
        self._files.put({day: pa.concat_tables(tables) for day, tables in parts.items()})


class Seen:
    """Which key hashes may have come before: two bytes for each among many slots; in doubt yes, never a wrong no.

    Hashes are given in ascending order: their first slots lie in that order, too, and are read from the processor's cache.
    """

    _FIRST_BITS, _MOST_BITS = 16, 26

    def __init__(self) -> None:
        self._bits = self._FIRST_BITS
        self._slots: npt.NDArray[np.bool_] | None = np.zeros(1 << self._bits, dtype=bool)
        self._count = 0
        self.last_asked = 0

    @property
    def size(self) -> int:
        """Bytes held."""
        return 0 if self._slots is None else len(self._slots)

    def maybe(self, keys: Hashes) -> npt.NDArray[np.bool_]:
        """Which of the hashes may have been added before."""
        if self._slots is None:
            return np.ones(len(keys), dtype=bool)
        first, second = self._places(keys)
        found: npt.NDArray[np.bool_] = self._slots[first]
        at = np.flatnonzero(found)
        found[at] = self._slots[second[at]]
        return found

    def add(self, keys: Hashes) -> None:
        """Take hashes."""
        if self._slots is None:
            return
        self._count += len(keys)
        while self._count * 8 > len(self._slots) and self._bits < self._MOST_BITS:
            # what a slot says holds for both that it becomes
            self._slots = np.repeat(self._slots, 2)
            self._bits += 1
        for places in self._places(keys):
            self._slots[places] = True

    def forget(self) -> None:
        """Hold nothing any more: from now on the answer is yes."""
        self._slots = None

    def _places(self, keys: Hashes) -> tuple[Places, Places]:
        """Slots by the first bits of a hash and by the others turned round, so that both split alike when slots double."""
        # looked up twice as fast by signed numbers
        first = (keys >> np.uint64(64 - self._bits)).view(np.int64)
        second = ((keys << np.uint64(32)) >> np.uint64(64 - self._bits)).view(np.int64)
        return first, second


def positions(keys: Hashes, wanted: Hashes) -> Places:
    """Where any of a few hashes stands among many: a table of their last bits, of at most 4 MiB, tells nearly all of the others
    apart."""
    size = 1 << min(22, max(16, (16 * len(wanted)).bit_length()))
    last_bits = np.uint64(size - 1)
    marked = np.zeros(size, dtype=bool)
    marked[(wanted & last_bits).view(np.int64)] = True
    at = np.flatnonzero(marked[(keys & last_bits).view(np.int64)])
    return at[np.isin(keys[at], wanted)]


def repeated_within(ordered: Hashes) -> Hashes:
    """Each hash that occurs more than once among these, which are in ascending order."""
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
