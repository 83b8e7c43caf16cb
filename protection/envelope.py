"""Sealed objects: zstd, then authenticated encryption in chunks, one data key an object.

Layout: ``b"TIYU1\\n"``, 4-byte big-endian header length, header JSON, then chunks of ciphertext, each preceded by its
4-byte length. The data key is wrapped by the key-encryption key of purpose ``archive`` (AES key wrap, RFC 3394).
The nonce of chunk *i* is an 7-byte random prefix, the 4-byte counter and one byte that is 1 on the last chunk, so a
truncated, reordered or spliced object does not open. The header is authenticated with every chunk.
"""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import struct
from collections.abc import Iterator
from typing import BinaryIO

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from lake.errors import EXIT_UNAVAILABLE, EXIT_USAGE, TiyuError
from protection import keys

MAGIC = b"TIYU1\n"
CHUNK_BYTES = 1 << 20
_TAG_BYTES = 16
REMEDY = (
    "来源还有该文件时用 tiyu backfill 重新取回（按文件日期），否则从备份把该对象放回 archive 下原位；"
    "再运行 tiyu quarantine replay 资源名 与 tiyu gate；不要手工修改归档"
)
"""What to do about one damaged or missing object."""
CIPHERS = {"AES-256-GCM": 32, "SM4-GCM": 16}


def default_cipher() -> str:
    """``TIYU_ARCHIVE_CIPHER``: AES-256-GCM (default) or SM4-GCM where commercial cryptography is required."""
    cipher = os.environ.get("TIYU_ARCHIVE_CIPHER", "AES-256-GCM").upper()
    if cipher not in CIPHERS:
        raise TiyuError(
            "TIYU-ENV-0001",
            "不支持的归档加密算法",
            f"TIYU_ARCHIVE_CIPHER 可取 {'、'.join(CIPHERS)}",
            EXIT_USAGE,
            cipher=cipher,
        )
    return cipher


class _Sealer:
    """Authenticated encryption of one chunk with either cipher, same interface."""

    def __init__(self, cipher: str, key: bytes):
        self._aes = AESGCM(key) if cipher == "AES-256-GCM" else None
        self._key = key

    def seal(self, nonce: bytes, data: bytes, header: bytes) -> bytes:
        if self._aes:
            return self._aes.encrypt(nonce, data, header)
        encryptor = Cipher(algorithms.SM4(self._key), modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(header)
        return encryptor.update(data) + encryptor.finalize() + encryptor.tag

    def open(self, nonce: bytes, data: bytes, header: bytes) -> bytes:
        if self._aes:
            return self._aes.decrypt(nonce, data, header)
        if len(data) < _TAG_BYTES:
            raise InvalidTag
        decryptor = Cipher(algorithms.SM4(self._key), modes.GCM(nonce, data[-_TAG_BYTES:])).decryptor()
        decryptor.authenticate_additional_data(header)
        return decryptor.update(data[:-_TAG_BYTES]) + decryptor.finalize()


def _nonce(prefix: bytes, counter: int, last: bool) -> bytes:
    return prefix + struct.pack(">IB", counter, int(last))


class _Begun:
    """A stream whose first bytes were read already."""

    def __init__(self, begun: bytes, rest: BinaryIO):
        self._begun, self._rest = begun, rest

    def read(self, count: int = -1) -> bytes:
        if not self._begun:
            return self._rest.read(count)
        begun, self._begun = self._begun, b""
        return begun


def seal(source: BinaryIO, target: BinaryIO, cipher: str | None = None) -> bytes:
    """Compress and encrypt a stream; memory use is a few chunks whatever the size.

    Returns how the sealed object begins. The data key in there is this object's alone and every chunk is bound to it, so an
    object that begins like this and opens holds what was sealed, and nothing else.
    """
    cipher = cipher or default_cipher()
    kid, kek = keys.provider().current("archive")
    data_key = secrets.token_bytes(CIPHERS[cipher])
    prefix = secrets.token_bytes(7)
    header = json.dumps(
        {
            "cipher": cipher,
            "compression": "zstd",
            "chunk_bytes": CHUNK_BYTES,
            "kid": kid,
            "wrapped_key": base64.b64encode(aes_key_wrap(kek, data_key)).decode(),
            "nonce_prefix": base64.b64encode(prefix).decode(),
        },
        sort_keys=True,
    ).encode()
    beginning = MAGIC + struct.pack(">I", len(header)) + header
    target.write(beginning)
    sealer = _Sealer(cipher, data_key)
    # level 2: the samples of benchmarks/ingest become smaller than at levels 1 and 3, as fast as at 1 (measured)
    begun = b""  # a source may give less than it is asked for
    while len(begun) < CHUNK_BYTES and (part := source.read(CHUNK_BYTES - len(begun))):
        begun += part
    if len(begun) < CHUNK_BYTES:  # all of it: tables of its size are soon made ready
        compressor, of_size = zstandard.ZstdCompressor(level=2), {"size": len(begun)}
    else:  # beside the reading, where there is enough of it
        compressor, of_size = zstandard.ZstdCompressor(level=2, threads=2), {}
    reader = compressor.stream_reader(_Begun(begun, source), read_size=CHUNK_BYTES, **of_size)  # type: ignore[arg-type]
    counter = 0
    chunk = reader.read(CHUNK_BYTES)
    while True:
        following = reader.read(CHUNK_BYTES) if chunk else b""
        sealed = sealer.seal(_nonce(prefix, counter, not following), chunk, header)
        target.write(struct.pack(">I", len(sealed)) + sealed)
        counter += 1
        if not following:
            return beginning
        chunk = following


def _open_chunks(source: BinaryIO, name: str) -> Iterator[bytes]:
    def damaged(reason: str) -> TiyuError:
        return TiyuError(
            "TIYU-ARC-0002",
            "归档对象已损坏或被改动",
            REMEDY,
            EXIT_UNAVAILABLE,
            object=name,
            reason=reason,
        )

    if source.read(len(MAGIC)) != MAGIC:
        raise damaged("magic")
    try:
        (length,) = struct.unpack(">I", source.read(4))
        header = source.read(length)
        fields = json.loads(header)
        kek = keys.provider().get("archive", fields["kid"])
        sealer = _Sealer(fields["cipher"], aes_key_unwrap(kek, base64.b64decode(fields["wrapped_key"])))
        prefix = base64.b64decode(fields["nonce_prefix"])
        limit = int(fields["chunk_bytes"]) + _TAG_BYTES
    except (struct.error, ValueError, KeyError, InvalidUnwrap) as error:
        raise damaged("header") from error
    counter, last = 0, False
    size_bytes = source.read(4)
    while not last:
        if len(size_bytes) != 4:
            raise damaged("truncated")
        (size,) = struct.unpack(">I", size_bytes)
        if size > limit:
            raise damaged("chunk size")
        sealed = source.read(size)
        size_bytes = source.read(4)
        last = size_bytes == b""
        try:
            yield sealer.open(_nonce(prefix, counter, last), sealed, header)
        except InvalidTag as error:
            raise damaged("authentication") from error
        counter += 1


class _ChunkStream(io.RawIOBase):
    def __init__(self, source: BinaryIO, chunks: Iterator[bytes]):
        self._source = source
        self._chunks = chunks
        self._buffer = b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._source.close()
        super().close()

    def readinto(self, target) -> int:
        while not self._buffer:
            try:
                self._buffer = next(self._chunks)
            except StopIteration:
                return 0
        count = min(len(target), len(self._buffer))
        target[:count] = self._buffer[:count]
        self._buffer = self._buffer[count:]
        return count


def open_sealed(source: BinaryIO, name: str = "") -> BinaryIO:
    """A readable stream of the plain bytes, which closes ``source`` with itself; raises TIYU-ARC-0002 at the first damaged chunk."""
    raw = io.BufferedReader(_ChunkStream(source, _open_chunks(source, name)), CHUNK_BYTES)
    return zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
