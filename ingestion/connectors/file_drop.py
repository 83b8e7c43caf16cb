"""Files that a source system leaves in a folder (drop), or any folder of files given by an operator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar

from ingestion.connectors import files
from ingestion.connectors.base import ObjectChanged, check_options, option_error, printable, unavailable
from ingestion.connectors.connection import parse_connection


class FileDrop(files.FilePlace):
    """Connector ``file_drop``.

    Options: ``path`` folder below the connection's folder (default: itself) · ``pattern`` glob of the path below it,
    ``**`` spans folders (default ``**/*``) · ``settle_seconds`` how long a freshly written file must stay unchanged
    (default 1; a file older than that is taken at once) · ``max_object_bytes`` of one file (default 2 GiB). ``from_dir``
    replaces the folder and takes every file below it, whatever its name.
    """

    name = "file_drop"
    options: ClassVar[dict[str, Any]] = {
        "path": str,
        "pattern": str,
        "settle_seconds": (int, float),
        "max_object_bytes": int,
    }

    def __init__(
        self,
        options: dict[str, Any],
        connection_uri: str | None,
        is_seen: Callable[[str], bool],
        from_dir: str | os.PathLike[str] | None = None,
    ):
        check_options(self.name, options, self.options)
        super().__init__(
            is_seen,
            pattern="**/*" if from_dir is not None else options.get("pattern", "**/*"),
            settle_seconds=float(options.get("settle_seconds", 1)),
            skew_seconds=0,
            max_object_bytes=options.get("max_object_bytes", files.MAX_OBJECT_BYTES),
        )
        if from_dir is not None:
            self._root = Path(from_dir)
            return
        if connection_uri is None:
            raise option_error(self.name, "file_drop 连接器需要 file:// 连接")
        connection = parse_connection(connection_uri)
        if connection.path is None:
            raise option_error(self.name, "file_drop 连接器只接受 file:// 连接", scheme=connection.scheme)
        relative = PurePosixPath(options.get("path", "."))
        if relative.is_absolute() or ".." in relative.parts:
            raise option_error(self.name, "配置项 path 必须是连接目录之内的相对路径", option="path")
        self._root = connection.path / relative

    def _entries(self) -> Iterator[files.Entry]:
        if not self._root.is_dir():
            raise unavailable(
                "TIYU-ING-0110", "数据源目录不存在或不可读", "请检查连接配置和挂载", folder=str(self._root.name)
            )
        fixed = files.fixed_folder(self._pattern)
        begin = self._root.joinpath(*fixed)
        if not begin.is_dir():  # the source has not delivered anything yet; freshness tells when that is late
            return
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
                            not files.is_ignored(entry.name)
                            and entry.is_file(follow_symlinks=False)
                            and files.matches(name, self._pattern)
                        ):
                            try:
                                info = entry.stat(follow_symlinks=False)
                            except FileNotFoundError:  # moved away between listing and looking: not ours any more
                                continue
                            yield files.Entry(name, info.st_size, str(info.st_mtime_ns), info.st_mtime, entry.path)
            except OSError as error:
                raise unavailable(
                    "TIYU-ING-0110", "数据源目录不可读", "请检查目录权限", folder=self._root.name, reason=error.strerror
                ) from None

    def _now(self, entry: files.Entry) -> tuple[int, str] | None:
        try:
            info = os.lstat(entry.where)
        except OSError:
            return None
        return info.st_size, str(info.st_mtime_ns)

    def _open(self, entry: files.Entry) -> BinaryIO:
        try:
            # O_NOFOLLOW: the file may have been replaced by a link to somewhere else since it was listed
            return os.fdopen(os.open(entry.where, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
        except FileNotFoundError:
            raise ObjectChanged(files.leaf(entry.name)) from None
        except OSError as error:
            raise unavailable(
                "TIYU-ING-0111",
                "数据文件读取失败",
                "请检查文件权限后重试",
                object=files.leaf(entry.name),
                reason=error.strerror,
            ) from None
