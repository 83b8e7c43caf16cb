"""REST sources that page by cursor and give what was updated since a moment.

Protocol: ``GET path?updated_since=ISO&cursor=C&limit=N`` with a bearer token answers
``{"items": […], "next_cursor": "…"|null, "high_water": "ISO"}``; ``updated_since`` is exclusive. One object is one
page, byte for byte as the server sent it.
"""

from __future__ import annotations

import io
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import httpx

from ingestion.connectors.base import FetchedObject, check_options, option_error, unavailable
from ingestion.connectors.connection import parse_connection

_RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}


class RestCursor:
    """Connector ``rest_cursor``.

    Options: ``path`` of the resource (required) · ``limit`` items a page (default 1000) · ``since_param``,
    ``cursor_param``, ``limit_param`` names of the query (default ``updated_since``, ``cursor``, ``limit``) ·
    ``items_path``, ``next_cursor_path``, ``high_water_path`` dotted names in the answer (default ``items``,
    ``next_cursor``, ``high_water``) ·
    ``timeout_seconds`` (default 30) · ``attempts`` per request (default 5) · ``backoff_seconds`` first wait
    (default 0.5, doubled, with jitter) · ``max_page_bytes`` (default 64 MiB).

    State: ``{"updated_since": ISO}``, and ``cursor`` as well when ``max_bytes`` ended a batch in mid-sequence.
    The high-water mark of the *first* page of a sequence is kept: what changes while we page is fetched next time.
    """

    name = "rest_cursor"
    options: ClassVar[dict[str, Any]] = {
        "path": str,
        "limit": int,
        "items_path": str,
        "since_param": str,
        "cursor_param": str,
        "limit_param": str,
        "next_cursor_path": str,
        "high_water_path": str,
        "timeout_seconds": (int, float),
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
            raise option_error(self.name, "rest_cursor 连接器需要以 / 开头的配置项 path", option="path")
        if connection_uri is None:
            raise option_error(self.name, "rest_cursor 连接器需要 http(s):// 连接")
        connection = parse_connection(connection_uri)
        if connection.scheme not in ("http", "https"):
            raise option_error(self.name, "rest_cursor 连接器只接受 http(s):// 连接", scheme=connection.scheme)
        self._url = connection.endpoint + options["path"]
        self._secret = connection.secret
        self._limit = options.get("limit", 1000)
        self._items_path = options.get("items_path", "items")
        self._cursor_path = options.get("next_cursor_path", "next_cursor")
        self._since_param = options.get("since_param", "updated_since")
        self._cursor_param = options.get("cursor_param", "cursor")
        self._limit_param = options.get("limit_param", "limit")
        self._high_water_path = options.get("high_water_path", "high_water")
        self._timeout = float(options.get("timeout_seconds", 30))
        self._attempts = max(1, options.get("attempts", 5))
        self._backoff = float(options.get("backoff_seconds", 0.5))
        self._max_page_bytes = options.get("max_page_bytes", 64 * 1024 * 1024)
        self._state: dict[str, Any] | None = None

    def fetch(self, state: dict[str, Any], *, max_bytes: int) -> Iterator[FetchedObject]:
        """Pages since ``state``. An empty page gives no object.

        Errors: TIYU-ING-0120 unreachable after all attempts · 0121 the token is refused (401/403) · 0122 another
        refusal (4xx) · 0123 the answer does not follow the protocol · 0124 a page is larger than allowed.
        """
        self._state = None
        since = state.get("updated_since")
        cursor = state.get("cursor")
        high_water = state.get("high_water")
        handed_out = 0
        used_cursors = {cursor}
        # trust_env=False: a proxy of the environment must never see the token.
        with httpx.Client(timeout=self._timeout, follow_redirects=False, trust_env=False) as client:
            while True:
                body = self._get(client, since, cursor)
                page = self._parse(body)
                items = _lookup(page, self._items_path)
                if not isinstance(items, list):
                    raise self._protocol_error(f"应答中没有列表 {self._items_path}")
                next_cursor = _lookup(page, self._cursor_path)
                if next_cursor is not None and not isinstance(next_cursor, str | int):
                    raise self._protocol_error(f"应答中的 {self._cursor_path} 不是文本")
                if high_water is None:
                    high_water = _lookup(page, self._high_water_path)
                    if high_water is not None and not isinstance(high_water, str):
                        raise self._protocol_error(f"应答中的 {self._high_water_path} 不是时间文本")
                if items:
                    handed_out += len(body)
                    yield FetchedObject(
                        self._page_name(since, cursor), "application/json", len(body), _opener(body), None
                    )
                if next_cursor is None or next_cursor == "":
                    self._state = {"updated_since": high_water or since, "more": False}
                    return
                if next_cursor in used_cursors:
                    raise self._protocol_error("翻页游标重复，停止翻页以免死循环")
                used_cursors.add(next_cursor)
                cursor = next_cursor
                if handed_out >= max_bytes:
                    self._state = {"updated_since": since, "cursor": cursor, "high_water": high_water, "more": True}
                    return

    def next_state(self) -> dict[str, Any]:
        if self._state is None:
            raise RuntimeError("next_state is valid after the iterator of fetch is exhausted")
        return {key: value for key, value in self._state.items() if value is not None}

    def _page_name(self, since: str | None, cursor: str | int | None) -> str:
        """A stable name: the same request has the same name, in an order that can be read."""
        stem = self._url.rsplit("/", 1)[-1] or "page"
        parts = [re.sub(r"[^0-9A-Za-z]+", "", str(part)) or "0" for part in (since or "begin", cursor or "0")]
        return f"{stem}_{parts[0]}_{parts[1][-48:]}.json"

    def _get(self, client: httpx.Client, since: str | None, cursor: str | int | None) -> bytes:
        params: dict[str, str] = {self._limit_param: str(self._limit)}
        if since:
            params[self._since_param] = since
        if cursor not in (None, ""):
            params[self._cursor_param] = str(cursor)
        headers = {"Accept": "application/json"}
        if self._secret:
            headers["Authorization"] = f"Bearer {self._secret}"
        problem = ""
        for attempt in range(1, self._attempts + 1):
            wait = self._backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
            try:
                with client.stream("GET", self._url, params=params, headers=headers) as response:
                    status = response.status_code
                    if status in (401, 403):
                        raise unavailable(
                            "TIYU-ING-0121",
                            "数据源拒绝了访问令牌",
                            "请向数据源单位核对令牌，并更新对应的 TIYU_CONN_ 连接",
                            endpoint=self._url,
                            status=status,
                        )
                    if status in _RETRY_STATUS:
                        problem = f"HTTP {status}"
                        wait = max(wait, min(_retry_after(response), 30.0))
                    elif status != 200:
                        raise unavailable(
                            "TIYU-ING-0122",
                            "数据源拒绝了请求",
                            "请核对接口路径和参数，必要时联系数据源单位",
                            endpoint=self._url,
                            status=status,
                        )
                    else:
                        return self._read(response)
            except httpx.TransportError as error:
                problem = type(error).__name__  # the text of the error may repeat headers; its kind is enough
            if attempt < self._attempts:
                time.sleep(wait)
        raise unavailable(
            "TIYU-ING-0120",
            "数据源接口无法访问",
            "请确认数据源服务正在运行、网络可达，稍后重试；未取到的数据下次会继续取",
            endpoint=self._url,
            attempts=self._attempts,
            reason=problem,
        )

    def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > self._max_page_bytes:
                raise unavailable(
                    "TIYU-ING-0124",
                    "数据源的一页应答过大",
                    "请调小契约中的 limit，或核对接口",
                    endpoint=self._url,
                    max_page_bytes=self._max_page_bytes,
                )
        return bytes(body)

    def _parse(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise self._protocol_error("应答不是合法的 JSON") from None

    def _protocol_error(self, message_zh: str):
        return unavailable(
            "TIYU-ING-0123", f"数据源应答不符合约定：{message_zh}", "请联系数据源单位核对接口规范", endpoint=self._url
        )


def _lookup(page: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(page, dict):
            return None
        page = page.get(part)
    return page


def _retry_after(response: httpx.Response) -> float:
    try:
        return float(response.headers.get("Retry-After", "0"))
    except ValueError:
        return 0.0


def _opener(body: bytes) -> Callable[[], io.BytesIO]:
    return lambda: io.BytesIO(body)
