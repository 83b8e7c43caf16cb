"""The keys that a source table had at the last fetch, sealed, to tell which of them are gone.

One file per list below ``TIYU_HOME/connectors/{resource}``, encrypted like the archive (keys may be identifiers), read and
written as a stream in the order of the keys' digests, so that two lists of any length are compared in bounded memory.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lake import storage
from protection import envelope

DIGEST = "_digest"
_SUFFIX = ".keys"


class KeyLists:
    """The lists of one source."""

    def __init__(self, folder: Path):
        self._folder = folder

    def keep_only(self, name: str | None) -> None:
        """Remove every list but one: what a run left behind that did not come to its end, and the one before."""
        for path in self._folder.glob(f"*{_SUFFIX}") if self._folder.is_dir() else ():
            if path.name != name:
                path.unlink(missing_ok=True)

    def has(self, name: str) -> bool:
        """Whether the list is there."""
        return (self._folder / name).is_file()

    def write(self, keys: Iterator[pa.Table]) -> str:
        """Keep a list; gives its name. ``keys`` come in order of their digest. Raises TIYU-DISK-000x."""
        name = f"{secrets.token_hex(8)}{_SUFFIX}"
        unfinished = self._folder / f".{name}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(unfinished, "xb", opener=partial(os.open, mode=0o600)) as target:
                envelope.seal(_ArrowBytes(keys), target)  # type: ignore[arg-type]
                target.flush()
                os.fsync(target.fileno())
            os.replace(unfinished, self._folder / name)
        except OSError as error:
            found = storage.fault(error)
            raise found or error from None
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
        return name

    def read(self, name: str) -> Iterator[pa.Table]:
        """The list in its order; TIYU-ARC-0002 when the file is damaged."""
        with envelope.open_sealed(open(self._folder / name, "rb"), f"connectors/{name}") as stream:
            if not stream.read(1):
                return
        with envelope.open_sealed(open(self._folder / name, "rb"), f"connectors/{name}") as stream:
            for batch in pa.ipc.open_stream(stream):
                yield pa.Table.from_batches([batch])

    def told(self, name: str) -> bool:
        """Whether the loss of a list was told already: False the first time, so that somebody looks; True from then on."""
        mark = self._folder / f"{name}.lost"
        if mark.exists():
            return True
        self._folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
        return False

    def drop(self, name: str) -> None:
        """Forget a list that says nothing new."""
        (self._folder / name).unlink(missing_ok=True)

    def compare(self, before: str, now: str) -> Iterator[tuple[pa.Table, bool]]:
        """Per part of the earlier list the rows that the later one has not; at the end whether the later one has others."""
        current = self.read(now)
        held = next(current, None)
        count_before = count_now = 0
        for part in self.read(before):
            last = part.column(DIGEST)[-1]
            waiting = [held] if held is not None else []
            while waiting and pc.less(waiting[-1].column(DIGEST)[-1], last).as_py():
                following = next(current, None)
                if following is None:
                    break
                waiting.append(following)
            held = pa.concat_tables(waiting) if waiting else None
            digests = held.column(DIGEST) if held is not None else pa.chunked_array([pa.array([], pa.string())])
            there = pc.is_in(part.column(DIGEST), value_set=digests.combine_chunks())
            if held is not None:
                rest = held.filter(pc.greater(held.column(DIGEST), last))
                count_now += held.num_rows - rest.num_rows
                held = rest if rest.num_rows else next(current, None)
            count_before += pc.sum(there).as_py() or 0
            yield part.filter(pc.invert(there)), False
        others = held is not None or count_now != count_before
        yield _nothing(), others


def _nothing() -> pa.Table:
    return pa.table({DIGEST: pa.array([], pa.string())})


class _ArrowBytes(io.RawIOBase):
    """Tables as the bytes of an Arrow stream, made as they are read; no table at all gives no bytes."""

    def __init__(self, tables: Iterator[pa.Table]):
        self._tables = tables
        self._sink = io.BytesIO()
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        while not self._ended and (count < 0 or len(self._rest) < count):
            self._advance()
        size = len(self._rest) if count < 0 else count
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _advance(self) -> None:
        table = next(self._tables, None)
        if table is None:
            self._ended = True
            if self._writer is not None:
                self._writer.close()
        elif table.num_rows:
            if self._writer is None:
                self._writer = pa.ipc.new_stream(self._sink, table.schema)
            self._writer.write_table(table)
        self._rest += self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
