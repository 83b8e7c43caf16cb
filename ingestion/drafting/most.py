"""How much of a sample must agree before it is gone by: a sample may be dirty."""

from __future__ import annotations

MOST, ENOUGH = 0.95, 20


def is_most(share: float, count: int) -> bool:
    """Whether what a share of so many records says may be taken for all of them; the others would be refused."""
    return share >= MOST and share * count >= ENOUGH


__all__ = ["is_most"]
