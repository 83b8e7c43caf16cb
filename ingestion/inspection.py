"""Looks through the raw archive: is every object there, does it open, and is it what its name says?

An object is read again only when a contract changes or a ledger is lost, perhaps years later; damage is to be found
before, while a backup or the source still has the bytes. Streams every object through decryption and hash; nothing
plain is kept, and nothing is changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from catalog import contracts
from ingestion import archive, batch_list
from lake import ledger
from lake.errors import EXIT_USAGE, TiyuError


@dataclass
class Inspected:
    """One resource: objects and plain bytes read, lists of batches read, and what is wrong (`what`: code → names).

    Names are content hashes and batch identifiers, never names of files.
    """

    resource: str
    objects: int = 0
    bytes: int = 0
    lists: int = 0
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.damaged


def inspect(
    resources: list[str] | None = None, progress: Callable[[str, int, int], None] | None = None
) -> list[Inspected]:
    """Inspect the archive of some or all sources. `damaged`: object or batch → code.

    TIYU-ARC-0001: the ledger names the object, the archive has none. TIYU-ARC-0002: it does not open, or is not what its
    name says. TIYU-ARC-0005: the list of a batch cannot be read. `progress` is called with resource, objects done and objects
    in all. Raises TIYU-ARC-0004 when the archive's folder is not there, TIYU-ARC-0006 for a source that no contract describes.
    """
    known = list(contracts.load_all("source"))
    unknown = sorted(set(resources or []) - set(known))
    if unknown:
        raise TiyuError(
            "TIYU-ARC-0006", "没有这个数据源", "用 tiyu catalog list 查看数据源", EXIT_USAGE, resource="、".join(unknown)
        )  # fmt: skip
    archive.require()
    return [_resource(name, progress or (lambda *_: None)) for name in resources or known]


def _resource(resource: str, progress: Callable[[str, int, int], None]) -> Inspected:
    found = Inspected(resource)
    stored = list(archive.stored(resource))
    for number, sha256 in enumerate(stored, 1):
        found.objects += 1
        digest = hashlib.sha256()
        try:
            with archive.open_object(resource, sha256) as stream:
                while data := stream.read(1 << 20):
                    digest.update(data)
                    found.bytes += len(data)
        except TiyuError as error:
            if error.code not in archive.DAMAGED:
                raise
            found.damaged[sha256] = error.code
        else:
            if digest.hexdigest() != sha256:
                found.damaged[sha256] = "TIYU-ARC-0002"
        progress(resource, number, len(stored))
    there = set(stored)
    for batch in ledger.batches(resource):
        for item in ledger.objects(batch["batch_id"]):
            if item["sha256"] not in there:
                found.damaged[item["sha256"]] = "TIYU-ARC-0001"
    for batch_id in batch_list.names(resource):
        found.lists += 1
        try:
            batch_list.read(resource, batch_id)
        except TiyuError as error:
            found.damaged[batch_id] = error.code
    return found


__all__ = ["Inspected", "inspect"]
