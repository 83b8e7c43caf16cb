"""What a batch consists of, written beside its objects: the part of the ledger that nothing else could tell.

``{archive_root}/{resource}/batches/{batch_id}.json`` holds the batch, its objects in order with their protected names,
their keyed signatures and the connector's watermark; no raw value. It is written before the ledger speaks of the batch
and never changed, so that a lost ledger can be made again (`ingestion.rebuild`). A batch that is read again under a new
contract version gets a list of its own, which names the one it supersedes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ingestion import archive
from lake.errors import EXIT_UNAVAILABLE, TiyuError
from lake.settings import settings

_BATCH = ("batch_id", "resource", "contract_version", "run_id", "watermark", "as_of_at", "started_at", "supersedes")
_OBJECT = ("seq", "sha256", "name", "media_type", "size")
REMEDY = "从备份把这份清单放回 archive 下原位；台账尚在时数据不受影响，只是台账丢失后不能据此重建"
"""What to do about one damaged list."""


def _folder(resource: str) -> Path:
    return settings().archive_root / resource / "batches"


def write(
    batch: Mapping[str, Any], objects: Sequence[Mapping[str, Any]], signatures: Mapping[str, str] | None = None
) -> None:
    """Write the list of a batch, durably; the same batch a second time is left as it is. Raises TIYU-ARC-0003."""
    final = _folder(batch["resource"]) / f"{batch['batch_id']}.json"
    if final.exists():
        return
    content = {name: _text(batch.get(name)) for name in _BATCH}
    content["objects"] = [{name: item[name] for name in _OBJECT} for item in objects]
    content["signatures"] = dict(signatures or {})
    aside = final.with_name(f".{final.name}.{os.getpid()}.part")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, indent=0)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, final)
    except OSError as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise archive.unwritable(error) from error


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def mark_done(resource: str, batch_id: str) -> None:
    """Say that the ledger has closed a batch: one that stored nothing new leaves no other trace of having been done.

    Missing the mark costs nothing but doing the batch again, which changes nothing.
    """
    with suppress(OSError):
        _folder(resource).mkdir(parents=True, exist_ok=True)
        (_folder(resource) / f"{batch_id}.done").touch()


def carried_over(batch: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """Watermark and signatures of a batch, for the list of the one that supersedes it; nothing when it has no list
    (it was taken in by an earlier version)."""
    file = _folder(batch["resource"]) / f"{batch['batch_id']}.json"
    if not file.is_file():
        return batch["watermark"], {}
    content = read(batch["resource"], batch["batch_id"])
    return content["watermark"], content["signatures"]


def names(resource: str) -> list[str]:
    """Batches of a resource that have a list."""
    return sorted(file.stem for file in _folder(resource).glob("b_*.json"))


def read(resource: str, batch_id: str) -> dict[str, Any]:
    """The list of a batch as it was written. Raises TIYU-ARC-0005 when it is damaged."""
    try:
        content: dict[str, Any] = json.loads((_folder(resource) / f"{batch_id}.json").read_text("utf-8"))
        if content["batch_id"] != batch_id or any(set(_OBJECT) - set(item) for item in content["objects"]):
            raise ValueError("other content")
    except (ValueError, KeyError, TypeError) as error:
        raise TiyuError(
            "TIYU-ARC-0005", "批次清单已损坏，台账丢失时无法据此重建", REMEDY, EXIT_UNAVAILABLE,
            resource=resource, batch=batch_id, reason=type(error).__name__,
        ) from None  # fmt: skip
    return content


def read_all(resource: str) -> list[dict[str, Any]]:
    """The lists of a resource that no other list supersedes, in the order the batches came in; times are parsed,
    and ``done`` says whether the ledger had closed the batch. Raises TIYU-ARC-0005 for a damaged one."""
    found = []
    for batch_id in names(resource):
        content = read(resource, batch_id)
        for name in ("as_of_at", "started_at"):
            content[name] = datetime.fromisoformat(content[name]) if content[name] else None
        content["done"] = (_folder(resource) / f"{batch_id}.done").exists()
        found.append(content)
    replaced = {content["supersedes"] for content in found}
    return sorted(
        (content for content in found if content["batch_id"] not in replaced),
        key=lambda content: (content["started_at"], content["batch_id"]),
    )


__all__ = ["REMEDY", "carried_over", "mark_done", "names", "read", "read_all", "write"]
