"""REST sources that give JSON page by page, in whole or what was updated since a moment.

One object is one page, byte for byte as the source sent it. Four ways of paging: by number (``page``), by rows to skip
(``offset``), by a token of the last answer (``cursor``) and by the address of the next page (``link``: RFC 8288, or a
member of the answer). Where the answers name a total, a pass over the pages counts only when the rows received are that
many and the total did not change on the way; otherwise all pages are read again, so that a row that moved to a page
already read is not lost. Rows read twice are the duplicates that the contract declares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from typing import Any, ClassVar

import httpx

from ingestion.connectors.base import FetchedObject, Reach, check_options, option_error, unavailable
from ingestion.connectors.connection import parse_connection
from ingestion.connectors.http_source import Answer, HttpSource

_LONGEST_SEQUENCE = 1_000_000
"""Pages; an interface that has more in one sequence does not end."""


@dataclass(frozen=True)
class _Place:
    """Where a pass over the pages stands. ``at`` is None before the first page; ``total`` as the first page named it."""

    at: str | int | None = None
    pages: int = 0
    rows: int = 0
    total: int | None = None
    high_water: str | None = None
    restarts: int = 0
    digest: str = ""

    @classmethod
    def of(cls, state: dict[str, Any], paging: str) -> _Place:
        """The place a batch ended at, or the beginning when it was reached by another way of paging."""
        found = state.get("_place") or state
        if found.get("cursor") is None or found.get("paging", "cursor") != paging:
            return cls()
        return cls(
            found["cursor"],
            found.get("pages", 0),
            found.get("rows", 0),
            found.get("total"),
            found.get("high_water"),
            state.get("_restarts", 0),
        )

    def state(self, paging: str) -> dict[str, Any]:
        """What the next batch needs to go on from here.

        A cursor or an address stays good for a later run. A page number does not: rows have moved by then, so a later
        run begins the pass again, and pages that did not change are recognised by their content.
        """
        place = {
            "cursor": self.at,
            "paging": paging,
            "pages": self.pages,
            "rows": self.rows,
            "total": self.total,
            "high_water": self.high_water,
        }
        return {"_restarts": self.restarts, **({"_place": place} if paging in ("page", "offset") else place)}


class Rest:
    """Connector ``rest`` (also under its former name ``rest_cursor``).

    Options (defaults stand in `catalog.contracts.connector_options`): ``path`` of the resource · ``paging`` ``none``,
    ``page``, ``offset``, ``cursor`` or ``link`` · ``auth`` ``none``, ``bearer`` or ``signed`` · ``limit`` items a page ·
    ``query`` fixed parameters · names of parameters (``since_param``, ``cursor_param``, ``page_param``,
    ``offset_param``, ``limit_param``; null where the interface has none) · dotted names in the answer (``items_path``,
    empty for the answer itself, ``next_cursor_path``, ``next_link_path``, ``high_water_path``, ``total_path``) ·
    ``total_header`` · ``first_page`` · ``since_format`` ``iso``, ``date``, ``epoch`` or ``epoch_ms`` ·
    ``high_water_from`` ``body`` or ``date_header`` (the source's clock) · ``overlap_seconds`` by which the watermark is
    set back · ``max_restarts`` · ``timeout_seconds``, ``answer_seconds``, ``attempts``, ``backoff_seconds``,
    ``max_page_bytes`` (see :class:`HttpSource`).

    State: ``{"updated_since": text as the source wrote it}``, and the place in the sequence when ``max_bytes`` ended a
    batch in its middle. The high-water mark of the *first* page of a pass is kept: what changes while we page is fetched
    next time.
    """

    name = "rest"
    options: ClassVar[dict[str, Any]] = {
        "path": str,
        "paging": str,
        "auth": str,
        "limit": int,
        "query": dict,
        "items_path": str,
        "since_param": (str, type(None)),
        "since_format": str,
        "overlap_seconds": int,
        "cursor_param": str,
        "page_param": str,
        "first_page": int,
        "offset_param": str,
        "limit_param": (str, type(None)),
        "next_cursor_path": str,
        "next_link_path": (str, type(None)),
        "high_water_from": str,
        "high_water_path": str,
        "total_path": (str, type(None)),
        "total_header": (str, type(None)),
        "max_restarts": int,
        "timeout_seconds": (int, float),
        "answer_seconds": (int, float),
        "attempts": int,
        "backoff_seconds": (int, float),
        "max_page_bytes": int,
    }

    def __init__(
        self, options: dict[str, Any], connection_uri: str | None, is_seen: Callable[[str], bool], from_dir: Any = None
    ):
        check_options(self.name, options, self.options)
        if from_dir is not None:
            raise option_error(self.name, "接口类数据源不能用 --from 指定目录")
        if "path" not in options or not options["path"].startswith("/"):
            raise option_error(self.name, "rest 连接器需要以 / 开头的配置项 path", option="path")
        if connection_uri is None:
            raise option_error(self.name, "rest 连接器需要 http(s):// 连接")
        self._connection = parse_connection(connection_uri)
        if self._connection.scheme not in ("http", "https"):
            raise option_error(self.name, "rest 连接器只接受 http(s):// 连接", scheme=self._connection.scheme)
        self._paging = self._one_of(options, "paging", "cursor", ("none", "page", "offset", "cursor", "link"))
        self._auth: Any = self._one_of(options, "auth", "bearer", ("none", "bearer", "signed"))
        self._format = self._one_of(options, "since_format", "iso", ("iso", "date", "epoch", "epoch_ms"))
        self._from_date = self._one_of(options, "high_water_from", "body", ("body", "date_header")) == "date_header"
        self._url = self._connection.endpoint + options["path"]
        self._options = options
        self._overlap = timedelta(seconds=options.get("overlap_seconds", 0))
        self._since_param = options.get("since_param", "updated_since")
        self._state: dict[str, Any] | None = None

    @classmethod
    def reach(cls, options: dict[str, Any]) -> Reach:
        """An interface with a watermark is asked for everything updated since the first day: it has no upper bound."""
        return "since" if options.get("since_param", "updated_since") else "whole"

    @classmethod
    def state_since(cls, moment: datetime) -> dict[str, Any]:
        """The state from which what was updated at ``moment`` or later is fetched (the parameter is exclusive)."""
        return {"updated_since": (moment - timedelta(microseconds=1)).isoformat()}

    def fetch(self, state: dict[str, Any], *, max_bytes: int) -> Iterator[FetchedObject]:
        """Pages since ``state``. An empty page gives no object.

        Errors: those of :meth:`HttpSource.get` · TIYU-ING-0123 the answer does not follow the interface · 0127 the
        total kept changing, or is never the number of rows received.
        """
        self._state = None
        since = state.get("updated_since")
        place = _Place.of(state, self._paging)
        handed_out = 0
        used = {place.at}
        keys = ("timeout_seconds", "answer_seconds", "attempts", "backoff_seconds")
        settings = {key: self._options[key] for key in keys if key in self._options}
        settings["max_body_bytes"] = self._options.get("max_page_bytes", 64 << 20)
        with HttpSource(self._connection, self._auth, **settings) as source:
            while True:
                answer = self._ask(source, since, place)
                items = self._items(source, answer)
                total = self._total(source, answer)
                name = self._page_name(since, place)
                if items:
                    handed_out += len(answer.body)
                    yield FetchedObject(name, "application/json", len(answer.body), _opener(answer.body), None)
                if total is not None and place.total not in (None, total):
                    place, used = self._restart(place), {None}
                    continue
                following = self._following(source, answer, items, place, total)
                if following.at is None:
                    if following.total is not None and following.rows != following.total:
                        place, used = self._restart(following), {None}
                        continue
                    self._state = {"updated_since": following.high_water or since, "more": False}
                    return
                if following.at in used or following.pages > _LONGEST_SEQUENCE:
                    raise source.against("翻页游标重复，停止翻页以免死循环")
                used.add(following.at)
                place = following
                if handed_out >= max_bytes:
                    self._state = {"updated_since": since, "more": True, **place.state(self._paging)}
                    return

    def next_state(self) -> dict[str, Any]:
        if self._state is None:
            raise RuntimeError("next_state is valid after the iterator of fetch is exhausted")
        return {key: value for key, value in self._state.items() if value is not None}

    def _one_of(self, options: dict[str, Any], key: str, default: str, allowed: tuple[str, ...]) -> str:
        value = options.get(key, default)
        if value not in allowed:
            raise option_error(self.name, f"连接器配置项 {key} 只能是 {'、'.join(allowed)}", option=key)
        return value

    def _ask(self, source: HttpSource, since: str | None, place: _Place) -> Answer:
        if self._paging == "link" and place.at is not None:
            return source.get(str(source.own(httpx.URL(source.endpoint).join(str(place.at)))))
        params = {key: str(value) for key, value in self._options.get("query", {}).items()}
        limit_param = self._options.get("limit_param", "limit")
        if limit_param and self._paging != "none":
            params[limit_param] = str(self._options.get("limit", 1000))
        if since and self._since_param:
            params[self._since_param] = self._since_text(source, since)
        if self._paging == "page":
            number = place.at if place.at is not None else self._options.get("first_page", 1)
            params[self._options.get("page_param", "page")] = str(number)
        elif self._paging == "offset":
            params[self._options.get("offset_param", "offset")] = str(place.at or 0)
        elif self._paging == "cursor" and place.at not in (None, ""):
            params[self._options.get("cursor_param", "cursor")] = str(place.at)
        return source.get(self._url, params)

    def _items(self, source: HttpSource, answer: Answer) -> list[Any]:
        path = self._options.get("items_path", "items")
        items = _lookup(answer.document, path)
        if not isinstance(items, list):
            raise source.against(f"应答中没有列表 {path}")
        return items

    def _total(self, source: HttpSource, answer: Answer) -> int | None:
        path, header = self._options.get("total_path"), self._options.get("total_header")
        if not path and not header:
            return None
        value = _lookup(answer.document, path) if path else answer.headers.get(header or "", "")
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:18])
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise source.against(f"应答中没有总数 {path or header}")
        return value

    def _high_water(self, source: HttpSource, answer: Answer) -> str | None:
        if not self._since_param:
            return None
        if self._from_date:
            if answer.sent_at is None:
                raise source.against("应答没有 Date 头")
            return answer.sent_at.isoformat()
        path = self._options.get("high_water_path", "high_water")
        value = _lookup(answer.document, path)
        if self._format.startswith("epoch") and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if value is not None and not isinstance(value, str):
            raise source.against(f"应答中的 {path} 不是时间文本")
        return value

    def _following(
        self, source: HttpSource, answer: Answer, items: list[Any], place: _Place, total: int | None
    ) -> _Place:
        """The place after a page; its ``at`` is None when that was the last page."""
        rows = place.rows + len(items)
        digest = sha256(answer.body).hexdigest() if items else ""
        at: str | int | None = None
        if self._paging == "cursor":
            path = self._options.get("next_cursor_path", "next_cursor")
            found = _lookup(answer.document, path)
            if found is not None and (not isinstance(found, str | int) or isinstance(found, bool)):
                raise source.against(f"应答中的 {path} 不是文本")
            at = None if found == "" else found
        elif self._paging == "link":
            at = self._next_link(source, answer)
        elif self._paging in ("page", "offset") and items and (total is None or rows < total):
            # The source may give fewer rows than asked for, so a short page ends nothing: an empty one does.
            if len(items) > 1 and digest == place.digest:
                raise source.against("连续两页完全相同，接口似乎不理会翻页参数")
            number = place.at if isinstance(place.at, int) else self._options.get("first_page", 1)
            at = rows if self._paging == "offset" else number + 1
        high_water = place.high_water if place.high_water is not None else self._high_water(source, answer)
        return replace(
            place, at=at, pages=place.pages + 1, rows=rows, total=total, high_water=high_water, digest=digest
        )

    def _next_link(self, source: HttpSource, answer: Answer) -> str | None:
        path = self._options.get("next_link_path")
        target = _lookup(answer.document, path) if path else answer.next_link
        if target is None or target == "":
            return None
        if not isinstance(target, str):
            raise source.against(f"应答中的 {path} 不是地址")
        try:
            url = source.own(answer.url.join(target))
        except httpx.InvalidURL:
            raise source.against("下一页的地址不是合法的 URL") from None
        return url.raw_path.decode("ascii")  # without the host: a watermark must not move with the connection

    def _restart(self, place: _Place) -> _Place:
        limit = self._options.get("max_restarts", 3)
        if place.restarts >= limit:
            raise unavailable(
                "TIYU-ING-0127",
                "翻页期间数据源的总数一直在变，或与收到的行数不符，已放弃这一次",
                "请在数据源较空闲时重跑，或请数据源单位提供游标翻页；总数若不是本次查询的行数，请从契约中删去 totalPath",
                endpoint=self._connection.endpoint,
                restarts=limit,
                rows=place.rows,
                total=place.total,
            )
        return _Place(restarts=place.restarts + 1)

    def _since_text(self, source: HttpSource, since: str) -> str:
        """The value of the parameter: the watermark less the overlap, in the interface's own way of writing."""
        if self._format == "iso" and not self._overlap:
            return since
        scale = {"epoch": 1, "epoch_ms": 1000}.get(self._format)
        try:
            if scale and re.fullmatch(r"-?\d+(\.\d+)?", since):
                moment = datetime.fromtimestamp(float(since) / scale, UTC)
            else:
                moment = datetime.fromisoformat(since)
            moment -= self._overlap
        except (ValueError, OverflowError, OSError):
            raise source.against("水位线不是时间，无法回退 overlapSeconds") from None
        if scale:
            return str(int((moment.timestamp() if moment.tzinfo else moment.replace(tzinfo=UTC).timestamp()) * scale))
        return moment.date().isoformat() if self._format == "date" else moment.isoformat()

    def _page_name(self, since: str | None, place: _Place) -> str:
        """A stable name: the same request has the same name, in an order that can be read."""
        stem = self._url.rsplit("/", 1)[-1] or "page"
        begin = re.sub(r"[^0-9A-Za-z]+", "", str(since or "begin")) or "0"
        if self._paging == "cursor":
            where = (re.sub(r"[^0-9A-Za-z]+", "", str(place.at or "0")) or "0")[-48:]
        else:  # an address of the source's making may hold anything; the number of the page is enough
            where = f"{place.at or 0:09d}" if self._paging == "offset" else f"{place.pages + 1:06d}"
        again = f"_r{place.restarts}" if place.restarts else ""
        return f"{stem}_{begin}_{where}{again}.json"


def _lookup(page: Any, path: str) -> Any:
    for part in path.split(".") if path else ():
        if not isinstance(page, dict):
            return None
        page = page.get(part)
    return page


def _opener(body: bytes) -> Callable[[], BytesIO]:
    return lambda: BytesIO(body)
