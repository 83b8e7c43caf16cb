"""What data exists, what it means, how sensitive it is and who may have it.

The YAML files below this package are declarations; the Python here only reads, checks and writes them out.
"""

from collections.abc import Mapping

from lake import words


def _words(table: str) -> Mapping[str, Mapping[str, str]]:
    from catalog import mirror

    return mirror.words(table)


words.provide(_words)
