"""Put the declared assets into a running Superset: import, then remove what the code no longer declares.

Superset's import only adds and updates. Everything we import is marked *managed externally*; a managed chart, dataset
or dashboard whose uuid is not in the bundle was ours and is gone from the code, so it is deleted. What a user built
himself is never touched. Cached figures need no call: the cache follows the serving file (``runtime.ServingCache``).

    python -m dashboards.deploy --url http://127.0.0.1:8088     (password: TIYU_COCKPIT_ADMIN_PASSWORD)
"""

from __future__ import annotations

import argparse
import http.cookiejar
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from dashboards import assets


class DeployError(Exception):
    """Superset refused or could not be reached; the message carries a stable code and what to do."""


@dataclass(frozen=True)
class DeployReport:
    """Number of imported files and the names of what was removed."""

    files: int
    charts: int
    removed_charts: tuple[str, ...]
    removed_datasets: tuple[str, ...]
    removed_dashboards: tuple[str, ...]
    seconds: float


class Client:
    """Superset's REST API with a login token, standard library only."""

    def __init__(self, url: str, user: str, password: str, timeout: float = 60.0) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        # No proxy from the environment: the cockpit is addressed directly, and the password with it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
        self._headers: dict[str, str] = {"Accept": "application/json", "Referer": self.url}
        login = {"username": user, "password": password, "provider": "db", "refresh": False}
        self._headers["Authorization"] = f"Bearer {self.call('POST', '/api/v1/security/login', login)['access_token']}"
        self._headers["X-CSRFToken"] = self.call("GET", "/api/v1/security/csrf_token/")["result"]

    def call(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, kind: str = "") -> Any:
        """One request; returns the decoded JSON answer. Raises :class:`DeployError` on any other answer."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        headers = {**self._headers, **({"Content-Type": kind or "application/json"} if data is not None else {})}
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                return json.loads(answer.read() or b"{}")
        except json.JSONDecodeError as error:  # a page instead of data: the session was not accepted
            raise DeployError(
                f"TIYU-COCKPIT-0013 驾驶舱对 {method} {path} 未返回数据（登录未被接受）。处理办法：检查口令与 SUPERSET_SECRET_KEY"
            ) from error
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf8", "replace")[:800]
            advice = "检查口令" if error.code in (401, 403) else "查看驾驶舱日志"
            raise DeployError(
                f"TIYU-COCKPIT-0011 驾驶舱拒绝 {method} {path}（{error.code}）：{text}。处理办法：{advice}"
            ) from error
        except (urllib.error.URLError, TimeoutError) as error:
            raise DeployError(
                f"TIYU-COCKPIT-0012 驾驶舱 {self.url} 无法访问：{error}。处理办法：先启动驾驶舱"
            ) from error

    def import_bundle(self, bundle: dict[str, str]) -> None:
        """Import the bundle through the assets endpoint (replaces our objects in place, by uuid)."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="bundle"; filename="assets.zip"\r\n'
        head += "Content-Type: application/zip\r\n\r\n"
        body = head.encode() + assets.archive(bundle) + f"\r\n--{boundary}--\r\n".encode()
        self.call("POST", "/api/v1/assets/import/", raw=body, kind=f"multipart/form-data; boundary={boundary}")

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
    """Wait for the login page (``/health`` is green even when every page fails). Raises :class:`DeployError`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while True:
        try:
            with opener.open(f"{url.rstrip('/')}/login/", timeout=10) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            if time.monotonic() > deadline:
                raise DeployError(
                    f"TIYU-COCKPIT-0012 驾驶舱 {url} 在 {seconds:.0f} 秒内未就绪：{error}。处理办法：查看驾驶舱日志"
                ) from error
        time.sleep(0.5)


def _remove_stale(client: Client, kind: str, declared: set[str], name_field: str) -> tuple[str, ...]:
    removed = []
    for item in client.listing(kind):
        if str(item["uuid"]) in declared:
            continue
        # Lists of datasets do not carry the flag, so the object itself is asked.
        managed = item.get("is_managed_externally")
        if managed is None:
            managed = client.call("GET", f"/api/v1/{kind}/{item['id']}")["result"].get("is_managed_externally")
        if managed:
            client.call("DELETE", f"/api/v1/{kind}/{item['id']}")
            removed.append(str(item[name_field]))
    return tuple(removed)


def deploy(url: str, password: str, *, user: str = "admin", bundle: dict[str, str] | None = None) -> DeployReport:
    """Import the bundle (default: the declared one) and remove our objects that are no longer in it."""
    started = time.monotonic()
    wanted = assets.build() if bundle is None else bundle
    declared: dict[str, set[str]] = {"charts": set(), "datasets": set(), "dashboards": set()}
    for name, text in wanted.items():
        folder = name.split("/")[0]
        if folder in declared:
            declared[folder].add(assets.yaml.safe_load(text)["uuid"])
    client = Client(url, user, password)
    client.import_bundle(wanted)
    # From the outside in: a dataset cannot lose its charts, nor a chart its dashboard, before they are gone.
    gone_dashboards = _remove_stale(client, "dashboard", declared["dashboards"], "dashboard_title")
    gone_charts = _remove_stale(client, "chart", declared["charts"], "slice_name")
    gone_datasets = _remove_stale(client, "dataset", declared["datasets"], "table_name")
    return DeployReport(
        len(wanted), len(declared["charts"]), gone_charts, gone_datasets, gone_dashboards, time.monotonic() - started
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dashboards.deploy", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--url", default=os.environ.get("TIYU_COCKPIT_URL", "http://127.0.0.1:8088"))
    parser.add_argument("--user", default="admin")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds to wait for the login page")
    parser.add_argument("--json", action="store_true", help="machine-readable report")
    options = parser.parse_args(argv)
    password = os.environ.get("TIYU_COCKPIT_ADMIN_PASSWORD", "")
    if not password:
        print("TIYU-COCKPIT-0007 缺少 TIYU_COCKPIT_ADMIN_PASSWORD。处理办法：设置后重试", file=sys.stderr)
        return 2
    try:
        wait_until_up(options.url, options.wait)
        report = deploy(options.url, password, user=options.user)
    except DeployError as error:
        print(str(error), file=sys.stderr)
        return 3
    if options.json:
        print(json.dumps(asdict(report), ensure_ascii=False))
    else:
        removed = [*report.removed_dashboards, *report.removed_charts, *report.removed_datasets]
        print(
            f"已导入 {report.files} 个文件、{report.charts} 个图表，移除 {len(removed)} 个过期对象，用时 {report.seconds:.1f} 秒"
        )
        for name in removed:
            print(f"  移除：{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
