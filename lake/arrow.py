"""Arrow tables in the shape that others expect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence

import pyarrow as pa
import pyarrow.compute as pc

_SAMPLE = 4_096


def plain(rows: pa.Table, columns: Container[str] | None = None) -> pa.Table:
    """The same rows without dictionaries, in these columns or in all: every value in its place."""
    return rows.cast(
        pa.schema(
            [
                pa.field(
                    f.name, f.type.value_type if _is_folded(f) and (columns is None or f.name in columns) else f.type
                )
                for f in rows.schema
            ]
        )
    )


def _is_folded(column: pa.Field) -> bool:
    return bool(pa.types.is_dictionary(column.type))


def joined(parts: Sequence[pa.Table]) -> pa.Table:
    """Tables of the same columns as one (at least one table). A column that is a dictionary in some of them only is none in
    the result."""
    folded = Counter(f.name for part in parts for f in part.schema if _is_folded(f))
    mixed = {name for name, count in folded.items() if count < len(parts)}
    return pa.concat_tables([plain(part, mixed) if mixed else part for part in parts], promote_options="permissive")


def folded(array: pa.Array) -> pa.DictionaryArray | None:
    """Values with each distinct one once; None where they are mostly different (as its first ones say)."""
    sample = array.slice(0, _SAMPLE)
    if len(sample) > 64 and len(pc.unique(sample)) > len(sample) // 4:
        return None
    return array.dictionary_encode()
