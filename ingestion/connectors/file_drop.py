"""Files that a source system leaves in a folder (drop), or any folder of files given by an operator.

Delivery order is the order of names: the sources put date and hour into names. A file is *settled* when its size and
modification time stay the same over a short look, so a file that is still being written waits for the next batch.
"""

from __future__ import annotations

import fnmatch
import mimetypes
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar

from ingestion.connectors.base import FetchedObject, Reach, check_options, option_error, printable, unavailable
from ingestion.connectors.connection import parse_connection

_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart", ".swp")
_MEDIA_TYPES = {
    ".ndjson": "application/x-ndjson",
    ".csv": "text/csv",
    ".json": "application/json",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".fit": "application/vnd.ant.fit",
    ".tcx": "application/vnd.garmin.tcx+xml",
    ".gpx": "application/gpx+xml",
    ".gz": "application/gzip",
    ".zip": "application/zip",
}


@dataclass(frozen=True)
class _Seen:
    path: str
    name: str
    size: int
    mtime_ns: int

    @property
    def signature(self) -> str:
        return f"{self.name}|{self.size}|{self.mtime_ns}"


class FileDrop:
    """Connector ``file_drop``.

    Options: ``path`` folder below the connection's folder (default: itself) · ``pattern`` glob of the path below it,
    ``**`` spans folders (default ``**/*``) · ``settle_seconds`` how long a freshly written file must stay unchanged
    (default 1; a file older than that is taken at once). ``from_dir`` replaces the folder and takes every file below
    it, whatever its name.
    """

    name = "file_drop"
    options: ClassVar[dict[str, Any]] = {"path": str, "pattern": str, "settle_seconds": (int, float)}

    def __init__(
        self,
        options: dict[str, Any],
        connection_uri: str | None,
        is_seen: Callable[[str], bool],
        from_dir: str | os.PathLike[str] | None = None,
    ):
        check_options(self.name, options, self.options)
        self._is_seen = is_seen
        self._settle_seconds = float(options.get("settle_seconds", 1))
        self._pattern = options.get("pattern", "**/*")
        if from_dir is not None:
            self._root = Path(from_dir)
            self._pattern = "**/*"
        else:
            if connection_uri is None:
                raise option_error(self.name, "file_drop 连接器需要 file:// 连接")
            connection = parse_connection(connection_uri)
            if connection.path is None:
                raise option_error(self.name, "file_drop 连接器只接受 file:// 连接", scheme=connection.scheme)
            relative = PurePosixPath(options.get("path", "."))
            if relative.is_absolute() or ".." in relative.parts:
                raise option_error(self.name, "配置项 path 必须是连接目录之内的相对路径", option="path")
            self._root = connection.path / relative
        self._state: dict[str, Any] | None = None

    @classmethod
    def reach(cls, options: dict[str, Any]) -> Reach:
        """Files that are still there, chosen by the date in their path."""
        return "dated"

    def fetch(self, state: dict[str, Any], *, max_bytes: int) -> Iterator[FetchedObject]:
        """Settled files that ``is_seen`` does not know by signature, sorted by name, bounded by ``max_bytes``.

        Errors: TIYU-ING-0110 the folder does not exist or cannot be read.
        """
        self._state = None
        found = [item for item in self._list() if not self._is_seen(item.signature)]
        settled = self._settled(found)
        handed_out = 0
        more = False
        skipped = len(found) - len(settled)
        for item in settled:
            if handed_out and handed_out + item.size > max_bytes:
                more = True
                break
            handed_out += max(item.size, 1)
            media_type = _MEDIA_TYPES.get(os.path.splitext(item.name)[1].lower())
            media_type = media_type or mimetypes.guess_type(item.name)[0] or "application/octet-stream"
            yield FetchedObject(item.name, media_type, item.size, _opener(item), item.signature)
        self._state = {**{key: state[key] for key in state if key not in ("more", "growing_count")}, "more": more}
        if skipped:
            self._state["growing_count"] = skipped

    def next_state(self) -> dict[str, Any]:
        if self._state is None:
            raise RuntimeError("next_state is valid after the iterator of fetch is exhausted")
        return dict(self._state)

    def _list(self) -> list[_Seen]:
        if not self._root.is_dir():
            raise unavailable(
                "TIYU-ING-0110", "数据源目录不存在或不可读", "请检查连接配置和挂载", folder=str(self._root.name)
            )
        fixed = self._pattern.split("/")[:-1]
        fixed = fixed[: next((number for number, part in enumerate(fixed) if set(part) & set("*?[")), len(fixed))]
        begin = self._root.joinpath(*fixed)
        if not begin.is_dir():  # the source has not delivered anything yet; freshness tells when that is late
            return []
        entries: list[_Seen] = []
        stack = [(str(begin), "".join(part + "/" for part in fixed))]
        while stack:
            folder, prefix = stack.pop()
            try:
                with os.scandir(folder) as scan:
                    for entry in scan:
                        if entry.name.startswith((".", "~$")):
                            continue
                        name = prefix + printable(entry.name)
                        if entry.is_dir(follow_symlinks=False):
                            stack.append((entry.path, name + "/"))
                        elif (
                            not entry.name.lower().endswith(_UNFINISHED)
                            and entry.is_file(follow_symlinks=False)
                            and _matches(name, self._pattern)
                        ):
                            try:
                                info = entry.stat(follow_symlinks=False)
                            except FileNotFoundError:  # moved away between listing and looking: not ours any more
                                continue
                            entries.append(_Seen(entry.path, name, info.st_size, info.st_mtime_ns))
            except OSError as error:
                raise unavailable(
                    "TIYU-ING-0110", "数据源目录不可读", "请检查目录权限", folder=self._root.name, reason=error.strerror
                ) from None
        return sorted(entries, key=lambda item: item.name)

    def _settled(self, found: list[_Seen]) -> list[_Seen]:
        now = time.time_ns()
        fresh = [item for item in found if abs(now - item.mtime_ns) < self._settle_seconds * 1e9]
        if not fresh:
            return found
        youngest = max(item.mtime_ns for item in fresh)
        time.sleep(min(self._settle_seconds, max(0.0, self._settle_seconds - (now - youngest) / 1e9)))
        growing = set()
        for item in fresh:
            try:
                info = os.stat(item.path)
            except FileNotFoundError:
                growing.add(item.name)
                continue
            if (info.st_size, info.st_mtime_ns) != (item.size, item.mtime_ns):
                growing.add(item.name)
        return [item for item in found if item.name not in growing]


def _opener(item: _Seen) -> Callable[[], BinaryIO]:
    def open_file() -> BinaryIO:
        try:
            # O_NOFOLLOW: the file may have been replaced by a link to somewhere else since it was listed
            return os.fdopen(os.open(item.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
        except OSError as error:
            # The last part only: folders may be named after athletes, and this text reaches logs.
            leaf = item.name.rsplit("/", 1)[-1]
            raise unavailable(
                "TIYU-ING-0111", "数据文件读取失败", "请检查文件权限后重试", object=leaf, reason=error.strerror
            ) from None

    return open_file


def _matches(name: str, pattern: str) -> bool:
    """Glob over path parts: ``*`` stays within one part, ``**`` spans any number of parts, also none."""
    return _match_parts(name.split("/"), pattern.split("/"))


def _match_parts(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_match_parts(parts[skip:], patterns[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _match_parts(parts[1:], patterns[1:])
