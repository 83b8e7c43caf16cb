"""Every record-keeping source, by domain."""

from __future__ import annotations

from simulation.records import event, fitness, reference, supervision, training, venue
from simulation.records.feed import Feed

FEEDS: tuple[Feed, ...] = (
    *venue.FEEDS, *event.FEEDS, *training.FEEDS, *fitness.FEEDS, *supervision.FEEDS, *reference.FEEDS,
)  # fmt: skip
APIS = tuple(feed.form.api for feed in FEEDS if feed.form.kind == "api")
"""Names of the interfaces of record-keeping sources, as in their address."""
