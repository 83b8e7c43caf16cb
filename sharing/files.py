"""Small file primitives shared by deliveries and open data: SM3/SHA-256, deterministic gzip, whole-or-nothing folders."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import hashes

_CHUNK = 1 << 20


def sm3_bytes(data: bytes) -> str:
    """SM3 (GB/T 32905-2016) of a byte string, lower-case hex."""
    digest = hashes.Hash(hashes.SM3())
    digest.update(data)
    return digest.finalize().hex()


def sm3_file(path: Path) -> str:
    """SM3 of a file, lower-case hex; equals the first word of ``openssl dgst -sm3 -r FILE``."""
    digest = hashes.Hash(hashes.SM3())
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.finalize().hex()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def gzip_deterministic(source: Path, target: Path, comment: str = "") -> None:
    """Compress ``source`` so that equal content always gives equal bytes (no time stamp, no file name in the header).

    ``comment`` stands in the header's comment field (RFC 1952, FLG.FCOMMENT; written as UTF-8): every reader of gzip
    skips it, so a mark can travel in the file without touching the agreed layout of its content.
    """
    mark = comment.encode() + b"\0" if comment else b""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    checksum, size = 0, 0
    with source.open("rb") as plain, target.open("wb") as raw:
        # magic, deflate, flags, no time, no extra flags, unknown system
        raw.write(b"\x1f\x8b\x08" + (b"\x10" if mark else b"\0") + b"\0\0\0\0" + b"\0\xff" + mark)
        while chunk := plain.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
            size += len(chunk)
            raw.write(packer.compress(chunk))
        raw.write(packer.flush() + struct.pack("<II", checksum, size & 0xFFFFFFFF))


def fsync_tree(folder: Path) -> None:
    """Force a folder's files and its directory entry to the disk, so that a rename never outlives its content."""
    for path in [*sorted(entry for entry in folder.rglob("*")), folder]:
        flags = os.O_RDONLY | (os.O_DIRECTORY if path.is_dir() else 0)
        handle = os.open(path, flags)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def publish_folder(aside: Path, target: Path) -> None:
    """Make a complete folder visible in one step.

    ``aside`` must be on the same file system. The target must not exist: whoever sees it sees all of it.
    """
    fsync_tree(aside)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(aside, target)
    handle = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_link(link: Path, points_to: str) -> None:
    """Let a symbolic link point elsewhere without a moment in which it does not exist."""
    if link.is_symlink() and os.readlink(link) == points_to:
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(points_to)
    os.replace(temporary, link)


def write_if_changed(path: Path, data: bytes) -> bool:
    """Write a file by rename, only when its content differs; returns whether it was written."""
    if path.is_file() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return True


@contextlib.contextmanager
def exclusive(lock_file: Path) -> Iterator[None]:
    """Hold an advisory lock: two runs at once take turns. Released by the kernel when the process dies."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
