"""Messages of a broker (MQTT), as far as ``tiyu stream`` has taken them over: one object a batch, one message a line.

The broker itself is never asked here: a message is acknowledged only when it is in the spool (`ingestion.stream`), and this
connector hands out what waits there. What a closed batch holds is dropped at the next fetch, so that a run that died in between
finds it again.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO, ClassVar

from ingestion.connectors.base import FetchedObject, Reach, check_options, option_error
from ingestion.connectors.file_drop import FileDrop
from ingestion.spool import Segment, Spool

THROUGH = "spooled_through"
"""Watermark: number of the last segment that a closed batch holds."""


class Mqtt:
    """Connector ``mqtt``. Options: ``client_id`` name of the persistent session and of the spool · ``topics`` filters ·
    ``topic_field`` member that gets the topic of a message, when it is not in the payload.

    ``from_dir``: files of lines, one message each, are taken in place of the spool.
    """

    name = "mqtt"
    options: ClassVar[dict[str, Any]] = {"client_id": str, "topics": list, "topic_field": (str, type(None))}

    def __init__(
        self,
        options: dict[str, Any],
        connection_uri: str | None,
        is_seen: Callable[[str], bool],
        from_dir: str | os.PathLike[str] | None = None,
    ):
        check_options(self.name, options, self.options)
        if not options.get("client_id"):
            raise option_error(self.name, "mqtt 连接器需要 clientId", option="clientId")
        self._spool = Spool(str(options["client_id"]))
        self._files = FileDrop({}, None, is_seen, from_dir=from_dir) if from_dir is not None else None
        self._state: dict[str, Any] | None = None

    @classmethod
    def reach(cls, options: dict[str, Any]) -> Reach:
        """A broker keeps no past: what was acknowledged is in our archive and nowhere else."""
        return "none"

    def fetch(self, state: dict[str, Any], *, max_bytes: int) -> Iterator[FetchedObject]:
        """The waiting segments as one object, oldest first, bounded by ``max_bytes``."""
        self._state = None
        if self._files is not None:
            yield from self._files.fetch(state, max_bytes=max_bytes)
            self._state = self._files.next_state()
            return
        through = int(state.get(THROUGH, 0))
        self._spool.drop(through)
        taken: list[Segment] = []
        waiting = self._spool.segments(through)
        size = 0
        for segment in waiting:
            if taken and size + segment.size > max_bytes:
                break
            taken.append(segment)
            size += segment.size
        if taken:
            name = f"{taken[0].number:012d}-{taken[-1].number:012d}.ndjson"
            yield FetchedObject(name, "application/x-ndjson", size, partial(_opened, self._spool, taken))
            through = taken[-1].number
        self._state = {**state, THROUGH: through, "more": len(taken) < len(waiting)}

    def next_state(self) -> dict[str, Any]:
        if self._state is None:
            raise RuntimeError("next_state is valid after the iterator of fetch is exhausted")
        return dict(self._state)


class _Lines(io.RawIOBase):
    """Segments read one after the other; at most one is held in memory."""

    def __init__(self, spool: Spool, segments: list[Segment]):
        self._spool = spool
        self._left = list(segments)
        self._current: BinaryIO = io.BytesIO()

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not (count := self._current.readinto(target)):  # type: ignore[attr-defined]
            if not self._left:
                return 0
            self._current = io.BytesIO(self._spool.read(self._left.pop(0)))
        return int(count)


def _opened(spool: Spool, segments: list[Segment]) -> BinaryIO:
    return io.BufferedReader(_Lines(spool, segments))
