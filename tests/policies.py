"""The committed policy with some entries changed, for tests that plant a defect or switch something off."""

from __future__ import annotations

import copy
from typing import Any

from catalog import yamlfile
from catalog.policy.declaration import FILE, Policy


def content(*edits: tuple[str, Any]) -> dict[str, Any]:
    """The declaration as data, edited; a path is dotted, a value of None removes the entry."""
    found = copy.deepcopy(yamlfile.read(FILE))
    for path, value in edits:
        *parents, last = path.split(".")
        place = found
        for name in parents:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return found


def changed(*edits: tuple[str, Any]) -> Policy:
    """The same as a policy."""
    return Policy.model_validate(content(*edits))


def denied(surface: str) -> Policy:
    """The policy that gives nothing on one surface."""
    return changed((f"surfaces.{surface}.limit", {"grades": {}, "marks": {}, "kinds": {}}))
