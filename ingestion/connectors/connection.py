"""Connection URIs: ``TIYU_CONN_<NAME>`` holds where a source is and the credential for it.

Forms: ``file:///absolute/folder`` · ``http(s)://[user]:TOKEN@host[:port][/base]`` · ``mqtt(s)://[user:PASSWORD@]host[:port]`` ·
``postgresql://user:PASSWORD@host[:port]/database[?sslmode=…]`` · ``s3+http(s)://KEY:SECRET@host[:port][?region=…]`` ·
``sftp://user[:PASSWORD]@host[:port][/base]?host_key=SHA256:…[&key_file=…]``. The credential is kept out of ``repr``, of
error messages and of logs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from lake.errors import EXIT_USAGE, TiyuError

_PORTS = {"mqtt": 1883, "mqtts": 8883, "postgresql": 5432, "s3+http": 80, "s3+https": 443, "sftp": 22}
_HINT = "请设置环境变量，形如 file:///数据目录 或 http://:令牌@主机:端口"


@dataclass(frozen=True)
class Connection:
    """A parsed connection URI. ``endpoint`` is free of credentials; ``secret`` never shows in a repr.

    path: local folder of ``file`` · base: path of the others, decoded · options: what stands behind the question mark, one
    or more values a name.
    """

    scheme: str
    endpoint: str
    path: Path | None = None
    user: str = ""
    secret: str = field(default="", repr=False)
    host: str = ""
    port: int | None = None
    base: str = ""
    options: Mapping[str, list[str]] = field(default_factory=dict, repr=False)

    def option(self, name: str) -> str | None:
        """The value of an option, None when it is not given."""
        return self.options.get(name, [None])[-1]


def uri_from_environment(name: str, environ: Mapping[str, str] | None = None) -> str:
    """The URI of the connection ``name``; TIYU-ING-0103 when ``TIYU_CONN_<NAME>`` is not set."""
    variable = f"TIYU_CONN_{name}"
    uri = (os.environ if environ is None else environ).get(variable, "").strip()
    if not uri:
        raise TiyuError("TIYU-ING-0103", f"没有配置数据源连接 {name}", _HINT, EXIT_USAGE, variable=variable)
    return uri


def parse_connection(uri: str) -> Connection:
    """Parse a connection URI. Errors: TIYU-ING-0104 (the message never repeats the URI, it holds a credential)."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise TiyuError("TIYU-ING-0104", "数据源连接不是合法的 URI", _HINT, EXIT_USAGE) from None
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise TiyuError("TIYU-ING-0104", "file 连接必须是本机绝对路径", _HINT, EXIT_USAGE)
        path = Path(unquote(parts.path))
        return Connection("file", f"file://{parts.path}", path=path)
    if parts.scheme in ("http", "https") and parts.hostname:
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        endpoint = f"{parts.scheme}://{host}" + (f":{port}" if port else "") + parts.path.rstrip("/")
        return Connection(
            parts.scheme, endpoint, user=unquote(parts.username or ""), secret=unquote(parts.password or "")
        )
    if parts.scheme in _PORTS and parts.hostname:
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return Connection(
            parts.scheme,
            f"{parts.scheme}://{host}" + (f":{port}" if port else "") + parts.path.rstrip("/"),
            user=unquote(parts.username or ""),
            secret=unquote(parts.password or ""),
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            base=unquote(parts.path),
            options=parse_qs(parts.query),
        )
    raise TiyuError("TIYU-ING-0104", "数据源连接的协议不支持", _HINT, EXIT_USAGE, scheme=parts.scheme or None)
