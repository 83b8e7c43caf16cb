"""The spool: messages of a stream that were taken over, sealed on disk, and wait to be brought into the lake.

One folder a subscription under ``$TIYU_HOME/spool``; each segment is a run of whole lines (one message a line) sealed like an
archived object, because a message may hold what must never lie plain on a disk. A segment is durable when :meth:`Spool.append`
returns, so its messages may be acknowledged to the sender; it is dropped only when a closed batch holds it.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lake import storage
from lake.errors import EXIT_UNAVAILABLE, TiyuError
from lake.settings import settings
from protection import envelope

_NAME = re.compile(r"^(\d{12})-(\d+)\.sealed$")
ALREADY_RUNNING = "TIYU-STR-0001"
FULL = "TIYU-STR-0002"


@dataclass(frozen=True)
class Segment:
    """A sealed run of messages: its number (grows by one, never used twice), its plain size in bytes, its file."""

    number: int
    size: int
    path: Path


class Spool:
    """The waiting messages of one subscription.

    One process fills a spool (:meth:`filling`); the ingest reads and drops under the lock of its resource.
    """

    def __init__(self, name: str):
        self.name = name
        self.folder = settings().home / "spool" / name

    @contextmanager
    def filling(self, after: int) -> Iterator[None]:
        """Be the one process that fills this spool; numbers go on behind ``after`` (the last one a closed batch holds).

        Errors: TIYU-STR-0001 another process fills it.
        """
        with storage.coded():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            file = open(self.folder / "filling.lock", "w")  # noqa: SIM115 - closed with the block
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TiyuError(
                    ALREADY_RUNNING,
                    "该订阅已有一个进程在接收",
                    "同一订阅只运行一个 tiyu stream；先停掉另一个",
                    EXIT_UNAVAILABLE,
                    spool=self.name,
                ) from None
            for partial in self.folder.glob("*.part"):
                partial.unlink(missing_ok=True)
            self._next = max([after, *(segment.number for segment in self.segments())]) + 1
            yield

    def append(self, lines: Sequence[bytes]) -> Segment:
        """Seal messages into a new segment; they are on the disk when this returns. Only inside :meth:`filling`."""
        plain = b"".join(line + b"\n" for line in lines)
        final = self.folder / f"{self._next:012d}-{len(plain)}.sealed"
        partial = final.with_suffix(".part")
        try:
            with open(partial, "xb") as file:
                envelope.seal(io.BytesIO(plain), file)
                file.flush()
                os.fsync(file.fileno())
            os.rename(partial, final)
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise storage.fault(error) or error from None
        self._next += 1
        return Segment(self._next - 1, len(plain), final)

    def segments(self, after: int = 0) -> list[Segment]:
        """Segments with a number above ``after``, oldest first."""
        found = []
        for path in self.folder.glob("*.sealed"):
            if (match := _NAME.match(path.name)) and int(match[1]) > after:
                found.append(Segment(int(match[1]), int(match[2]), path))
        return sorted(found, key=lambda segment: segment.number)

    def read(self, segment: Segment) -> bytes:
        """The plain lines of a segment; TIYU-ARC-0002 when it is damaged."""
        with (
            open(segment.path, "rb") as file,
            envelope.open_sealed(file, f"spool/{self.name}/{segment.number}") as plain,
        ):
            return plain.read()

    def drop(self, upto: int) -> int:
        """Remove segments up to a number; returns how many. Only what a closed batch holds may be dropped."""
        gone = [segment for segment in self.segments() if segment.number <= upto]
        for segment in gone:
            segment.path.unlink(missing_ok=True)
        return len(gone)

    def note(self, **facts: object) -> None:
        """Leave facts about the subscription (never values of messages) for ``tiyu stream --status``."""
        partial = self.folder / f".state-{os.getpid()}"
        with suppress(OSError):  # on a full disk the facts are the least of it
            partial.write_text(json.dumps(facts, ensure_ascii=False, default=str), encoding="utf-8")
            os.replace(partial, self.folder / "state.json")

    def noted(self) -> dict[str, object]:
        """What was left last, empty when nothing ever ran."""
        with suppress(OSError, ValueError):
            return dict(json.loads((self.folder / "state.json").read_text(encoding="utf-8")))
        return {}

    def is_filling(self) -> bool:
        """Whether a process fills this spool now."""
        try:
            with open(self.folder / "filling.lock") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False
