"""Opening .gz and .zip of device files: the same bounds as for every format."""

from __future__ import annotations

from ingestion.decoders import container
from ingestion.decoders.base import MAX_EXPANDED_BYTES
from ingestion.decoders.container import Entry

__all__ = ["MAX_EXPANDED_BYTES", "Entry", "unpack"]


def unpack(name: str, content: bytes) -> list[Entry]:
    """Files in an object, see `ingestion.decoders.container.unpack`."""
    return container.unpack(name, content, limit=MAX_EXPANDED_BYTES)
