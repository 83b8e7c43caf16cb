"""What every decoder gives back, and the limits and error codes that decoders share.

Balance that holds for each object: ``root_count == rows of the root table + issues``. An object is either decoded
(rows and issues) or refused as a whole with a TiyuError; nothing disappears between the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from catalog.contracts import pointer
from ingestion.decoders.numbers import Numbers
from lake.errors import EXIT_USAGE, TiyuError
from protection.masking import personal_numbers

RECORD_NO = "_record_no"
ITEM_NO = "_item_no"
SOURCE_OBJECT = "_source_object"
PREVIEW_BYTES = 512
CHUNK_BYTES = 32 * 1024 * 1024  # JSON unfolds some fifteenfold while it is read and judged
BATCH_BYTES = 128 * 1024 * 1024
"""Source objects taken into one batch, where the decoder has no other opinion: what one commit holds, and what is done
again after a crash. Memory does not depend on it."""
MAX_EXPANDED_BYTES = 512 * 1024 * 1024  # of one packed object; larger is refused as a possible archive bomb


@dataclass
class DecodeIssue:
    """One root record that could not be read. It goes to quarantine with its place in the object.

    record_no: 1-based (see the decoder for what it counts) · byte_from/byte_to: half-open range in the object as
    received, None when the format has no such place · rule_id: ``decode.*`` · reason_zh: free of record values ·
    preview_bytes: raw start of the record, UNMASKED: mask before writing it anywhere · object_sha256: which object.
    """

    record_no: int
    byte_from: int | None
    byte_to: int | None
    rule_id: str
    reason_zh: str
    preview_bytes: bytes | None = field(default=None, repr=False)
    object_sha256: str = ""


@dataclass
class Decoded:
    """Result of one object (``decode``) or of a chunk of objects (``decode_many``).

    tables: table name → Arrow. Row formats give one table, keyed by the contract's root table, with one string column
    per source field (or a column of numbers where `Layout.numbers` allows it) plus ``_record_no``; the many form adds ``_source_object`` (sha256 as given). Lists inside the records
    (`Layout.lists`) give one more table each, whose rows also bear ``_item_no``, their place in the list from 1.
    issues: unreadable records. root_count: root records found, ``rows + issues``.
    root_counts: the same per object sha256. refusals: objects refused as a whole, by sha256 (many form only; the
    single form raises the error instead).
    """

    tables: dict[str, pa.Table]
    issues: list[DecodeIssue]
    root_count: int
    root_counts: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, TiyuError] = field(default_factory=dict)
    unknown: dict[str, list[str]] = field(default_factory=dict)  # object name → columns the contract does not know
    numbered: int | None = None  # record numbers that a single object uses up, where these are not its root records


@dataclass(frozen=True)
class ItemList:
    """A list inside a record whose elements are rows of a table of their own: where it stands in the record, and field →
    where its value stands in an element (JSON Pointers)."""

    table: str
    items: str
    paths: dict[str, str]


@dataclass(frozen=True)
class Layout:
    """The part of a contract that a row decoder needs: the root table, its source fields, what to do with others.

    paths: field → JSON Pointer, for fields that are taken from inside a record; they are no members of it by name. lists:
    lists inside the records. instead: field → its old names, any of which may stand for it (they are fields as well, and optional). unknown: what a
    decoder met beside the fields while it read, by object name, where that is allowed. numbers: fields that may be given as
    numbers instead of text.
    """

    table: str
    fields: tuple[str, ...]
    optional_fields: frozenset[str]
    allow_extra: bool
    instead: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unknown: dict[str, set[str]] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    lists: tuple[ItemList, ...] = ()
    numbers: Numbers = field(default_factory=Numbers)

    @property
    def is_nested(self) -> bool:
        """Whether anything is taken from inside a record."""
        return bool(self.paths or self.lists)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Fields that must be there, and are not among the names of an object."""
        there = set(names)
        return [
            item
            for item in self.fields
            if item not in there
            and item not in self.optional_fields
            and not there.intersection(self.instead.get(item, ()))
        ]

    def note_unknown(self, object_name: str, names: Iterable[str]) -> None:
        """Remember columns that are let pass without being read; a name that holds a person's number is only counted."""
        shown = {"（列名疑似含个人信息）" if personal_numbers(name) else name[:40] for name in names}
        if shown:
            self.unknown.setdefault(object_name, set()).update(shown)


def layout_of(contract: Any, optional_fields: Iterable[str] = ()) -> Layout:
    """Read the layout from a catalog contract: source fields are the root object's columns that are not derived."""
    roots = [item for item in contract.objects if getattr(item, "is_root", False)] or list(contract.objects[:1])
    root = roots[0]
    fields = tuple(
        item.source_name for item in root.properties if item.source_name and not getattr(item, "derive", None)
    )
    drift = getattr(root, "drift", None)
    optional = fields if getattr(drift, "missing_column", "stop") in ("ignore", "warn") else tuple(optional_fields)
    allow_extra = getattr(drift, "unknown_column", "stop") in ("add", "ignore", "warn")
    instead: dict[str, tuple[str, ...]] = {}
    for rename in getattr(root, "renames", ()):
        instead[rename.to] = (*instead.get(rename.to, ()), rename.from_name)
    old = tuple(name for names in instead.values() for name in names)
    return Layout(
        root.table,
        tuple(dict.fromkeys((*fields, *old))),
        frozenset((*optional, *old)),
        allow_extra,
        instead,
        paths=_paths(root, pointed=True),
        lists=tuple(
            ItemList(obj.table, obj.items, _paths(obj, pointed=False))
            for obj in contract.objects
            if getattr(obj, "items", None) is not None
        ),
    )


def _paths(obj: Any, *, pointed: bool) -> dict[str, str]:
    """Source field → JSON Pointer; ``pointed``: only those that the contract points to, and no members by name."""
    found: dict[str, str] = {}
    for item in obj.properties:
        if not item.source_name or getattr(item, "derive", None):
            continue
        path = getattr(item, "path", None)
        if path is not None or not pointed:
            found[item.source_name] = pointer.to_member(item.source_name) if path is None else path
    return found


def snake_case(options: dict[str, Any]) -> dict[str, Any]:
    """Contracts spell options in camelCase, code in snake_case; both are understood."""
    return {re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).lower(): value for key, value in options.items()}


def refusal(code: str, message_zh: str, hint_zh: str, *, object_name: str, **context: Any) -> TiyuError:
    """An object that is refused as a whole. It stays in the archive, so it can be replayed after a fix."""
    return TiyuError(code, message_zh, hint_zh, object=object_name, **context)


def missing_fields(object_name: str, missing: list[str]) -> TiyuError:
    """TIYU-ING-0210: the header lacks columns of the contract."""
    return refusal(
        "TIYU-ING-0210",
        f"文件缺少契约规定的列：{'、'.join(missing)}",
        "请数据源单位按接口规范补齐列名后重新报送；文件已留存，未入库任何一行",
        object_name=object_name,
        missing="、".join(missing),
    )


def extra_fields(object_name: str, extra: list[str]) -> TiyuError:
    """TIYU-ING-0211: the object carries fields that the contract does not know (an ungraded column is never let in).

    Where a name holds a person's number (records keyed by person, a data row as header), no name is shown.
    """
    shown = [name[:40] for name in extra[:10]]
    if any(personal_numbers(name) for name in extra):
        shown = [f"{len(extra)} 个，列名疑似含个人信息，不予显示"]
    return refusal(
        "TIYU-ING-0211",
        f"文件含有契约未登记的列：{'、'.join(shown)}",
        "请先在契约中登记并定级该列，或请数据源单位去掉该列；文件已留存，可在修改契约后重放",
        object_name=object_name,
        extra="、".join(shown),
    )


def check_decoder_options(decoder: str, options: dict[str, Any], allowed: dict[str, type | tuple[type, ...]]) -> None:
    """TIYU-ING-0202: an option the decoder does not know, or of a wrong type."""
    for key, value in options.items():
        if key not in allowed or not isinstance(value, allowed[key]):
            raise TiyuError(
                "TIYU-ING-0202",
                f"解码器不认识配置项 {key} 或其类型不对",
                f"可用的配置项：{'、'.join(sorted(allowed)) or '无'}",
                EXIT_USAGE,
                decoder=decoder,
                option=key,
            )


class LostObject(Exception):
    """An object turned out to be damaged after a part of it had been read; ``error`` says how it is refused."""

    def __init__(self, error: TiyuError):
        super().__init__(error.code)
        self.error = error


@dataclass(frozen=True)
class Pieces:
    """An object too large to hold. ``read`` starts it from the beginning, in pieces of about the bytes asked for; while it
    is read LostObject may be raised, and then nothing of the object counts."""

    size: int
    read: Callable[[int], Iterator[bytes]]

    def whole(self) -> bytes:
        return b"".join(self.read(1 << 24))


def empty_table(fields: Iterable[str]) -> pa.Table:
    """A row-format table without rows."""
    columns: dict[str, pa.Array] = {name: pa.array([], pa.string()) for name in fields}
    columns[RECORD_NO] = pa.array([], pa.int64())
    columns[SOURCE_OBJECT] = pa.array([], pa.string())
    return pa.table(columns)
