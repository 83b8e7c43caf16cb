"""Objects of a bucket (S3 and what speaks like it), taken as files are.

An object appears whole: uploads that are not finished are in no listing, so nothing has to settle. The ETag is part of
the signature, so content replaced under the same name is fetched again; it is demanded when the object is read, so an
object replaced or deleted between listing and reading waits for the next run.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any, BinaryIO, ClassVar

import obstore
from obstore import exceptions
from obstore.store import S3Store

from ingestion.connectors import files
from ingestion.connectors.base import ObjectChanged, check_options, option_error, printable, unavailable
from ingestion.connectors.connection import parse_connection
from lake.errors import TiyuError

_LISTED_AT_ONCE = 1000


class S3(files.FilePlace):
    """Connector ``s3``.

    Options: ``bucket`` (required) · ``prefix`` folder within it (default: the whole bucket) · ``pattern`` glob of the name
    below the prefix (default ``**/*``) · ``max_object_bytes`` (default 2 GiB). The connection is
    ``s3+http(s)://KEY:SECRET@host[:port][?region=…]``.
    """

    name = "s3"
    options: ClassVar[dict[str, Any]] = {"bucket": str, "prefix": str, "pattern": str, "max_object_bytes": int}

    def __init__(
        self, options: dict[str, Any], connection_uri: str | None, is_seen: Callable[[str], bool], from_dir: Any = None
    ):
        check_options(self.name, options, self.options)
        if from_dir is not None:
            raise option_error(self.name, "对象存储类数据源不能用 --from 指定目录")
        connection = parse_connection(connection_uri) if connection_uri else None
        if connection is None or connection.scheme not in ("s3+http", "s3+https"):
            raise option_error(self.name, "s3 连接器需要 s3+http(s):// 连接")
        if not options.get("bucket"):
            raise option_error(self.name, "s3 连接器需要配置项 bucket", option="bucket")
        prefix = PurePosixPath(options.get("prefix", "."))
        if prefix.is_absolute() or ".." in prefix.parts:
            raise option_error(self.name, "配置项 prefix 必须是桶内的相对路径", option="prefix")
        super().__init__(
            is_seen,
            pattern=options.get("pattern", "**/*"),
            settle_seconds=0,
            skew_seconds=0,
            max_object_bytes=options.get("max_object_bytes", files.MAX_OBJECT_BYTES),
        )
        self._prefix = "/".join(prefix.parts)
        self._endpoint, self._bucket = connection.endpoint, options["bucket"]
        # Everything is said here: nothing is taken from the environment's AWS_… variables or from a metadata service.
        self._store = S3Store(
            self._bucket,
            endpoint=connection.endpoint.removeprefix("s3+"),
            access_key_id=connection.user,
            secret_access_key=connection.secret,
            region=connection.option("region") or "us-east-1",
            virtual_hosted_style_request=False,
            client_options={
                "allow_http": connection.scheme == "s3+http",
                "connect_timeout": timedelta(seconds=10),
                "timeout": timedelta(seconds=300),
            },
            retry_config={
                "max_retries": 4,
                "retry_timeout": timedelta(seconds=60),
                "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=10), "base": 2},
            },
        )

    def _entries(self) -> Iterator[files.Entry]:
        begin = [part for part in (self._prefix, *files.fixed_folder(self._pattern)) if part]
        cut = len(self._prefix) + 1 if self._prefix else 0
        try:
            for page in obstore.list(self._store, prefix="/".join(begin) or None, chunk_size=_LISTED_AT_ONCE):
                for meta in page:
                    key = meta["path"]
                    name = printable(key[cut:])[: files.LONGEST_NAME]
                    if any(files.is_ignored(part) for part in name.split("/")):
                        continue
                    if files.matches(name, self._pattern):
                        stamp = (meta["e_tag"] or meta["last_modified"].isoformat()).strip('"').replace("|", "")
                        yield files.Entry(name, meta["size"], stamp, None, (key, meta["e_tag"]))
        except exceptions.BaseError as error:
            raise self._coded(error) from None

    def _now(self, entry: files.Entry) -> tuple[int, str] | None:
        return entry.size, entry.stamp  # what is read is what the ETag said: the request demanded it

    def _open(self, entry: files.Entry) -> BinaryIO:
        key, etag = entry.where
        try:
            found = obstore.get(self._store, key, options={"if_match": etag} if etag else None)
        except (exceptions.NotFoundError, exceptions.PreconditionError, FileNotFoundError):
            raise ObjectChanged(files.leaf(entry.name)) from None
        except exceptions.BaseError as error:
            raise self._coded(error) from None
        return _Chunks(iter(found.stream(min_chunk_size=1 << 20)), self._coded)  # type: ignore[return-value]

    def _coded(self, error: Exception) -> TiyuError:
        """The store's error without its text, which repeats the request."""
        if isinstance(error, exceptions.InvalidPathError):
            return unavailable(
                "TIYU-ING-0142",
                "桶中有名称含控制字符的对象，无法列举",
                "请数据源单位把该对象改名或移走；在此之前这个目录一个对象也不会收取",
                endpoint=self._endpoint,
                bucket=self._bucket,
            )
        refused = isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError)
        if refused or "403 Forbidden" in str(error)[:2000]:
            return unavailable(
                "TIYU-ING-0141",
                "对象存储拒绝了访问密钥",
                "请向数据源单位核对密钥和桶的读取、列举权限，并更新对应的 TIYU_CONN_ 连接",
                endpoint=self._endpoint,
                bucket=self._bucket,
            )
        return unavailable(
            "TIYU-ING-0140",
            "对象存储无法访问，或读取中断",
            "请确认服务正在运行、网络可达、桶名无误，稍后重试；未取到的数据下次会继续取",
            endpoint=self._endpoint,
            bucket=self._bucket,
            reason=type(error).__name__,
        )


class _Chunks(io.RawIOBase):
    """Chunks of a response as a stream."""

    def __init__(self, chunks: Iterator[Any], coded: Callable[[Exception], TiyuError]):
        self._chunks, self._coded = chunks, coded
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            try:
                self._rest = memoryview(bytes(next(self._chunks, b"")))
            except exceptions.BaseError as error:
                raise self._coded(error) from None
        count = len(self._rest) if size < 0 else size
        data, self._rest = bytes(self._rest[:count]), self._rest[count:]
        return data
