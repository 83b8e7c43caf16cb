"""Fields whose numbers a decoder may give as numbers and not as text, where that is certain to make no difference.

What a delivered text becomes is said by `ingestion.conversion`. For a plain number (`Numbers.kinds`, see
`ingestion.typed.plain_numbers`) the engine's own reader comes to the same value several times as fast, as long as every
value of the chunk is one that both understand alike. A decoder that sees any other value gives the chunk as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

ARROW = {"DOUBLE": pa.float64(), "INTEGER": pa.int32(), "BIGINT": pa.int64()}
_IN_VAIN = 4
Places: TypeAlias = npt.NDArray[np.int64]
_NUMBER_LIKE = r"^(-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?|(?i:-?nan|-?inf|-?infinity))$"
"""How a JSON number, or what a lenient reader takes for one, looks when it has become a text."""
_NO_TEXT_LIKE = r"^(true|false|[\[{].*)$"
"""How any other JSON value that is no text looks then."""


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

    members: names of members, or more (a text that begins with a colon looks like one). texts: those whose value is a text;
    the others are numbers, null, or words (`count_words`).
    """

    members: int
    texts: int


_BLOCK = 256 * 1024
_QUOTE, _COLON, _COMMA, _CLOSE = b'":,}'
_MINUS, _ZERO, _NULL, _TRUE, _FALSE = b"-0ntf"


def count_values(raw: bytes) -> Values | None:
    """Count the values of flat JSON objects without backslashes; None where their form leaves a doubt: a blank before a
    colon, several behind one.

    What stands in texts may be counted, too, never the other way round. Of a value behind a colon and a blank, true and false
    count as texts.
    """
    data = np.frombuffer(raw, dtype=np.uint8)
    has_blanks = any(blank in raw for blank in (b" ", b"\t", b"\r"))
    members = in_texts = 0
    for start, block in _blocks(data):
        is_quote, is_colon = block == _QUOTE, block == _COLON
        members += int(np.count_nonzero(is_quote[:-1] & is_colon[1:]))
        in_texts += int(np.count_nonzero(is_colon[:-1] & is_quote[1:]))
        if has_blanks:
            is_blank = block <= 32
            if (is_blank[:-1] & is_colon[1:]).any():
                return None
            at = start + np.flatnonzero(is_colon[:-1] & is_blank[1:])
            found = _texts_among(data, at, at + 2)
            if found is None:
                return None
            in_texts += found
    return Values(members, in_texts)


def count_words(raw: bytes) -> int | None:
    """Count the values of the same objects that are true or false, right behind their colon; None where one is another word or
    nested."""
    data = np.frombuffer(raw, dtype=np.uint8)
    total = 0
    for start, block in _blocks(data):
        words = (block == _COLON)[:-1] & (block >= 64)[1:]
        if words.any():
            at = start + np.flatnonzero(words)
            found = _texts_among(data, at, at + 1)
            if found is None:
                return None
            total += found
    return total


def may_hold_words(raw: bytes) -> bool:
    """Whether a value of JSON objects may be true, false or nested: what stands behind a colon is a letter, a bracket or a
    blank."""
    data = np.frombuffer(raw, dtype=np.uint8)
    # from 33 to 63 are the signs and digits; what is below is above all others once 33 is taken away
    return any(((block == _COLON)[:-1] & ((block - 33) > 30)[1:]).any() for _, block in _blocks(data))


def _blocks(data: npt.NDArray[np.uint8]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Blocks that fit into the processor's cache, each with the byte behind it, and where they begin."""
    for start in range(0, len(data), _BLOCK):
        yield start, data[start : start + min(_BLOCK, len(data) - start) + 1]


def close_well(raw: bytes, ends: npt.NDArray[np.int64]) -> bool:
    """Whether each line, ending before one of ``ends``, ends with a closing bracket, and no comma or blank before it."""
    data = np.frombuffer(raw, dtype=np.uint8)
    last = ends - 2  # before the line feed
    if len(last) and last.min() < 2:
        return False
    last = last - (data[last] == 13)
    before = data[last - 1]
    return bool(((data[last] == _CLOSE) & (before != _COMMA) & (before > 32)).all())


def _texts_among(data: npt.NDArray[np.uint8], colons: Places, values: Places) -> int | None:
    """How many of the values behind colons are a text, true or false; None where one is neither that nor a number nor null. A
    colon without a quote before it stands in a text."""
    of_member = data[np.maximum(colons - 1, 0)] == _QUOTE
    value = data[np.minimum(values[of_member], len(data) - 1)]
    is_text = (value == _QUOTE) | (value == _TRUE) | (value == _FALSE)
    is_number = ((value - _ZERO) <= 9) | (value == _MINUS) | (value == _NULL)
    return int(np.count_nonzero(is_text)) if (is_text | is_number).all() else None


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


def look_like_numbers(texts: pa.Array) -> bool:
    """Whether any of the texts could have been a number in JSON."""
    return _any_like(texts, _NUMBER_LIKE)


def look_like_no_texts(texts: pa.Array) -> bool:
    """Whether any of the texts could have been true, false, a list or an object in JSON."""
    return _any_like(texts, _NO_TEXT_LIKE)


def _any_like(texts: pa.Array, pattern: str) -> bool:
    distinct = texts.dictionary if pa.types.is_dictionary(texts.type) else texts
    return bool(pc.any(pc.match_substring_regex(distinct, pattern)).as_py())


def may_be_flags(values: pa.ChunkedArray) -> bool:
    """Whether any of the numbers could have been true or false in JSON."""
    return bool(pc.any(pc.or_(pc.equal(values, 0), pc.equal(values, 1))).as_py())


def as_text(rows: pa.Table, own: tuple[str, ...]) -> pa.Table:
    """The rows with numbers as text again; ``own`` are columns of the platform, which stay."""
    columns = [
        column if name in own or pa.types.is_string(column.type) else column.cast(pa.string())
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    ]
    return pa.table(columns, names=rows.column_names)


def together(parts: Sequence[pa.Table], own: tuple[str, ...]) -> pa.Table:
    """Rows of several readings as one table: as text, where some of them could not be read with numbers as numbers."""
    if any(part.schema != parts[0].schema for part in parts):
        parts = [as_text(part, own) for part in parts]
    return pa.concat_tables(parts)
