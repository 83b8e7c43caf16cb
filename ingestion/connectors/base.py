"""What every connector gives back: objects as the source holds them, and a watermark to start from next time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol

from lake.errors import EXIT_UNAVAILABLE, EXIT_USAGE, TiyuError

Reach = Literal["dated", "since", "whole", "none"]
"""What of its past a source can be asked for once more: objects by the date in their name, everything updated since a
moment, all that it holds now, or nothing (`ingestion.backfill`)."""


@dataclass(frozen=True)
class FetchedObject:
    """One object of a source, not yet read.

    name: path relative to the resource's folder, or the page name of a request.
    media_type: IANA media type, ``application/octet-stream`` when the name does not tell.
    size: bytes, None when unknown before reading.
    open: gives a new binary stream over exactly the bytes the source sent.
    signature: cheap identity (path, size, mtime) by which an unchanged object is skipped unread, or None.
    """

    name: str
    media_type: str
    size: int | None
    open: Callable[[], BinaryIO]
    signature: str | None = None


class Connector(Protocol):
    """A kind of source system."""

    def fetch(self, state: dict[str, Any], *, max_bytes: int) -> Iterator[FetchedObject]:
        """Objects that are new since ``state``, oldest first, ending once ``max_bytes`` have been handed out.

        At least one object is given when there is one, however large. Errors: TiyuError with ``TIYU-ING-01xx``; reading an
        object may raise :class:`ObjectChanged`, which leaves that object out.
        """
        ...

    def next_state(self) -> dict[str, Any]:
        """The JSON-able watermark; valid once the iterator of ``fetch`` is exhausted, else RuntimeError.

        A key ``more`` that is true says that ``max_bytes`` ended the batch and that another one is waiting. Keys that
        begin with an underscore live as long as the run: the next batch gets them, the ledger does not (``_again``: history is
        read, which must leave the connector's own notes of the scheduled fetch alone).
        """
        ...

    @classmethod
    def reach(cls, options: dict[str, Any]) -> Reach:
        """What history this kind of source can give again, with these options of a contract."""
        ...


class ObjectChanged(TiyuError):
    """An object changed or went away between listing and the end of reading (TIYU-ING-0112): it waits for the next run."""

    def __init__(self, leaf: str):
        super().__init__(
            "TIYU-ING-0112",
            "数据文件在读取时变化或消失，留待下次",
            "不必处理，下次汇聚会再取；若一直如此，请数据源单位先写临时文件名再改名",
            EXIT_UNAVAILABLE,
            object=leaf,
        )


def option_error(connector: str, message_zh: str, **context: Any) -> TiyuError:
    """A contract asks a connector for something that it does not know (TIYU-ING-0102)."""
    return TiyuError(
        "TIYU-ING-0102",
        message_zh,
        "请对照 docs 修改契约 servers 中的 connector 配置",
        EXIT_USAGE,
        connector=connector,
        **context,
    )


def unavailable(code: str, message_zh: str, hint_zh: str, **context: Any) -> TiyuError:
    """The source cannot be reached or refuses us; nothing was changed, a later run fetches the same objects."""
    return TiyuError(code, message_zh, hint_zh, EXIT_UNAVAILABLE, **context)


def printable(name: str) -> str:
    """A foreign name that can be stored and logged: undecodable bytes and unprintable characters (a line feed) escaped."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def snake_case(options: dict[str, Any]) -> dict[str, Any]:
    """Contracts spell options in camelCase, code in snake_case; both are understood."""
    return {re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).lower(): value for key, value in options.items()}


def check_options(connector: str, options: dict[str, Any], allowed: dict[str, type | tuple[type, ...]]) -> None:
    """Refuse unknown options and wrong types, so that a typo in a contract never passes silently."""
    for key, value in options.items():
        if key not in allowed:
            raise option_error(connector, f"连接器不认识配置项 {key}", option=key, allowed=" ".join(sorted(allowed)))
        if not isinstance(value, allowed[key]) or (isinstance(value, bool) and allowed[key] is int):
            raise option_error(connector, f"连接器配置项 {key} 的类型不对", option=key)
