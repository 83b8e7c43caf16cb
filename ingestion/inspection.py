"""Looks through the raw archive: is every object there, does it open, and is it what its name says?

An object is read again only when a contract changes or a ledger is lost, perhaps years later; damage is to be found
before, while a backup or the source still has the bytes. Streams every object through decryption and hash; nothing
plain is kept, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from catalog import contracts
from ingestion import archive, batch_list
from lake import ledger
from lake.errors import EXIT_UNAVAILABLE, TiyuError


@dataclass
class Inspected:
    """One resource: objects looked at, plain bytes of the whole ones, lists of batches read, and what is wrong.

    `damaged`: content hash of an object, or identifier of a batch whose list it is → code; never a name of a file.
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
    """Inspect the archive of some or all sources.

    TIYU-ARC-0001: the ledger names the object, the archive has none. TIYU-ARC-0002: it does not open, or is not what its
    name says. TIYU-ARC-0005: the list of a batch cannot be read. `progress` is called with resource, objects done and objects
    in all. Raises TIYU-ARC-0004 when the archive's folder is not there, TIYU-CAT-0002 for a source that no contract describes.
    """
    wanted = [contracts.load(name).id for name in resources or contracts.load_all("source")]
    archive.require()
    return [_resource(name, progress or (lambda *_: None)) for name in wanted]


def require_whole() -> list[Inspected]:
    """`inspect` of all sources, for a schedule: raises TIYU-ARC-0011 when anything is missing or damaged, or nothing is there."""
    found = inspect()
    bad = {item.resource: len(item.damaged) for item in found if not item.ok}
    examined = sum(item.objects for item in found)
    if bad or not examined:
        raise TiyuError(
            "TIYU-ARC-0011",
            "归档中有对象缺失或损坏，或一个对象也没有",
            "运行 tiyu archive check 看是哪些对象、各自怎样处理；趁备份或来源还在时补回",
            EXIT_UNAVAILABLE,
            damaged="、".join(f"{resource} {count}" for resource, count in bad.items()),
            examined=examined,
        )
    return found


def _resource(resource: str, progress: Callable[[str, int, int], None]) -> Inspected:
    found = Inspected(resource)
    stored = list(archive.stored(resource))
    for number, sha256 in enumerate(stored, 1):
        found.objects += 1
        try:
            found.bytes += archive.verify(resource, sha256)
        except TiyuError as error:
            if error.code not in archive.DAMAGED:
                raise
            found.damaged[sha256] = error.code
        progress(resource, number, len(stored))
    for sha256 in sorted(ledger.known_objects(resource) - set(stored)):
        found.damaged[sha256] = "TIYU-ARC-0001"
    for batch_id in batch_list.names(resource):
        found.lists += 1
        try:
            batch_list.read(resource, batch_id)
        except TiyuError as error:
            found.damaged[batch_id] = error.code
    return found


__all__ = ["Inspected", "inspect", "require_whole"]
