"""Gives archived objects back, byte for byte, into a folder outside the installation.

The one place where raw content leaves the archive as it came: who asked, as which role, for what and why is in the ledger
before the first byte is written. Files are for the asking account only, nothing that exists is replaced, and a file has its
name only when its content was compared with the hash the archive knows it by.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingestion import archive
from lake import ledger, storage
from lake.errors import EXIT_UNAVAILABLE, EXIT_USAGE, TiyuError
from lake.settings import settings
from protection import redaction

_CHUNK = 1 << 20
_LONGEST = 180
"""Bytes of a file's name that are kept, so that a suffix still fits into the 255 that a file system takes."""
_ALLOWED = re.compile(r"[^\w.\-\[\]（）()+=@ ]+")


@dataclass(frozen=True)
class Returned:
    """One object given back: `name` as the source called it (identifiers protected), `file` what it is called in the folder."""

    sha256: str
    name: str
    file: str
    size: int


@dataclass
class Retrieval:
    """What was given back. `damaged`: content hash → code of an object that could not be; nothing is written for it."""

    batch_id: str
    resource: str
    folder: str
    objects: list[Returned] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether everything asked for was given back."""
        return bool(self.objects) and not self.damaged


def find_batch(found: str) -> dict[str, Any]:
    """The batch of an id, of the beginning of one (8 characters at least), or of the id it had before it was read again.

    Raises TIYU-ARC-0006 when there is none or more than one.
    """
    every = ledger.batches()
    for field_name in ("batch_id", "supersedes"):
        exact = [batch for batch in every if batch[field_name] == found]
        near = [batch for batch in every if len(found) >= 8 and (batch[field_name] or "").startswith(found)]
        if len(exact or near) == 1:
            return (exact or near)[0]
        if len(near) > 1:
            break
    else:
        near = []
    raise TiyuError(
        "TIYU-ARC-0006",
        "没有这个批次" if not near else "批次编号的开头不止对应一个批次",
        "批次编号见 tiyu trace、tiyu reconcile --json；可只写开头（至少 8 位）",
        EXIT_USAGE,
        batch=found,
        batches=len(every),
    )


def retrieve(
    batch_id: str, target: Path, *, sha256: str | None = None, account: str, role: str, reason: str
) -> Retrieval:
    """Write the objects of a batch (or one of them) into a folder, which is made when it is not there.

    Raises TIYU-ARC-0006 (batch), 0007 (object not in the batch), 0008 (a file of that name is there, or the folder is a
    link or inside the installation), 0009 (no reason), 0003 (cannot be written) and the errors of keys. A damaged object
    does not keep back the others.
    """
    if not reason.strip():
        raise TiyuError("TIYU-ARC-0009", "取出原始数据须写明理由", "用 --reason 写明用途，台账留痕", EXIT_USAGE)
    batch = find_batch(batch_id)
    objects = ledger.objects(batch["batch_id"])
    if sha256 is not None:
        wanted = [item for item in objects if len(sha256) >= 8 and item["sha256"].startswith(sha256)]
        if len(wanted) != 1:
            raise TiyuError(
                "TIYU-ARC-0007", "该批次没有这个对象", "对象编号是 sha256，可只写开头（至少 8 位）；不写 --object 即取整个批次",
                EXIT_USAGE, batch=batch["batch_id"], object=sha256, objects=len(objects),
            )  # fmt: skip
        objects = wanted
    names = file_names([(item["sha256"], item["name"]) for item in objects])
    archive.require()
    _require_outside(target)
    report = Retrieval(batch["batch_id"], batch["resource"], str(target))
    with _folder(target) as folder:
        taken = [name for name in names.values() if _exists(folder, name)]
        if taken:
            raise _refused("目标目录中已有同名文件，不覆盖", file=taken[0], count=len(taken))
        access = ledger.open_archive_access(
            batch_id=batch["batch_id"],
            resource=batch["resource"],
            sha256=objects[0]["sha256"] if sha256 else None,
            object_count=len(objects),
            account=account,
            role=role,
            reason=redaction.redact(reason.strip()),
        )
        try:
            for item in objects:
                try:
                    size = _write(folder, batch["resource"], item["sha256"], names[item["sha256"]])
                except TiyuError as error:
                    if error.code not in archive.DAMAGED:
                        raise
                    report.damaged[item["sha256"]] = error.code
                else:
                    report.objects.append(Returned(item["sha256"], item["name"], names[item["sha256"]], size))
        except OSError as error:
            if isinstance(error, FileExistsError):
                raise _refused("目标目录中已有同名文件，不覆盖") from None
            raise storage.fault(error) or TiyuError(
                "TIYU-ARC-0010", "无法写入目标目录", "检查目标目录的空间与权限后重跑；归档未受影响", EXIT_UNAVAILABLE,
                reason=error.strerror or type(error).__name__,
            ) from None  # fmt: skip
        finally:
            ledger.close_archive_access(access, returned=len(report.objects))
    return report


def file_names(objects: list[tuple[str, str]]) -> dict[str, str]:
    """sha256 → a file name that is safe to write: the last part of the protected name; where two would be the same (also to
    a file system that ignores case), both carry the beginning of their hash."""
    plain = {sha256: _safe(name) for sha256, name in objects}
    folded = [unicodedata.normalize("NFKC", name).casefold() for name in plain.values()]
    result = {}
    for (sha256, name), key in zip(plain.items(), folded, strict=True):
        stem, dot, ending = name.partition(".")
        result[sha256] = name if folded.count(key) == 1 else f"{stem}.{sha256[:12]}{dot}{ending}"
    return result


def _safe(name: str) -> str:
    """The last part of a name without what a shell, a terminal or a file system could take for something else."""
    last = unicodedata.normalize("NFC", re.split(r"[/\\]", name.rstrip("/\\"))[-1])
    last = _ALLOWED.sub("_", last).strip(". ").lstrip("-")
    while len(last.encode()) > _LONGEST:
        last = last[: len(last) // 2] + last[len(last) // 2 + 1 :]
    return last or "object"


def _refused(message: str, **where: Any) -> TiyuError:
    return TiyuError(
        "TIYU-ARC-0008", message, "用 --to 指明一个新的空目录（不经链接，且不在 TIYU_HOME 之内）", EXIT_USAGE, **where
    )  # fmt: skip


def _require_outside(target: Path) -> None:
    """Raw content must not lie where the installation publishes, backs up or cleans."""
    inside = [settings().home.resolve()]
    if "://" not in settings().lake_root:
        inside.append(Path(settings().lake_root).resolve())
    if any(root == target.resolve() or root in target.resolve().parents for root in inside):
        raise _refused("目标目录在平台自己的目录之内")


@contextmanager
def _folder(target: Path) -> Iterator[int]:
    """The folder as a descriptor, for everything that is done in it: exchanged for a link meanwhile, nothing goes astray."""
    try:
        with suppress(FileExistsError):
            target.mkdir(parents=True, mode=0o700)
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise _refused("目标是链接或文件，不是目录") from None
        raise storage.fault(error) or _refused("无法建立目标目录") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write(folder: int, resource: str, sha256: str, name: str) -> int:
    """One object, under a name of its own until it is whole and what its hash says; returns its size in bytes."""
    partial = f".{secrets.token_hex(8)}.part"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    try:
        digest, size = hashlib.sha256(), 0
        with os.fdopen(descriptor, "wb") as file, archive.open_object(resource, sha256) as stream:
            while data := stream.read(_CHUNK):
                digest.update(data)
                size += len(data)
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise archive.other_content(resource, sha256)
        os.link(partial, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)  # never replaces
        return size
    finally:
        os.unlink(partial, dir_fd=folder)


__all__ = ["Retrieval", "Returned", "file_names", "find_batch", "retrieve"]
