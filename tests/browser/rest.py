"""Superset's REST interface as the tests use it; standard library only."""

from __future__ import annotations

import http.cookiejar
import json
import time
import urllib.error
import urllib.request
from typing import Any


class Refused(Exception):
    """Superset answered with an error; the message begins with method, path and status."""


class Client:
    """Superset's REST API with a login token."""

    def __init__(self, url: str, user: str, password: str, timeout: float = 60.0) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        # No proxy from the environment: the cockpit is addressed directly, and the password with it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
        self._headers: dict[str, str] = {"Accept": "application/json", "Referer": self.url}
        login = {"username": user, "password": password, "provider": "db", "refresh": False}
        self._headers["Authorization"] = f"Bearer {self.call('POST', '/api/v1/security/login', login)['access_token']}"
        self._headers["X-CSRFToken"] = self.call("GET", "/api/v1/security/csrf_token/")["result"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request; returns the decoded JSON answer. Raises :class:`Refused` on any other answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, **({"Content-Type": "application/json"} if data is not None else {})}
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                return json.loads(answer.read() or b"{}")
        except json.JSONDecodeError as error:  # a page instead of data: the session was not accepted
            raise Refused(f"{method} {path}: no data (not signed in)") from error
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf8", "replace")[:800]
            raise Refused(f"{method} {path}: {error.code} {text}") from error

    def listing(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind (chart, dataset, dashboard), a page at a time."""
        found: list[dict[str, Any]] = []
        page = 0
        while True:
            answer = self.call("GET", f"/api/v1/{kind}/?q=(page:{page},page_size:100)")
            found += answer["result"]
            if not answer["result"] or len(found) >= answer["count"]:
                return found
            page += 1


def wait_until_up(url: str, seconds: float) -> None:
    """Wait for the login page (``/health`` is green even when every page fails). Raises :class:`Refused`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while True:
        try:
            with opener.open(f"{url.rstrip('/')}/login/", timeout=10) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            if time.monotonic() > deadline:
                raise Refused(f"{url} does not answer after {seconds:.0f} s: {error}") from error
        time.sleep(0.5)
