"""The raw archive: every received object, sealed from its first byte, named by the sha256 of its plain content.

``{archive_root}/{resource}/{first two hex}/{sha256}.tiyu``. Nothing plain touches the disk: the stream is hashed while
it is sealed into a partial file, which is renamed to its name when the hash is known. Storing the same content again
is a no-op.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lake import storage
from lake.errors import EXIT_UNAVAILABLE, TiyuError
from lake.settings import settings
from protection import envelope, keys

SUFFIX = ".tiyu"
DAMAGED = ("TIYU-ARC-0001", "TIYU-ARC-0002")
"""Codes that blame one object."""
REMEDY = envelope.REMEDY
_HASHED_ASIDE = 256 * 1024
_OWN_MOST = 4_096
_own: dict[tuple[str, str], bytes] = {}
"""How the objects begin that this process sealed itself, and therefore hashed (`envelope.seal`)."""
_SYNCED_SINGLY = 16


@dataclass(frozen=True)
class StoredObject:
    """An archived object: content hash (hex), plain size in bytes, and whether it was already there."""

    sha256: str
    size: int
    was_present: bool


class _HashingReader:
    """Passes a stream through while counting and hashing it; large pieces are hashed beside what the caller does."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._hash = hashlib.sha256()
        self._helper: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None
        self.size = 0

    def read(self, count: int = -1) -> bytes:
        data = self._stream.read(count)
        self.size += len(data)
        self._settle()
        if len(data) < _HASHED_ASIDE:
            self._hash.update(data)
        else:
            self._helper = self._helper or ThreadPoolExecutor(1)
            self._running = self._helper.submit(self._hash.update, data)
        return data

    def _settle(self) -> None:
        if self._running is not None:
            self._running.result()
            self._running = None

    def hexdigest(self) -> str:
        """SHA-256 of all that was read; nothing can be read after it."""
        self._settle()
        if self._helper is not None:
            self._helper.shutdown()
        return self._hash.hexdigest()


def object_path(resource: str, sha256: str) -> Path:
    """Where an object lives."""
    return settings().archive_root / resource / sha256[:2] / f"{sha256}{SUFFIX}"


def contains(resource: str, sha256: str) -> bool:
    """Whether the object is in the archive."""
    return object_path(resource, sha256).exists()


def store(resource: str, stream: BinaryIO) -> StoredObject:
    """Seal a stream into the archive; streaming, bounded memory. Durable only after :func:`sync`.

    Raises TIYU-ARC-0003 when the archive cannot be written (full disk, read-only): nothing is lost, since the source
    still has the object and no state moved.
    """
    root = settings().archive_root / resource
    partial = root / f".{os.getpid()}-{secrets.token_hex(6)}.part"
    try:
        root.mkdir(parents=True, exist_ok=True)
        keys.confirm(settings().archive_root)
        reader = _HashingReader(stream)
        with open(partial, "xb") as target:
            beginning = envelope.seal(reader, target)  # type: ignore[arg-type]
        sha256 = reader.hexdigest()
        final = object_path(resource, sha256)
        was_present = final.exists()
        if was_present and _is_whole(resource, sha256):
            partial.unlink()
        else:  # new, or a damaged object that its source still had: the same content, sealed again
            final.parent.mkdir(exist_ok=True)
            if was_present:
                os.replace(final, final.with_suffix(".damaged"))
            os.replace(partial, final)
            _remember(resource, sha256, beginning)
        return StoredObject(sha256, reader.size, was_present)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise unwritable(error) from error


def _remember(resource: str, sha256: str, beginning: bytes) -> None:
    while len(_own) >= _OWN_MOST:
        del _own[next(iter(_own))]
    _own[resource, sha256] = beginning


def _is_own(resource: str, sha256: str, file: BinaryIO) -> bool:
    """Whether a stored object, open at its start, is the one that this process sealed under this name: what opens then is
    what was hashed."""
    beginning = _own.get((resource, sha256))
    if beginning is None:
        return False
    found = file.read(len(beginning))
    file.seek(0)
    return found == beginning


def unwritable(error: OSError) -> TiyuError:
    """What is said when the archive cannot be written: TIYU-ARC-0003, or the disk's own fault where it is one."""
    return storage.fault(error) or TiyuError(
        "TIYU-ARC-0003",
        "无法写入原始归档",
        "检查磁盘空间与目录权限后重跑；来源数据未受影响",
        EXIT_UNAVAILABLE,
        reason=error.strerror or type(error).__name__,
    )


def require() -> None:
    """Raise TIYU-ARC-0004 unless the archive's folder is there."""
    if not settings().archive_root.is_dir():
        raise TiyuError(
            "TIYU-ARC-0004",
            "归档目录不存在",
            "检查归档所在的磁盘是否挂载、TIYU_HOME 是否正确，然后重跑",
            EXIT_UNAVAILABLE,
            folder=settings().archive_root.name,
        )


def verify(resource: str, sha256: str) -> int:
    """Read an object through, keeping nothing; returns its plain size. Raises TIYU-ARC-0001/0002 like `read_object`."""
    with open_object(resource, sha256) as stream:
        reader = _HashingReader(stream)
        while reader.read(1 << 20):
            pass
    if reader.hexdigest() != sha256:
        raise other_content(resource, sha256)
    return reader.size


def other_content(resource: str, sha256: str) -> TiyuError:
    """TIYU-ARC-0002 of an object that opens but is not what its name says."""
    return TiyuError(
        "TIYU-ARC-0002",
        "归档对象已损坏或被改动",
        REMEDY,
        EXIT_UNAVAILABLE,
        object=f"{resource}/{sha256}",
        reason="hash",
    )


def _is_whole(resource: str, sha256: str) -> bool:
    """Whether an object opens and is what its name says; asked only when the same content arrives again."""
    try:
        verify(resource, sha256)
    except TiyuError as error:
        if error.code in DAMAGED:
            return False
        raise
    return True


def sync(resource: str, sha256s: Sequence[str]) -> None:
    """Make the objects of a batch durable before a ledger row may speak of them.

    A few are made durable one by one, so that a large unwritten file of somebody else on this machine is not waited for;
    many (a folder of small files) by one call for all.
    """
    if len(sha256s) > _SYNCED_SINGLY:
        os.sync()
        return
    paths = [object_path(resource, sha256) for sha256 in sha256s]
    folders = {folder for path in paths for folder in (path.parent, path.parent.parent, path.parent.parent.parent)}
    for item in [*paths, *sorted(folders)]:
        handle = os.open(item, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def clean_partials(resource: str) -> int:
    """Remove partial files left by a killed run; call only while holding the resource's lock. Returns how many."""
    root = settings().archive_root / resource
    partials = list(root.glob(".*.part")) if root.exists() else []
    for partial in partials:
        partial.unlink(missing_ok=True)
    return len(partials)


def open_object(resource: str, sha256: str) -> BinaryIO:
    """The plain bytes of an object as a stream; raises TIYU-ARC-0001 (missing), TIYU-ARC-0002 (damaged) or TIYU-KEY-000x."""
    return envelope.open_sealed(_open_file(resource, sha256), f"{resource}/{sha256}")


def _open_file(resource: str, sha256: str) -> BinaryIO:
    require()
    keys.confirm(settings().archive_root)
    try:
        return open(object_path(resource, sha256), "rb")
    except FileNotFoundError:
        raise TiyuError(
            "TIYU-ARC-0001", "归档中找不到该对象", REMEDY, EXIT_UNAVAILABLE, resource=resource, object=sha256
        ) from None


def _open_verified(resource: str, sha256: str) -> tuple[BinaryIO, bool]:
    """An object as a stream, and whether it is known already to be what its name says."""
    file = _open_file(resource, sha256)
    is_own = _is_own(resource, sha256, file)
    return envelope.open_sealed(file, f"{resource}/{sha256}"), is_own


def read_object(resource: str, sha256: str) -> bytes:
    """The plain bytes, verified against the name; raises TIYU-ARC-0001/0002."""
    stream, is_verified = _open_verified(resource, sha256)
    with stream:
        data = stream.read()
    if not is_verified and hashlib.sha256(data).hexdigest() != sha256:
        raise other_content(resource, sha256)
    return data


def read_pieces(resource: str, sha256: str, piece_bytes: int) -> Iterator[bytes]:
    """The same bytes piece by piece, for an object too large to hold. That its content is what its name says is known
    only after the last piece: a caller undoes what it made of the others when this raises TIYU-ARC-0001/0002."""
    stream, is_verified = _open_verified(resource, sha256)
    with stream:
        reader = stream if is_verified else _HashingReader(stream)
        while piece := reader.read(piece_bytes):
            yield piece
    if isinstance(reader, _HashingReader) and reader.hexdigest() != sha256:
        raise other_content(resource, sha256)


def stored(resource: str) -> Iterator[str]:
    """sha256 of every object kept for a resource."""
    root = settings().archive_root / resource
    for path in sorted(root.glob(f"*/*{SUFFIX}")) if root.exists() else []:
        yield path.name.removesuffix(SUFFIX)
