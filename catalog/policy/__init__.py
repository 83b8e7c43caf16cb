"""Who may see what, where, in which form: one declaration (`policy.yaml`), one question (`decide`), one proof (`exhaustion`).

Every surface asks `decide` (or `decide_column`, `decide_file`); none has a limit of its own. What a treatment does to a
value is `protection`'s work (`protection.masking`), applying it is each surface's.
"""

from __future__ import annotations

from catalog.policy.decide import (
    CHANNELS,
    Decision,
    Facet,
    allows,
    decide,
    decide_column,
    decide_file,
    facet_of,
    is_person_level,
    kind_of,
    strictest,
    table_allowed,
)
from catalog.policy.declaration import (
    FILE,
    TREATMENTS,
    Audience,
    Policy,
    Role,
    Surface,
    Treatment,
    current,
    load,
    replaced,
)
from catalog.policy.roles import audience_of, check_assignment, conflicts

__all__ = [
    "CHANNELS",
    "FILE",
    "TREATMENTS",
    "Audience",
    "Decision",
    "Facet",
    "Policy",
    "Role",
    "Surface",
    "Treatment",
    "allows",
    "audience_of",
    "check_assignment",
    "conflicts",
    "current",
    "decide",
    "decide_column",
    "decide_file",
    "facet_of",
    "is_person_level",
    "kind_of",
    "load",
    "replaced",
    "strictest",
    "table_allowed",
]
