"""Serve the static pages on loopback: start page and portal preview (``python -m deploy.static_server``).

Read only, directory listings off, nothing but files under the given folders. Public exposure is not its purpose: it binds to
127.0.0.1 unless told otherwise (the container of the production shape does, on an internal network).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".geojson": "application/geo+json; charset=utf-8",
    ".jsonld": "application/ld+json; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
    ".txt": "text/plain; charset=utf-8",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Headers:
    """Adds the security headers and the right type of data files to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        kind = TYPES.get(Path(scope.get("path", "")).suffix)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                replaced = {name.lower().encode() for name in HEADERS}
                if kind and message["status"] == 200:
                    replaced.add(b"content-type")
                headers = [item for item in message["headers"] if item[0] not in replaced]
                headers += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                if kind and message["status"] == 200:
                    headers.append((b"content-type", kind.encode()))
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, send_with_headers)


def application(mounts: dict[str, Path]) -> Starlette:
    """The ASGI application: ``mounts`` maps a URL prefix to a folder; ``/health`` answers ``ok``."""
    routes: list[BaseRoute] = [Route("/health", lambda request: PlainTextResponse("ok"))]
    for prefix, folder in sorted(mounts.items(), key=lambda item: -len(item[0])):
        folder.mkdir(parents=True, exist_ok=True)
        routes.append(Mount(prefix.rstrip("/"), StaticFiles(directory=folder, html=True)))
    return Starlette(routes=routes, middleware=[Middleware(Headers)])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Serve static folders read only.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mount", action="append", default=[], metavar="PREFIX=FOLDER", help="may be repeated")
    options = parser.parse_args()
    mounts = {prefix: Path(folder) for prefix, _, folder in (item.partition("=") for item in options.mount)}
    uvicorn.run(application(mounts), host=options.host, port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
