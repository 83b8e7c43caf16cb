"""Breakers 降级措施: transformations proved to make data less sensitive, the only way a column's grade may fall.

`declaration` is what a model's column says about its breaker, `structure` reads the compiled SQL and finds out whether
it is what the declaration says, `certificate` judges what the data shows. Nothing here reads data.
"""

from catalog.breakers.certificate import Certificate, Evidence, Limits, judge, limits, terms
from catalog.breakers.declaration import KINDS, Breaker, load, read
from catalog.breakers.structure import evidence_sql

__all__ = [
    "KINDS", "Breaker", "Certificate", "Evidence", "Limits", "evidence_sql", "judge", "limits", "load", "read",
    "terms",
]  # fmt: skip
