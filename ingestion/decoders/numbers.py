"""Fields whose numbers a decoder may give as numbers and not as text, where that is certain to make no difference.

What a delivered text becomes is said by `ingestion.conversion`. For a plain number (`Numbers.kinds`, see
`ingestion.typed.plain_numbers`) the engine's own reader comes to the same value several times as fast, as long as every
value of the chunk is one that both understand alike. A decoder that sees any other value gives the chunk as text.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

ARROW = {"DOUBLE": pa.float64(), "INTEGER": pa.int32(), "BIGINT": pa.int64()}
_IN_VAIN = 4
_NUMBER_LIKE = r"^(-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?|(?i:-?nan|-?inf|-?infinity))$"
"""How a JSON number, or what a lenient reader takes for one, looks when it has become a text."""


@dataclass
class Numbers:
    """kinds: source field → type of the contract (a key of `ARROW`); in_vain: chunks that were tried and had to be given
    as text. A source whose numbers are not plain is not tried for ever."""

    kinds: dict[str, str] = field(default_factory=dict)
    in_vain: int = 0

    @property
    def worth_trying(self) -> bool:
        return bool(self.kinds) and self.in_vain < _IN_VAIN


@dataclass(frozen=True)
class Values:
    """What stands behind the colons of flat JSON objects, counted in their bytes.

    members: names of members, or more (a text that begins with a colon looks like one). texts: those whose value is a text, or
    true or false; the others are numbers, null, or words that only a lenient reader takes for numbers.
    """

    members: int
    texts: int


_BLOCK, _AHEAD = 128 * 1024, 3
_QUOTE, _COLON, _COMMA, _CLOSE = b'":,}'
_MINUS, _ZERO, _NULL, _TRUE, _FALSE = b"-0ntf"


def count_values(raw: bytes) -> Values | None:
    """Count the values of flat JSON objects; None where their form leaves a doubt: a backslash, anything nested, a blank
    before a colon, several behind one, a comma or blank before a closing bracket."""
    if not raw or b"\\" in raw:
        return None
    data = np.frombuffer(raw, dtype=np.uint8)
    members = in_texts = 0
    for start in range(0, len(data), _BLOCK):  # blocks that fit into the processor's cache, each with its surroundings
        block = data[max(0, start - 1) : start + _BLOCK + _AHEAD]
        before, here = block[:-1], block[1:]
        is_colon, is_blank = here == _COLON, before <= 32
        if (is_blank & is_colon).any() or ((is_blank | (before == _COMMA)) & (here == _CLOSE)).any():
            return None
        own = min(_BLOCK, len(data) - start) - (start == 0)  # what is behind belongs to the next block
        at = np.flatnonzero(((before == _QUOTE) & is_colon)[:own]) + 2
        value = block[np.minimum(at, len(block) - 1)]
        if (value == 32).any():
            value = np.where(value == 32, block[np.minimum(at + 1, len(block) - 1)], value)
        is_text = (value == _QUOTE) | (value == _TRUE) | (value == _FALSE)
        is_number = ((value - _ZERO) <= 9) | (value == _MINUS) | (value == _NULL)
        if not (is_text | is_number).all():
            return None
        members += len(at)
        in_texts += int(np.count_nonzero(is_text))
    return Values(members, in_texts)


def whole(values: pa.ChunkedArray, kind: str) -> pa.Array | None:
    """Doubles as numbers of a kind; None where one of them is not finite, or no whole number of that kind."""
    array = values.combine_chunks()
    plain = array.fill_null(0.0).to_numpy(zero_copy_only=False)
    if not np.isfinite(plain).all():
        return None
    if kind == "DOUBLE":
        return array
    limits = np.iinfo(np.int32)
    if kind != "INTEGER" or (len(plain) and (plain.min() < limits.min or plain.max() > limits.max)):
        return None
    made: npt.NDArray[np.int32] = plain.astype(np.int32)
    if not (made == plain).all():
        return None
    return pa.array(made, mask=array.is_null().to_numpy(zero_copy_only=False)) if array.null_count else pa.array(made)


def is_finite(column: pa.ChunkedArray) -> bool:
    """Whether all numbers of a column are finite."""
    return pc.all(pc.is_finite(column)).as_py() is not False


def look_like_numbers(column: pa.ChunkedArray) -> bool:
    """Whether any text of a column could have been a number in JSON."""
    array = column.combine_chunks()
    sample = array.slice(0, 4_096)
    if len(sample) > 64 and len(pc.unique(sample)) > len(sample) // 4:
        return bool(pc.any(pc.match_substring_regex(array, _NUMBER_LIKE)).as_py())
    return bool(pc.any(pc.match_substring_regex(pc.unique(array), _NUMBER_LIKE)).as_py())


def as_text(rows: pa.Table, own: tuple[str, ...]) -> pa.Table:
    """The rows with numbers as text again; ``own`` are columns of the platform, which stay."""
    columns = [
        column if name in own or pa.types.is_string(column.type) else column.cast(pa.string())
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    ]
    return pa.table(columns, names=rows.column_names)
