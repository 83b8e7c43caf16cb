"""Serve the static sites: ``python -m sharing.sites.serve --root DIR --port N``.

Read only, loopback unless told otherwise; nothing outside the given folders, no directory listings, no script but the
catalogue's search.
The start page is at ``/``, the catalogue at ``/catalogue/``, the open-data preview at ``/open/``, the interface specification at ``/exchange/``.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lake.settings import settings

TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".geojson": "application/geo+json",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".jsonld": "application/ld+json",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
    ".py": "text/x-python; charset=utf-8",
    ".sha256": "text/plain; charset=utf-8",
    ".sm3": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
#: Only the catalogue has a script, its own search; nothing may be fetched, inlined or evaluated there either.
SCRIPTED = "/catalogue/"
SCRIPT_POLICY = HEADERS["content-security-policy"] + "; script-src 'self'"
_IMMUTABLE = re.compile(r"/v\d{8}-[0-9a-f]{8}(-\d+)?/[^/]+$")


class Headers:
    """Adds security headers, the right content type and caching rules to every answer.

    Published versions never change, so they may be kept for a year; everything else is revalidated by ETag.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        path = scope.get("path", "")
        kind = TYPES.get(Path(path).suffix)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = dict(HEADERS)
                if path.startswith(SCRIPTED):
                    extra["content-security-policy"] = SCRIPT_POLICY
                good = message["status"] in (200, 206, 304)
                if kind and good:
                    extra["content-type"] = kind
                extra["cache-control"] = (
                    "public, max-age=31536000, immutable" if good and _IMMUTABLE.search(path) else "no-cache"
                )
                kept = [item for item in message["headers"] if item[0].decode().lower() not in extra]
                message = {
                    **message,
                    "headers": [*kept, *((name.encode(), value.encode()) for name, value in extra.items())],
                }
            await send(message)

        await self.app(scope, receive, send_with_headers)


class PublicFiles(StaticFiles):
    """Static files without hidden ones (locks, work in progress)."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Resolve a path inside the folder; anything hidden does not exist."""
        if any(part.startswith(".") for part in Path(path).parts):
            return "", None
        return super().lookup_path(path)


def application(root: Path, open_root: Path | None = None) -> Starlette:
    """The ASGI application. Only GET and HEAD; a path that leaves its folder, also through a symbolic link, is not found."""
    routes: list[BaseRoute] = [Route("/health", lambda request: PlainTextResponse("ok"))]
    if open_root is not None:
        open_root.mkdir(parents=True, exist_ok=True)
        routes.append(Mount("/open", PublicFiles(directory=open_root, html=True)))
    root.mkdir(parents=True, exist_ok=True)
    routes.append(Mount("/", PublicFiles(directory=root, html=True)))
    return Starlette(routes=routes, middleware=[Middleware(Headers)])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Serve the start page and the open-data preview, read only.")
    parser.add_argument("--root", type=Path, default=None, help="site folder (default: the installation's)")
    parser.add_argument("--open-root", type=Path, default=None, help="open-data folder (default: the installation's)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; public exposure is off by default")
    parser.add_argument("--port", type=int, default=8740)
    options = parser.parse_args()
    site = options.root or settings().site_root
    uvicorn.run(
        application(site, options.open_root or settings().open_root),
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
