"""Key material behind a small provider interface.

The default provider is one JSON file, mode 0600, under ``TIYU_HOME/keys``. Each purpose has its own key, so that
tokens made for one audience cannot be joined with those of another, and each key an id (``kid``), so that it can be
rotated. A production installation replaces the provider by a KMS with the same three methods.
"""

from __future__ import annotations

import base64
import fcntl
import functools
import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from lake.errors import EXIT_UNAVAILABLE, EXIT_USAGE, TiyuError
from lake.settings import settings

_KEY_BYTES = 32
CHECKS = "key_checks.json"
"""File beside the data that says by which keys it was made (see `confirm`)."""
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
        self._keys = _read(path)

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

    def checks(self) -> dict[str, dict[str, str]]:
        """Purpose → kid → check value of every key; a check value tells keys apart and gives nothing of them away."""
        return {
            purpose: {kid: _check(self.get(purpose, kid)) for kid in entry["keys"]}
            for purpose, entry in self._keys.items()
        }

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

    Raises TIYU-KEY-0002 instead of adding to a file that others can read, 0005 to one that is damaged.
    """
    path = settings().key_file
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _one_writer(path.parent):
        if path.exists():
            FileKeyProvider(path)  # permissions that are too wide, keys that are cut short: seen, not mended in passing
        content = json.loads(path.read_text("utf-8")) if path.exists() else {"version": 1, "purposes": {}}
        missing = [purpose for purpose in purposes() if purpose not in content["purposes"]]
        if missing:
            content["purposes"] |= {purpose: _new_key() for purpose in missing}
            _write(path, content)
    return path


def _read(path: Path) -> dict[str, Any]:
    """The purposes of a key file; raises TIYU-KEY-0005 unless every key is there in its whole length."""

    def damaged(**where: str) -> TiyuError:
        return TiyuError(
            "TIYU-KEY-0005",
            "密钥文件已损坏或密钥长度不对，拒绝使用",
            "从离线备份放回完整的密钥文件（chmod 600），不要手工改写，也不要重新生成",
            EXIT_UNAVAILABLE,
            file=path.name,
            **where,
        )

    try:
        purposes: dict[str, Any] = json.loads(path.read_text("utf-8"))["purposes"]
        for purpose, entry in purposes.items():
            if entry["current"] not in entry["keys"]:
                raise damaged(purpose=purpose, kid=entry["current"])
            for kid, encoded in entry["keys"].items():
                if len(base64.b64decode(encoded, validate=True)) != _KEY_BYTES:
                    raise damaged(purpose=purpose, kid=kid)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged() from None
    return purposes


def _check(key: bytes) -> str:
    return hmac.new(key, b"tiyu key check", hashlib.sha256).hexdigest()[:16]


def confirm(folder: Path) -> None:
    """Make sure that the keys in use are those that the data in a folder was made with.

    ``folder/key_checks.json`` holds a check value for every key that was ever used there; keys not yet in it are added, so
    that a key file exchanged later is noticed before anything is opened, sealed or tokenised with it. Without that, every
    object would seem damaged and every person would get a second token. Raises TIYU-KEY-0004.
    """
    if _passing.get() is not None:  # nothing is kept that they make
        return
    path, file = settings().key_file, folder / CHECKS
    _confirmed(path, _stamp(path), file, _stamp(file))


def _stamp(path: Path) -> int:
    """Changes with content, permissions and owner of a file, whatever time somebody sets on it."""
    return path.stat().st_ctime_ns if path.exists() else 0


@functools.lru_cache(maxsize=64)
def _confirmed(path: Path, key_stamp: int, file: Path, _file_stamp: int) -> None:
    own = _cached(path, key_stamp).checks()
    try:
        noted: dict[str, dict[str, str]] = json.loads(file.read_text("utf-8")) if file.exists() else {}
        there = {purpose: dict(kids) for purpose, kids in noted.items()}
    except (ValueError, TypeError, AttributeError):
        noted, there = {}, {}  # a damaged note about the keys must not make the data unreachable; it is written anew
    for purpose, kids in own.items():
        for kid, check in kids.items():
            if there.setdefault(purpose, {}).setdefault(kid, check) != check:
                raise TiyuError(
                    "TIYU-KEY-0004",
                    "密钥与数据不符：不是写入这些数据时的密钥，拒绝使用",
                    "放回当时的密钥文件（离线备份中的 keys.json，chmod 600）；归档与标记只能用它",
                    EXIT_UNAVAILABLE,
                    purpose=purpose,
                    kid=kid,
                )
    if noted != there:
        with suppress(OSError):  # who may only read the archive cannot note anything beside it
            _write(file, there, mode=0o640)


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


def _write(path: Path, content: dict[str, Any], mode: int = 0o600) -> None:
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@functools.cache
def _cached(path: Path, _stamp: int) -> FileKeyProvider:
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
    return _cached(path, _stamp(path))
