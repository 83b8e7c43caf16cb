"""Files of an SFTP server, taken as the files of a folder are.

The server must show the host key that was agreed: its fingerprint stands in the connection, or it is in a file of known
hosts; there is no trust at first sight. A server's clock is not ours, and its times are whole seconds, so every file of
the last day has to stay unchanged over a look, and again until its last byte is read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import logging
import random
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar, TypeVar

import paramiko

from ingestion.connectors import files
from ingestion.connectors.base import ObjectChanged, check_options, option_error, printable, unavailable
from ingestion.connectors.connection import Connection, parse_connection
from lake.errors import EXIT_USAGE, TiyuError

# It logs paths, and tracebacks for what is an error of ours with a code.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_CLOCK_SKEW = 86_400.0
_ATTEMPTS = 3
_FIRST_PAUSE = 0.5
_LONGEST_PATH = 4096
_BROKEN = (paramiko.SSHException, EOFError, ConnectionError, TimeoutError, socket.error)
_T = TypeVar("_T")


class Sftp(files.FilePlace):
    """Connector ``sftp``.

    Options: ``path`` folder below the connection's (default: itself) · ``pattern`` glob of the path below it (default
    ``**/*``) · ``settle_seconds`` (default 5) · ``max_object_bytes`` (default 2 GiB) · ``timeout_seconds`` (default 30).
    The connection is ``sftp://user[:PASSWORD]@host[:port][/base]?host_key=SHA256:…`` (the fingerprint that ``ssh-keygen
    -lf`` prints; several while a key is changed) or ``?known_hosts=FILE``, with ``&key_file=FILE`` for a private key.
    """

    name = "sftp"
    options: ClassVar[dict[str, Any]] = {
        "path": str,
        "pattern": str,
        "settle_seconds": (int, float),
        "max_object_bytes": int,
        "timeout_seconds": (int, float),
    }

    def __init__(
        self, options: dict[str, Any], connection_uri: str | None, is_seen: Callable[[str], bool], from_dir: Any = None
    ):
        check_options(self.name, options, self.options)
        if from_dir is not None:
            raise option_error(self.name, "SFTP 类数据源不能用 --from 指定目录")
        connection = parse_connection(connection_uri) if connection_uri else None
        if connection is None or connection.scheme != "sftp":
            raise option_error(self.name, "sftp 连接器需要 sftp:// 连接")
        relative = PurePosixPath(options.get("path", "."))
        if relative.is_absolute() or ".." in relative.parts:
            raise option_error(self.name, "配置项 path 必须是连接目录之内的相对路径", option="path")
        super().__init__(
            is_seen,
            pattern=options.get("pattern", "**/*"),
            settle_seconds=float(options.get("settle_seconds", 5)),
            skew_seconds=_CLOCK_SKEW,
            max_object_bytes=options.get("max_object_bytes", files.MAX_OBJECT_BYTES),
        )
        self._session = _Session(connection, float(options.get("timeout_seconds", 30)))
        self._root = str(PurePosixPath(connection.base or ".") / relative)

    def fetch(self, state: dict[str, Any], *, max_bytes: int) -> Iterator[Any]:
        """See :meth:`FilePlace.fetch`. Errors besides: TIYU-ING-0150 the server does not answer, or broke off · 0151 it
        refuses the account · 0152 it shows another host key than agreed · 0153 it sends a name that is no file name."""
        try:
            yield from super().fetch(state, max_bytes=max_bytes)
        finally:
            self._session.close()

    def _entries(self) -> Iterator[files.Entry]:
        fixed = files.fixed_folder(self._pattern)
        stack = [(str(PurePosixPath(self._root, *fixed)), "".join(part + "/" for part in fixed))]
        self._session.retrying(self._require_root)
        while stack:
            folder, prefix = stack.pop()
            for name, info in self._listed(folder):
                if name.startswith((".", "~$")):
                    continue
                shown, where = prefix + printable(name), f"{folder}/{name}"
                if len(shown) > _LONGEST_PATH:  # folders that hold themselves, by a link of the server's
                    raise self._session.hostile("路径过长")
                mode = info.st_mode or 0
                if stat.S_ISDIR(mode):
                    stack.append((where, shown + "/"))
                elif stat.S_ISREG(mode) and not files.is_ignored(name) and files.matches(shown, self._pattern):
                    modified = int(info.st_mtime or 0)
                    yield files.Entry(shown, int(info.st_size or 0), str(modified), float(modified), where)

    def _require_root(self, client: paramiko.SFTPClient) -> None:
        try:
            client.stat(self._root)
        except (FileNotFoundError, PermissionError):
            raise unavailable(
                "TIYU-ING-0110",
                "数据源目录不存在或不可读",
                "请检查连接配置和账号权限",
                folder=PurePosixPath(self._root).name,
            ) from None

    def _listed(self, folder: str) -> Iterator[tuple[str, paramiko.SFTPAttributes]]:
        """Names and attributes of a folder as a stream; a folder that is not there (any more) is empty."""
        seen = 0
        attempt = 0
        while True:
            try:
                for number, info in enumerate(self._session.client().listdir_iter(folder)):
                    name = info.filename
                    if name in (".", ".."):
                        continue
                    if "/" in name or "\0" in name or not name or len(name) > files.LONGEST_NAME:
                        raise self._session.hostile("文件名不是文件名")
                    if (
                        number >= seen
                    ):  # after a reconnection the listing begins anew; what was given is not given twice
                        seen = number + 1
                        yield name, info
                return
            except FileNotFoundError:
                return
            except UnicodeDecodeError:
                raise self._session.hostile("文件名不是 UTF-8 编码") from None
            except PermissionError:
                raise unavailable(
                    "TIYU-ING-0110", "数据源目录不可读", "请检查账号权限", folder=PurePosixPath(folder).name
                ) from None
            except _BROKEN as error:
                attempt += 1
                self._session.lost(error, attempt)

    def _now(self, entry: files.Entry) -> tuple[int, str] | None:
        try:
            info = self._session.retrying(lambda client: client.lstat(entry.where))
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(info.st_mode or 0):
            return None
        return int(info.st_size or 0), str(int(info.st_mtime or 0))

    def _open(self, entry: files.Entry) -> BinaryIO:
        if self._now(entry) != (entry.size, entry.stamp):
            raise ObjectChanged(files.leaf(entry.name))
        return _Resuming(self._session, entry)  # type: ignore[return-value]


class _Resuming(io.RawIOBase):
    """A remote file from its beginning to its end; after a broken connection it goes on where it was."""

    def __init__(self, session: _Session, entry: files.Entry):
        self._session, self._entry = session, entry
        self._file: paramiko.SFTPFile | None = None
        self._owner: paramiko.SFTPClient | None = None
        self._position = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        count = (1 << 20) if size is None or size < 0 else size
        try:
            data = self._session.retrying(lambda client: self._part(client, count))
        except FileNotFoundError:
            raise ObjectChanged(files.leaf(self._entry.name)) from None
        except PermissionError:
            raise unavailable(
                "TIYU-ING-0111", "数据文件读取失败", "请检查文件权限后重试", object=files.leaf(self._entry.name)
            ) from None
        self._position += len(data)
        return data

    def _part(self, client: paramiko.SFTPClient, count: int) -> bytes:
        if self._file is None or self._owner is not client:
            self._file, self._owner = client.open(self._entry.where, "rb"), client
            # requests run ahead of the answers, for no further than the file is long
            if not self._position:
                _quiet_when_broken(self._file)
                self._file.prefetch(self._entry.size, max_concurrent_requests=64)
            self._file.seek(self._position)
        return self._file.read(count)

    def close(self) -> None:
        if self._file is not None and not self.closed:
            with suppress(*_BROKEN):
                self._file.close()
        super().close()


def _quiet_when_broken(file: paramiko.SFTPFile) -> None:
    """The thread that asks ahead ends silently when the connection breaks: the reader meets the same error, and handles it."""
    ask: Callable[..., None] = getattr(file, "_prefetch_thread")  # noqa: B009 - the type checker does not know it

    def asking(*arguments: Any) -> None:
        with suppress(*_BROKEN):
            ask(*arguments)

    setattr(file, "_prefetch_thread", asking)  # noqa: B010


class _Session:
    """A connection that is made when it is needed and made again when it broke."""

    def __init__(self, connection: Connection, timeout: float):
        self._connection, self._timeout = connection, timeout
        self._pinned = connection.options.get("host_key", [])
        known = connection.option("known_hosts")
        if not self._pinned and not known:
            raise TiyuError(
                "TIYU-ING-0104",
                "sftp 连接没有约定主机密钥",
                "请向数据源单位核实指纹（ssh-keygen -lf），在连接末尾写上 ?host_key=SHA256:… 或 ?known_hosts=文件",
                EXIT_USAGE,
                endpoint=connection.endpoint,
            )
        self._known = Path(known) if known else None
        self._transport: paramiko.Transport | None = None
        self._client: paramiko.SFTPClient | None = None

    def client(self) -> paramiko.SFTPClient:
        """The open client, connected now if it is not."""
        if self._client is None:
            self._connect()
        assert self._client is not None
        return self._client

    def retrying(self, action: Callable[[paramiko.SFTPClient], _T]) -> _T:
        """What an action gives, tried again over a new connection when the old one breaks. Raises TIYU-ING-0150…0152."""
        attempt = 0
        while True:
            try:
                return action(self.client())
            except (FileNotFoundError, PermissionError):
                raise
            except _BROKEN as error:
                attempt += 1
                self.lost(error, attempt)

    def lost(self, error: BaseException, attempt: int) -> None:
        """Forget a broken connection and pause; raises TIYU-ING-0150 when it was the last attempt."""
        self.close()
        if attempt >= _ATTEMPTS:
            raise unavailable(
                "TIYU-ING-0150",
                "SFTP 服务器无法访问，或读取中断",
                "请确认服务器正在运行、网络可达，稍后重试；未取到的数据下次会继续取",
                endpoint=self._connection.endpoint,
                reason=type(error).__name__,
            ) from None
        time.sleep(_FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))

    def hostile(self, message_zh: str) -> TiyuError:
        """A server that sends what no server has (TIYU-ING-0153)."""
        return unavailable(
            "TIYU-ING-0153",
            f"SFTP 服务器的目录列表不可信：{message_zh}",
            "请联系数据源单位核查服务器；本次没有收取任何文件",
            endpoint=self._connection.endpoint,
        )

    def close(self) -> None:
        """End the connection."""
        for item in (self._client, self._transport):
            if item is not None:
                with suppress(Exception):
                    item.close()
        self._client = self._transport = None

    def _connect(self) -> None:
        connection = self._connection
        raw = socket.create_connection((connection.host, connection.port or 22), self._timeout)
        try:
            transport = paramiko.Transport(raw)
        except BaseException:
            raw.close()
            raise
        self._transport = transport
        transport.banner_timeout = transport.auth_timeout = self._timeout
        transport.start_client(timeout=self._timeout)
        self._check_host(transport.get_remote_server_key())
        try:
            key_file = connection.option("key_file")
            if key_file:
                transport.auth_publickey(connection.user, _private_key(key_file, connection))
            else:
                transport.auth_password(connection.user, connection.secret)
        except paramiko.AuthenticationException:
            self.close()
            raise unavailable(
                "TIYU-ING-0151",
                "SFTP 服务器拒绝了账号",
                "请向数据源单位核对账号、口令或公钥，并更新对应的 TIYU_CONN_ 连接",
                endpoint=connection.endpoint,
            ) from None
        self._client = paramiko.SFTPClient.from_transport(transport)
        if self._client is not None:
            channel = self._client.get_channel()
            if channel is not None:
                channel.settimeout(self._timeout)

    def _check_host(self, key: paramiko.PKey) -> None:
        """TIYU-ING-0152 unless the key is one that was agreed; before any credential is sent."""
        shown = "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
        pinned = any(
            hmac.compare_digest(shown, agreed.strip().rstrip("=").replace(" ", "+")) for agreed in self._pinned
        )
        if pinned or (self._known is not None and self._is_known(key)):
            return
        self.close()
        raise unavailable(
            "TIYU-ING-0152",
            "SFTP 服务器出示的主机密钥与约定的不符，已断开，口令没有发出",
            "可能是服务器换了密钥，也可能有人冒充：请向数据源单位核实新指纹后再更新 TIYU_CONN_ 连接",
            endpoint=self._connection.endpoint,
            shown=shown,
        )

    def _is_known(self, key: paramiko.PKey) -> bool:
        try:
            known = paramiko.HostKeys(str(self._known))
        except (OSError, paramiko.SSHException):
            raise TiyuError(
                "TIYU-ING-0104", "sftp 连接的 known_hosts 文件读不了", "请检查文件路径与权限", EXIT_USAGE
            ) from None
        host, port = self._connection.host, self._connection.port or 22
        return known.check(host if port == 22 else f"[{host}]:{port}", key)


def _private_key(path: str, connection: Connection) -> paramiko.PKey:
    """A private key; the connection's password opens it. TIYU-ING-0104 when it cannot be read."""
    try:
        return paramiko.PKey.from_path(path, connection.secret.encode() or None)  # type: ignore[arg-type]
    except Exception as error:  # unreadable, unknown kind, wrong passphrase: many kinds, one remedy
        raise TiyuError(
            "TIYU-ING-0104",
            "sftp 连接的私钥读不了",
            "请检查 key_file 的路径、权限和口令",
            EXIT_USAGE,
            endpoint=connection.endpoint,
            reason=type(error).__name__,
        ) from None
