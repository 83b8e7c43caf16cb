"""Key material behind a small provider interface.

The default provider is one JSON file, mode 0600, under ``TIYU_HOME/keys``. Each purpose has its own key, so that
tokens made for one audience cannot be joined with those of another, and each key an id (``kid``), so that it can be
rotated. A production installation replaces the provider by a KMS with the same three methods.
"""

from __future__ import annotations

import base64
import fcntl
import functools
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from lake.errors import EXIT_UNAVAILABLE, EXIT_USAGE, TiyuError
from lake.settings import settings

_KEY_BYTES = 32
_OWN = ("archive", "token")


def purposes() -> tuple[str, ...]:
    """What there is a key for: the archive, the lake's tokens, and every audience of the policy whose file holds tokens."""
    from catalog import policy

    audiences = policy.current().audiences.items()
    return (*_OWN, *(name for name, who in audiences if who.file and "token" in who.kinds.values()))


class KeyProvider(Protocol):
    """What the platform needs of a key store."""

    def current(self, purpose: str) -> tuple[str, bytes]:
        """The key to use now for a purpose: ``(kid, 32 bytes)``."""

    def get(self, purpose: str, kid: str) -> bytes:
        """The key with this id; raises TIYU-KEY-0003 when it is unknown or destroyed."""


class FileKeyProvider:
    """Keys in one JSON file whose permissions are checked at every load."""

    def __init__(self, path: Path):
        self._path = path
        if not path.exists():
            raise TiyuError(
                "TIYU-KEY-0001", "密钥文件不存在", "先运行 tiyu keys init", EXIT_UNAVAILABLE, file=path.name
            )
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise TiyuError(
                "TIYU-KEY-0002",
                "密钥文件权限过宽，拒绝使用",
                "运行 chmod 600 收紧权限，并评估密钥是否已泄露",
                EXIT_USAGE,
                file=path.name,
                mode=oct(mode),
            )
        self._keys = json.loads(path.read_text("utf-8"))["purposes"]

    def current(self, purpose: str) -> tuple[str, bytes]:
        entry = self._entry(purpose)
        kid = entry["current"]
        return kid, self.get(purpose, kid)

    def get(self, purpose: str, kid: str) -> bytes:
        encoded = self._entry(purpose)["keys"].get(kid)
        if encoded is None:
            raise TiyuError(
                "TIYU-KEY-0003",
                "找不到所需的密钥",
                "恢复对应编号的密钥；若密钥已按擦除要求销毁，则数据不可恢复",
                EXIT_UNAVAILABLE,
                purpose=purpose,
                kid=kid,
            )
        return base64.b64decode(encoded)

    def _entry(self, purpose: str) -> dict:
        if purpose not in self._keys:
            raise TiyuError(
                "TIYU-KEY-0003",
                "找不到所需的密钥",
                "新增的用途：运行 tiyu keys init 补上；否则检查密钥文件是否完整",
                EXIT_UNAVAILABLE,
                purpose=purpose,
            )
        return self._keys[purpose]


def ensure() -> Path:
    """Create the key file, or add keys of purposes that it lacks; a key that is there is never touched. Returns its path.

    Raises TIYU-KEY-0002 instead of adding to a file that others can read.
    """
    path = settings().key_file
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _one_writer(path.parent):
        content = json.loads(path.read_text("utf-8")) if path.exists() else {"version": 1, "purposes": {}}
        missing = [purpose for purpose in purposes() if purpose not in content["purposes"]]
        if missing:
            if path.exists():
                FileKeyProvider(path)  # permissions that are too wide must be seen, not mended in passing
            content["purposes"] |= {purpose: _new_key() for purpose in missing}
            _write(path, content)
    return path


def _new_key() -> dict[str, Any]:
    return {"current": "k1", "keys": {"k1": base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()}}


@contextmanager
def _one_writer(folder: Path) -> Iterator[None]:
    """Two processes that start at once must not each make a key for the same purpose."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(f".{os.getpid()}.part")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@functools.cache
def _cached(path: Path, mtime_ns: int) -> FileKeyProvider:
    return FileKeyProvider(path)


class PassingKeyProvider:
    """Keys that exist for a moment: what they make can be joined with nothing that is stored."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def current(self, purpose: str) -> tuple[str, bytes]:
        return "k1", self._keys.setdefault(purpose, secrets.token_bytes(_KEY_BYTES))

    def get(self, purpose: str, kid: str) -> bytes:
        return self.current(purpose)[1]


_passing: ContextVar[KeyProvider | None] = ContextVar("passing_keys", default=None)


@contextmanager
def passing() -> Iterator[None]:
    """Work with keys that are gone afterwards, so that trying something needs no installation and leaves nothing."""
    before = _passing.set(PassingKeyProvider())
    try:
        yield
    finally:
        _passing.reset(before)


def provider() -> KeyProvider:
    """The configured key provider (reloaded when the key file changes), or the passing one (`passing`)."""
    if (passing_by := _passing.get()) is not None:
        return passing_by
    path = settings().key_file
    return _cached(path, path.stat().st_mtime_ns if path.exists() else 0)
