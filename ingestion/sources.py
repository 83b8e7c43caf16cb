"""The source contract that an operator means by a resource name."""

from __future__ import annotations

from collections.abc import Iterable

from catalog import contracts
from catalog.contracts import Contract
from lake.errors import EXIT_USAGE, TiyuError


def contract_of(resource: str) -> Contract:
    """The source contract of a resource; raises TIYU-ING-0001 for one that is not there."""
    every = contracts.load_all("source")
    if resource not in every:
        raise unknown(resource, every)
    return every[resource]


def unknown(resource: str, known: Iterable[str]) -> TiyuError:
    """TIYU-ING-0001: no such source; the message names those there are."""
    return TiyuError(
        "TIYU-ING-0001", "没有这个来源资源", f"可汇聚的资源：{'、'.join(sorted(known))}", EXIT_USAGE, resource=resource
    )
