"""Verbs of two rooms that do not know each other, put together for a task."""

from __future__ import annotations

from typing import Any


def publish_serving(audiences: list[str] | None = None, *, full: bool = False) -> Any:
    """Publish the serving files (`sharing.serving.publish`); what the lake keeps masked is read from the archive
    (`ingestion.originals`) for the audience that sees it plain."""
    from ingestion.originals import originals
    from sharing.serving import publish

    return publish.publish_serving(audiences, full=full, recall=originals)
