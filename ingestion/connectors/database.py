"""Tables of a relational database, page by page as Parquet, in whole or what changed since a watermark.

One object is one page: Parquet whose bytes depend on the rows alone. Pages are cut by key (watermark first), each batch
reads one snapshot. Rows whose watermark is NULL have no version, nor have those of a table without a watermark: they are
read every time, and a page is delivered when it differs from the last reading. Deletes are found by comparing all keys
with those of the last fetch; the keys that are gone are an object of their own, named ``…_deleted_…``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from hashlib import sha256
from io import BytesIO
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.connectors.base import FetchedObject, Reach, check_options, option_error, unavailable
from ingestion.connectors.connection import parse_connection
from ingestion.connectors.key_list import DIGEST, KeyLists
from ingestion.connectors.sql_table import Snapshot
from lake.settings import settings

MEDIA_TYPE = "application/vnd.apache.parquet"
_PAGE_BYTES = 64 << 20
_TIMES = {"date", "timestamp", "timestamptz"}


@dataclass
class _Place:
    """Where a reading stands: part ``changed`` (by watermark) or ``unversioned``, the key reached, the bounds it was begun
    with, pages so far, digests of the unversioned ones, and whether one of them was delivered."""

    part: str = "changed"
    after: list[str] | None = None
    low: str | None = None
    high: str | None = None
    pages: int = 0
    digests: list[str] = field(default_factory=list)
    delivered: bool = False


class Database:
    """Connector ``database`` (PostgreSQL over ADBC).

    Options: ``table``, ``key`` columns that tell rows apart (required) · ``schema_name`` (default ``public``) ·
    ``watermark`` column of the last change · ``overlap`` by which it is set back (seconds of a time, units of a number;
    default 0) · ``page_rows`` (default 50,000; a page ends at 64 MiB as well) · ``deletes`` ``none``, ``column`` (the row
    says so itself: ``deleted_column``) or ``compare`` · ``columns`` ``contract`` (default: no other column leaves the
    source) or ``all``.

    State: ``updated_since`` the highest watermark of the last snapshot, ``digests`` of the unversioned pages, ``keys``
    the key list, ``generation`` a counter that keeps a page from being taken for the equal one of a time before.
    """

    name = "database"
    options: ClassVar[dict[str, Any]] = {
        "schema_name": str,
        "table": str,
        "key": list,
        "watermark": (str, type(None)),
        "overlap": int,
        "page_rows": int,
        "deletes": str,
        "deleted_column": (str, type(None)),
        "columns": str,
    }
    of_contract = True
    """Wants the contract's columns and the source's name (`ingestion.connectors.create`)."""

    def __init__(
        self,
        options: dict[str, Any],
        connection_uri: str | None,
        is_seen: Callable[[str], bool],
        from_dir: Any = None,
        *,
        columns: list[str] | None = None,
        resource: str = "",
    ):
        check_options(self.name, options, self.options)
        if from_dir is not None:
            raise option_error(self.name, "数据库类数据源不能用 --from 指定目录")
        if not options.get("table") or not options.get("key"):
            raise option_error(self.name, "database 连接器需要配置项 table 和 key", option="table key")
        connection = parse_connection(connection_uri) if connection_uri else None
        if connection_uri is None or connection is None or connection.scheme != "postgresql":
            raise option_error(self.name, "database 连接器需要 postgresql:// 连接")
        self._uri, self._endpoint = connection_uri, connection.endpoint
        self._schema, self._table = options.get("schema_name", "public"), options["table"]
        self._key: list[str] = options["key"]
        self._watermark: str | None = options.get("watermark")
        self._overlap = options.get("overlap", 0)
        self._page_rows = options.get("page_rows", 50_000)
        self._deletes = options.get("deletes", "none")
        self._columns = columns if options.get("columns", "contract") == "contract" else None
        if columns is not None and self._deletes == "compare" and not set(self._key) <= set(columns):
            raise option_error(self.name, "deletes: compare 要求契约登记全部键列", option="key")
        self._deleted_column = options.get("deleted_column") if self._deletes == "column" else None
        self._lists = KeyLists(settings().home / "connectors" / (resource or "unnamed"))
        self._state: dict[str, Any] | None = None

    @classmethod
    def reach(cls, options: dict[str, Any]) -> Reach:
        """With a watermark everything changed since the first day, without one all rows there are now."""
        return "since" if options.get("watermark") else "whole"

    @classmethod
    def state_since(cls, moment: datetime) -> dict[str, Any]:
        """The state from which rows with a watermark of ``moment`` or later are read."""
        return {"updated_since": moment.isoformat()}

    def fetch(self, state: dict[str, Any], *, max_bytes: int) -> Iterator[FetchedObject]:
        """Pages of rows that changed, then the keys that are gone. No row, no object.

        Errors: those of :class:`Snapshot` · TIYU-ING-0135 the list of keys of the last fetch is gone.
        """
        self._state = None
        again = bool(state.get("_again"))  # history: neither deletes nor the lists of the scheduled fetch are touched
        place = _Place(**state["_place"]) if state.get("_place") else _Place()
        handed_out = 0
        with Snapshot(self._uri, self._endpoint, self._schema, self._table) as snapshot:
            columns = self._selected(snapshot)
            snapshot.require_key(self._key)
            if not state.get("_place"):
                self._begin(snapshot, place, state)
            while place.part != "ended":
                page = self._page(snapshot, columns, place)
                if page.rows.num_rows:
                    data = self._deliver(page.rows, place, state)
                    place.pages += 1
                    if data is not None:
                        handed_out += len(data)
                        yield self._object(f"{place.pages:06d}", place, data)
                place.after = page.after
                if page.after is None:
                    place.part = "unversioned" if place.part == "changed" else "ended"
                if handed_out >= max_bytes and place.part != "ended":
                    self._state = {**state, "_place": asdict(place), "more": True}
                    return
            following = {key: value for key, value in state.items() if key not in ("_place", "more")}
            following["updated_since"] = place.high or state.get("updated_since")
            following["digests"] = place.digests
            if self._deletes == "compare" and not again:
                for data in self._gone(snapshot, state, following):
                    place.delivered = True
                    yield self._object("deleted", place, data)
        following["generation"] = state.get("generation", 0) + int(place.delivered)
        self._state = {**following, "more": False}

    def next_state(self) -> dict[str, Any]:
        if self._state is None:
            raise RuntimeError("next_state is valid after the iterator of fetch is exhausted")
        return {key: value for key, value in self._state.items() if value not in (None, [])}

    def _selected(self, snapshot: Snapshot) -> list[str]:
        """Columns to read: the contract's that the table has (what is missing is told by the decoder), or all."""
        there = list(snapshot.columns)
        found = there if self._columns is None else [name for name in self._columns if name in snapshot.columns]
        snapshot.require([self._deleted_column] if self._deleted_column else [])
        if not found:
            snapshot.require(self._columns or [])  # says which
        return found

    def _begin(self, snapshot: Snapshot, place: _Place, state: dict[str, Any]) -> None:
        if self._watermark is None:
            place.part = "unversioned"
            return
        place.high = snapshot.highest(self._watermark)
        since = state.get("updated_since")
        kind = snapshot.require([self._watermark])[0].kind
        if since is not None and (kind in _TIMES or re.fullmatch(r"-?\d+", since)):
            place.low = snapshot.set_back(self._watermark, since, self._overlap)
        if place.high is None:
            place.part = "unversioned"

    def _page(self, snapshot: Snapshot, columns: list[str], place: _Place) -> Any:
        bounds: dict[str, Any] = {}
        order = self._key
        if self._watermark and place.part == "changed":
            order = [self._watermark, *(name for name in self._key if name != self._watermark)]
            bounds["low"] = (self._watermark, place.low) if place.low is not None else None
            bounds["high"] = (self._watermark, place.high)
        elif self._watermark:
            bounds["unversioned"] = self._watermark
        return snapshot.page(columns, order, after=place.after, rows=self._page_rows, bytes_=_PAGE_BYTES, **bounds)

    def _deliver(self, rows: pa.Table, place: _Place, state: dict[str, Any]) -> bytes | None:
        """The page's bytes, None when it has no version and is the same as at the last reading."""
        data = as_parquet(rows)
        if place.part == "changed":
            return data
        digest = sha256(data).hexdigest()
        place.digests.append(digest)
        if digest in state.get("digests", ()):
            return None
        place.delivered = True
        return as_parquet(rows, state.get("generation", 0))

    def _gone(self, snapshot: Snapshot, state: dict[str, Any], following: dict[str, Any]) -> Iterator[bytes]:
        """Pages of keys that the last fetch saw and this snapshot has not; enters the new list into ``following``."""
        before = state.get("keys")
        self._lists.keep_only(before)
        if before is not None and not self._lists.has(before) and not self._lists.told(before):
            raise unavailable(
                "TIYU-ING-0135",
                "上次的键清单不见了，其间的删除认不出来",
                "可先从备份恢复 TIYU_HOME 下的 connectors 目录再重跑；直接重跑则以现有的键为新的起点",
                endpoint=self._endpoint,
                table=self._table,
            )
        now = self._lists.write(snapshot.keys(self._key))
        following["keys"] = now
        if before is None or not self._lists.has(before):
            return
        changed = False
        gone: list[pa.Table] = []
        generation = state.get("generation", 0)
        for part, others in self._lists.compare(before, now):
            changed = changed or others or part.num_rows > 0
            if part.num_rows:
                gone.append(part)
            if sum(table.num_rows for table in gone) >= self._page_rows:
                yield as_parquet(pa.concat_tables(gone).drop_columns([DIGEST]), generation)
                gone = []
        if gone:
            yield as_parquet(pa.concat_tables(gone).drop_columns([DIGEST]), generation)
        if not changed:
            self._lists.drop(now)
            following["keys"] = before

    def _object(self, what: str, place: _Place, data: bytes) -> FetchedObject:
        since = re.sub(r"[^0-9A-Za-z]+", "", place.low or "") or "begin"
        until = re.sub(r"[^0-9A-Za-z]+", "", place.high or "") or "now"
        name = f"{self._table}_{what}_{since}_{until}.parquet"
        return FetchedObject(name, MEDIA_TYPE, len(data), partial(BytesIO, data), None)


def as_parquet(rows: pa.Table, generation: int = 0) -> bytes:
    """Rows as a Parquet file whose bytes depend on them alone, and on ``generation`` where it is not 0."""
    plain = rows.replace_schema_metadata(None)
    sink = BytesIO()
    with pq.ParquetWriter(sink, plain.schema, compression="zstd", compression_level=3, store_schema=False) as writer:
        writer.write_table(plain)
        if generation:
            writer.add_key_value_metadata({"tiyu.generation": str(generation)})
    return sink.getvalue()
