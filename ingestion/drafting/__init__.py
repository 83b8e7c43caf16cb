"""A first contract from a file: what it is (`recognise`), what its columns hold (`profile`), written down for a person (`write`).

A draft suggests and never decides: what the file alone cannot tell stays a text or is named in the notes. Nothing is stored, and no
value of the file stands in a draft except the words that mean "nothing" and the units under a header.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import httpx

from ingestion.drafting.profile import Column, columns_of
from ingestion.drafting.recognise import Recognised, recognise
from ingestion.drafting.write import contract_text, key_of
from lake.errors import EXIT_UNAVAILABLE, EXIT_USAGE, TiyuError

__all__ = ["Draft", "draft", "fetch", "keep"]

MAX_BYTES = 256 << 20
"""Largest object that is looked at; a sample of a few thousand records serves as well."""
_LONGEST_KEY = 2
"""Columns that rows of a list may take over from their record to find it again."""


@dataclass(frozen=True)
class Draft:
    """A drafted contract: its text (YAML), what was recognised, one profile a column, and what a person must look at."""

    text: str
    recognised: Recognised
    columns: list[Column]
    notes: list[str]


def draft(resource: str, name: str, content: bytes) -> Draft:
    """Profile one object of a source and write a contract for the resource ``<domain>.<noun>``.

    name: the object's name, whose ending is not trusted. Errors: TIYU-DRF-0001 the format is not known · 0002 no table was
    found · 0003 the resource's name is outside the grammar; what a decoder refuses is raised as it is.
    """
    found = recognise(name, content)
    columns = columns_of(found)
    if found.lists and len(key_of(columns, found)) > _LONGEST_KEY:
        found = recognise(name, content, with_lists=False)
        columns = columns_of(found)
        found.notes.append("没有找到能区分记录的短主键，记录内的列表未拆成子表")
    listed = [(item, columns_of(Recognised(found.decoder, tuple(item.paths), item.rows))) for item in found.lists]
    text, notes = contract_text(resource, found, columns, listed)
    return Draft(text, found, columns, [*found.notes, *notes])


def fetch(source: str) -> tuple[str, bytes]:
    """Name and bytes of a file or of what an http(s) address answers. Errors: TIYU-DRF-0004 it cannot be had · 0005 too large."""
    if urlsplit(source).scheme in ("http", "https"):
        return _download(source)
    path = Path(source)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(path.name)
        return path.name, path.read_bytes()
    except OSError as error:
        raise TiyuError(
            "TIYU-DRF-0004", "文件读不到", "核对路径与权限", EXIT_USAGE, file=path.name, reason=error.strerror
        ) from None


def _download(address: str) -> tuple[str, bytes]:
    name = PurePosixPath(unquote(urlsplit(address).path)).name or "index"
    body = bytearray()
    try:
        with httpx.stream("GET", address, timeout=30, follow_redirects=True) as response:
            if response.status_code != 200:
                raise TiyuError(
                    "TIYU-DRF-0004", "地址没有给出文件", "核对地址；需要登录的接口请先存成文件", EXIT_UNAVAILABLE, status=response.status_code
                )  # fmt: skip
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise _too_large(name)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TiyuError(
            "TIYU-DRF-0004", "地址连不上", "核对地址与网络", EXIT_UNAVAILABLE, reason=type(error).__name__
        ) from None  # the text of the error may repeat a credential in the address
    return name, bytes(body)


def _too_large(name: str) -> TiyuError:
    return TiyuError(
        "TIYU-DRF-0005", "样例文件过大", f"截取不超过 {MAX_BYTES >> 20} MiB 的一段（几千条即可）", EXIT_USAGE, file=name
    )  # fmt: skip


def keep(done: Draft, resource: str, folder: Path) -> Path:
    """Write a draft to ``folder/<domain>/<noun>.odcs.yaml``. Error: TIYU-DRF-0006 there is one already."""
    domain, _, noun = resource.partition(".")
    path = folder / domain / f"{noun}.odcs.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    except FileExistsError:
        raise TiyuError(
            "TIYU-DRF-0006", "已有这个来源的契约，不会覆盖", "换一个名称，或先移走旧文件", EXIT_USAGE, file=path.name
        ) from None
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(done.text)
    return path
