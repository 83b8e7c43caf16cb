"""Asking an HTTP source patiently: retries, throttling, redirects, credentials, and answers that end too early.

The credential goes to the source's own origin and nowhere else: proxies of the environment are not used, redirects and
links that lead to another host are refused. Nothing of a request or of a redirect is logged.
"""

from __future__ import annotations

import json
import logging
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from ingestion.connectors.base import printable, unavailable
from ingestion.connectors.connection import Connection
from ingestion.connectors.signature import signed_headers
from lake.errors import EXIT_USAGE, TiyuError

Auth = Literal["none", "bearer", "signed"]

# Both log addresses (with cursors, and with whatever a server puts into a link) and the headers of answers.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

_RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = 5
_LONGEST_WAIT = 30.0
"""Seconds; the longest pause between two attempts. A source that asks for more is left alone until the next run."""


@dataclass(frozen=True)
class Answer:
    """An answer with status 200: the body byte for byte (content encoding undone), and what it says as JSON."""

    body: bytes
    document: Any
    headers: httpx.Headers
    url: httpx.URL

    @property
    def next_link(self) -> str | None:
        """Target of the link header (RFC 8288) with the relation ``next``, made absolute."""
        links = httpx.Response(200, headers=self.headers).links
        target = next((link.get("url") for rel, link in links.items() if rel and "next" in rel.lower().split()), None)
        return None if target is None else str(self.url.join(target))

    @property
    def sent_at(self) -> datetime | None:
        """The source's own clock at the time of the answer, in UTC."""
        return http_date(self.headers.get("Date"))


class _Again(Exception):
    """This attempt failed in a way that another one may mend; ``wait`` is what the source asked for, in seconds."""

    def __init__(self, problem: str, wait: float = 0.0):
        super().__init__(problem)
        self.problem, self.wait = problem, wait


class HttpSource:
    """GET requests to one origin. Use as a context manager.

    timeout_seconds: of connecting and of every read · answer_seconds: of a whole answer, however busily it trickles ·
    attempts: per request · backoff_seconds: first pause, doubled each time up to half a minute, with jitter ·
    max_body_bytes: of one answer, after decompression.
    """

    def __init__(
        self,
        connection: Connection,
        auth: Auth,
        *,
        timeout_seconds: float = 30,
        answer_seconds: float = 300,
        attempts: int = 5,
        backoff_seconds: float = 0.5,
        max_body_bytes: int = 64 << 20,
    ):
        missing = {
            "none": False,
            "bearer": not connection.secret,
            "signed": not (connection.secret and connection.user),
        }
        if missing[auth]:
            raise TiyuError(
                "TIYU-ING-0104",
                "数据源连接里缺少凭据",
                "bearer 形如 https://:令牌@主机，signed 形如 https://密钥编号:密钥@主机；不需要凭据时在契约中写 auth: none",
                EXIT_USAGE,
                endpoint=connection.endpoint,
            )
        self.endpoint = connection.endpoint
        self._origin = _origin(httpx.URL(connection.endpoint))
        self._auth, self._user, self._secret = auth, connection.user, connection.secret
        self._answer_seconds, self._attempts, self._backoff = answer_seconds, max(1, attempts), backoff_seconds
        self._max_body_bytes = max_body_bytes
        # trust_env=False: a proxy of the environment must never see the credential.
        # The certificates of authorities take a tenth of a second to load, which plain http does not need.
        self._client = httpx.Client(
            timeout=timeout_seconds,
            follow_redirects=False,
            trust_env=False,
            verify=connection.scheme == "https",
        )

    def __enter__(self) -> HttpSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, url: str, params: dict[str, str] | None = None) -> Answer:
        """The answer to a request of this origin.

        Errors: TIYU-ING-0120 unreachable after all attempts · 0121 the credential is refused (401, 403) · 0122 another
        refusal · 0123 no JSON, or an endless redirect · 0124 the answer is larger than allowed · 0125 another host is
        pointed at · 0126 the source asks to be left alone for longer than we wait.
        """
        problem = ""
        for attempt in range(1, self._attempts + 1):
            pause = min(self._backoff * 2 ** (attempt - 1), _LONGEST_WAIT) * random.uniform(0.5, 1.5)
            try:
                return self._once(url, params)
            except _Again as again:
                problem, pause = again.problem, max(pause, again.wait)
            except (httpx.TransportError, httpx.DecodingError) as error:
                problem = type(error).__name__  # the text of the error may repeat headers; its kind is enough
            if attempt < self._attempts:
                time.sleep(pause)
        if problem == "JSON":
            raise self.against("应答不是合法的 JSON，或在中途断开")
        raise unavailable(
            "TIYU-ING-0120",
            "数据源接口无法访问",
            "请确认数据源服务正在运行、网络可达，稍后重试；未取到的数据下次会继续取",
            endpoint=self.endpoint,
            attempts=self._attempts,
            reason=problem,
        )

    def own(self, url: httpx.URL) -> httpx.URL:
        """The address without user part and fragment; TIYU-ING-0125 unless it is of this source's origin."""
        if _origin(url) != self._origin:
            raise unavailable(
                "TIYU-ING-0125",
                "数据源指向另一台主机，已拒绝前往，凭据没有发出",
                "请向数据源单位核对地址；确已迁移时更新对应的 TIYU_CONN_ 连接",
                endpoint=self.endpoint,
                other=printable(f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}")[:200],
            )
        return url.copy_with(username=None, password=None, fragment=None)

    def against(self, message_zh: str) -> TiyuError:
        """An answer that does not follow the interface (TIYU-ING-0123)."""
        return unavailable(
            "TIYU-ING-0123",
            f"数据源应答不符合约定：{message_zh}",
            "请联系数据源单位核对接口规范",
            endpoint=self.endpoint,
        )

    def _once(self, url: str, params: dict[str, str] | None) -> Answer:
        target = httpx.URL(url)
        if params:
            target = target.copy_merge_params(params)
        for _ in range(_REDIRECTS + 1):
            request = self._client.build_request("GET", target, headers=self._headers(str(target)))
            response = self._client.send(request, stream=True)
            try:
                if response.has_redirect_location:
                    try:
                        target = self.own(target.join(response.headers["Location"]))
                    except httpx.InvalidURL:
                        raise self.against("转向的地址不是合法的 URL") from None
                    continue
                self._check(response)
                body = self._read(response)
            finally:
                response.close()
            try:
                document = json.loads(body)
            except (ValueError, RecursionError):
                raise _Again("JSON") from None
            return Answer(body, document, response.headers, target)
        raise self.against("转向没有尽头")

    def _headers(self, url: str) -> dict[str, str]:
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        if self._auth == "bearer":
            headers["Authorization"] = f"Bearer {self._secret}"
        elif self._auth == "signed":
            headers |= signed_headers("GET", url, b"", key_id=self._user, secret=self._secret)
        return headers

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in (401, 403):
            raise unavailable(
                "TIYU-ING-0121",
                "数据源拒绝了访问令牌",
                "请向数据源单位核对令牌，并更新对应的 TIYU_CONN_ 连接",
                endpoint=self.endpoint,
                status=status,
            )
        if status in _RETRY_STATUS:
            wait = _retry_after(response)
            if wait > _LONGEST_WAIT:
                raise unavailable(
                    "TIYU-ING-0126",
                    "数据源限流，要求过一段时间再来",
                    "不必处理，下一次定时汇聚会接着取；若经常出现，请与数据源单位商定访问频率",
                    endpoint=self.endpoint,
                    status=status,
                    seconds=round(wait),
                )
            raise _Again(f"HTTP {status}", wait)
        if status != 200:
            raise unavailable(
                "TIYU-ING-0122",
                "数据源拒绝了请求",
                "请核对接口路径和参数（每页行数也可能超过了对方的上限），必要时联系数据源单位",
                endpoint=self.endpoint,
                status=status,
            )

    def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        deadline = time.monotonic() + self._answer_seconds
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > self._max_body_bytes:
                raise unavailable(
                    "TIYU-ING-0124",
                    "数据源的一页应答过大",
                    "请调小契约中的 limit，或核对接口",
                    endpoint=self.endpoint,
                    max_page_bytes=self._max_body_bytes,
                )
            if time.monotonic() > deadline:
                raise _Again("Timeout")
        return bytes(body)


def http_date(text: str | None) -> datetime | None:
    """A date of HTTP in UTC, None when there is none or when it is not one."""
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the source asks for: a number, or a date, which is read by the source's own clock."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    until = http_date(text)
    if until is None:
        return 0.0
    now = http_date(response.headers.get("Date")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)
