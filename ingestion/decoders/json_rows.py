"""Turning JSON texts into text columns at once, in DuckDB, in memory."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.decoders.lines import count_byte
from ingestion.decoders.numbers import (
    Numbers,
    close_well,
    count_values,
    count_words,
    look_like_no_texts,
    look_like_numbers,
    may_be_flags,
    may_hold_words,
    whole,
)
from lake.arrow import folded
from lake.sql import quote_literal

_LOCAL = threading.local()


def connection() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB of this thread that can never spill: raw values must not reach a disk."""
    held = getattr(_LOCAL, "connection", None)
    if held is None or _LOCAL.process != os.getpid():  # a connection does not survive a fork
        held = duckdb.connect(":memory:", config={"threads": 1})  # chunks are read side by side
        held.execute("SET temp_directory = ''")
        held.execute("SET enable_external_access = false")
        held.execute("SET TimeZone = 'UTC'")
        _LOCAL.connection = held
        _LOCAL.process = os.getpid()
    return held


def json_path(field: str) -> str:
    """The JSON path of a top-level member, whatever characters its name holds."""
    return '$."' + field.replace("\\", "\\\\").replace('"', '\\"') + '"'


OK, BAD_JSON, NOT_OBJECT, UNKNOWN_FIELD, REPEATED_FIELD = range(5)
REPEATED_INSIDE, NOT_NESTED, NOT_A_LIST, NOT_AN_ITEM = range(20, 24)


@dataclass
class Extracted:
    """rows: one per text, in order, the fields as text · state: one of the constants above per text · unknown: names
    that are not asked for, by position of the text · lists: table → elements of lists inside the texts
    (`ingestion.decoders.json_inside`) · places: where inside a text the reason for its state lies, by position."""

    rows: pa.Table
    state: npt.NDArray[np.int8]
    unknown: dict[int, list[str]]
    lists: dict[str, pa.Table] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)

    def unknown_names(self, positions: npt.NDArray[np.int64]) -> list[str]:
        return sorted({name for position in positions.tolist() for name in self.unknown.get(position, [])})


def extract(
    texts: pa.Array, fields: tuple[str, ...], looked: Looked | None = None, also: frozenset[str] = frozenset()
) -> Extracted:
    """Read JSON objects into text columns.

    Numbers are given in shortest round-trip form, nested values as JSON, null and absent as null. ``looked`` is what is
    known of the bytes that the texts were cut from: most deliveries can then be seen to hold no other names without
    listing the names of every record. ``also``: names that are known, and not read here.
    """
    con = connection()
    con.register("_texts", pa.table({"text": texts}))
    structure = quote_literal(json.dumps(dict.fromkeys(fields, "VARCHAR"), ensure_ascii=False))
    try:
        try:  # every text an object: read each once
            table = con.execute(f"SELECT unnest(json_transform(text, {structure})) FROM _texts").to_arrow_table()
            if fields and _no_other_names(table, looked):
                return Extracted(table, np.full(len(texts), OK, dtype=np.int8), {})
            found = con.execute(_KINDS_AND_NAMES)
        except duckdb.Error:  # some text is no JSON
            table = con.execute(
                f"SELECT unnest(json_transform(CASE WHEN json_valid(text) THEN text END, {structure})) FROM _texts"
            ).to_arrow_table()
            found = con.execute(
                "SELECT CASE WHEN json_valid(text) THEN json_type(text) ELSE 'BAD' END AS kind,"
                " CASE WHEN json_valid(text) THEN hash(json_keys(text)) ELSE 0 END AS keys FROM _texts"
            )
        known = found.to_arrow_table()  # DuckDB keeps the order of insertion
    finally:
        con.unregister("_texts")
    state, unknown = _judged_names(con, texts, known, frozenset(fields) | also)
    return Extracted(table, state, unknown)


_KINDS_AND_NAMES = "SELECT json_type(text) AS kind, hash(json_keys(text)) AS keys FROM _texts"


def extract_numbers(texts: pa.Array, raw: bytes, fields: tuple[str, ...], numbers: Numbers) -> Extracted | None:
    """The same as `extract`, with numbers as numbers; None unless it is certain that nothing else than plain numbers stands
    where numbers should, no name that is not asked for, and nothing in ``raw``, the bytes of the texts, that `json_strict` would have to mend.

    Every value that is a text, true or false must have gone into a column of text, and none in there may be a number. Most
    often the quotes tell that, and the names (`_quotes_tell_all`); else the values are counted.
    """
    ends = np.frombuffer(texts.buffers()[1], dtype=np.int64)[1 : len(texts) + 1]
    if not raw or b"\\" in raw or not close_well(raw, ends):
        return None
    kinds = {name: kind for name, kind in numbers.kinds.items() if kind in ("DOUBLE", "INTEGER") and name in fields}
    structure = {name: "DOUBLE" if name in kinds else "VARCHAR" for name in fields}
    con = connection()
    con.register("_texts", pa.table({"text": texts}))
    try:
        shape = quote_literal(json.dumps(structure, ensure_ascii=False))
        table = con.execute(f"SELECT unnest(json_transform(text, {shape})) FROM _texts").to_arrow_table()
        written = {name: table[name].combine_chunks() for name in fields if name not in kinds}
        in_text = sum(len(column) - column.null_count for column in written.values())
        found = sum(len(texts) - column.null_count for column in table.columns)
        written = {name: folded(texts_of) or texts_of for name, texts_of in written.items()}
        if any(look_like_numbers(texts_of) for texts_of in written.values()):
            return None
        no_words = not any(look_like_no_texts(texts_of) for texts_of in written.values())
        no_words = no_words and not any(may_be_flags(table[name]) for name in kinds)
        if _quotes_tell_all(raw, found, in_text) and (no_words or not may_hold_words(raw)):
            members = found
        else:
            counted = count_values(raw)
            if counted is None or counted.texts > in_text:
                return None
            members = counted.members
            if counted.texts != in_text or members != found or not no_words:
                words = count_words(raw)
                if words is None or counted.texts + words != in_text:
                    return None
        for name, texts_of in written.items():
            table = table.set_column(table.schema.get_field_index(name), name, texts_of)
        for name, kind in kinds.items():
            values = whole(table[name], kind)
            if values is None:
                return None
            table = table.set_column(table.schema.get_field_index(name), name, values)
        if "INTEGER" in kinds.values() and _may_be_rounded(raw, table, kinds):
            return None
        if _all_are_known(table, members):
            return Extracted(table, np.full(len(texts), OK, dtype=np.int8), {})
        known = con.execute(_KINDS_AND_NAMES).to_arrow_table()
    except duckdb.Error:  # some text is no JSON
        return None
    finally:
        con.unregister("_texts")
    state, unknown = _judged_names(con, texts, known, frozenset(fields))
    return Extracted(table, state, unknown) if (state == OK).all() else None


def _quotes_tell_all(raw: bytes, found: int, in_text: int) -> bool:
    """Whether flat objects without backslashes have no members but those ``found``, and all values that are texts, and no
    others, are among the ``in_text`` of these that stand in columns of text, where each of these was a text.

    A name has two quotes and a text has two, and there are no others. Of names there are at least ``found``, of texts at
    least ``in_text``: where the quotes are no more than it takes for these, there are no more of either.
    """
    return count_byte(raw, ord('"')) == 2 * (found + in_text)


def _may_be_rounded(raw: bytes, table: pa.Table, kinds: dict[str, str]) -> bool:
    """Whether a whole number may have been a fraction so long or so small that a double does not hold it."""
    data = np.frombuffer(raw, dtype=np.uint8)
    if long_number(data):
        return True
    if not any(pc.any(pc.equal(table[name], 0)).as_py() for name, kind in kinds.items() if kind == "INTEGER"):
        return False
    blocks = (data[max(0, start - _BACK) : start + _BLOCK + _AHEAD] for start in range(0, len(data), _BLOCK))
    return any(_long_exponent(block, (block - 48) <= 9) for block in blocks)


def _judged_names(
    con: duckdb.DuckDBPyConnection, texts: pa.Array, known: pa.Table, names_known: frozenset[str]
) -> tuple[npt.NDArray[np.int8], dict[int, list[str]]]:
    """State and unknown names of each text, by what kind of JSON it is and the hash of its members' names.

    Records of one source carry few different sets of names, so names are judged once per set, not per record.
    """
    kind = known["kind"].combine_chunks()
    is_object = pc.equal(kind, "OBJECT").to_numpy(zero_copy_only=False)
    is_bad = pc.equal(kind, "BAD").to_numpy(zero_copy_only=False)
    state = np.where(is_object, OK, np.where(is_bad, BAD_JSON, NOT_OBJECT)).astype(np.int8)
    keys = known["keys"].to_numpy()
    unknown: dict[int, list[str]] = {}
    position = np.flatnonzero(is_object)
    _, first, of_set = np.unique(keys[position], return_index=True, return_inverse=True)
    for number, names in enumerate(_member_names(con, texts.take(pa.array(position[first])))):
        extra = sorted(set(names) - names_known)
        if extra or len(names) != len(set(names)):
            rows = position[of_set == number]
            state[rows] = UNKNOWN_FIELD if extra else REPEATED_FIELD
            unknown.update(dict.fromkeys(rows.tolist(), extra))
    return state, unknown


@dataclass(frozen=True)
class Looked:
    """What a look at all bytes of JSON texts is certain of, without reading them.

    members: at most so many members do the objects have; None where that cannot be told. plain: no word that is no JSON
    (NaN, Infinity), no comma before a closing bracket, no number of eighteen digits or with an exponent of three, nothing
    nested. In doubt it is not.
    """

    members: int | None
    plain: bool


def look(raw: bytes) -> Looked:
    """Look at texts that the fast reader may take for more than they are (`ingestion.decoders.json_strict`).

    Without backslashes, and without blanks before a colon, every member of an object is written as a quote and a colon;
    nothing but a text that begins with a colon looks the same, so there are at least as many of these pairs as members.
    Every value of an object that is not nested follows a colon, at most one blank between.
    """
    data = np.frombuffer(raw, dtype=np.uint8)
    if not len(data) or data[0] == ord(":"):
        return Looked(None, False)
    tells = b"\\" not in raw
    plain = b"[" not in raw
    members = 0
    for start in range(0, len(data), _BLOCK):  # blocks that fit into the processor's cache, each with its surroundings
        first = max(0, start - _BACK)
        block = data[first : start + _BLOCK + _AHEAD]
        is_colon, is_quote, is_blank = block == ord(":"), block == ord('"'), block <= 32
        pairs = is_quote[:-1] & is_colon[1:]
        members += int(np.count_nonzero(pairs[max(0, start - first - 1) : start - first - 1 + _BLOCK]))
        tells = tells and not (is_blank[:-1] & is_colon[1:]).any()
        if plain:
            digit = (block - 48) <= 9
            odd = np.flatnonzero(is_colon[:-1] & ~(digit | is_quote)[1:])
            closes = (block | 32) == 125  # ] and }
            plain = (
                _plain_values(block, odd + 1)
                and not ((is_blank | (block == ord(",")))[:-1] & closes[1:]).any()
                and not _long_exponent(block, digit)
                and not _long_number(digit | (block == ord(".")))
            )
    return Looked(members if tells else None, plain)


def _table(marks: bytes) -> npt.NDArray[np.bool_]:
    found = np.zeros(256, dtype=bool)
    found[np.frombuffer(marks, dtype=np.uint8)] = True
    return found


_BLOCK, _BACK, _AHEAD = 256 * 1024, 18, 8
_STRANGE = _table(b"NIi+ \t\r\n{")


def _plain_values(data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]) -> bool:
    """Whether what stands at these places (behind a colon), or one blank further, begins a text, a number or null, true
    or false."""
    last = len(data) - 1
    at = np.minimum(at, last)
    first = data[at]
    if (first == 32).any():
        at = np.minimum(at + (first == 32), last)
        first = data[at]
    second = data[np.minimum(at + 1, last)]
    no_null = (first == ord("n")) & (second != ord("u"))
    no_number = (first == ord("-")) & ((second - 48) > 9)
    return not (_STRANGE[first] | no_null | no_number).any()


def _long_exponent(data: npt.NDArray[np.uint8], digit: npt.NDArray[np.bool_]) -> bool:
    """Whether an exponent may have three digits: a digit, an e, a sign or none, digits."""
    at = np.flatnonzero(digit[:-1] & ((data[1:] | 32) == ord("e")))
    if not len(at):
        return False
    places = np.minimum(at[:, None] + np.arange(2, 6), len(data) - 1)
    return bool((digit[places].sum(axis=1) >= 3).any())


def _long_number(numeric: npt.NDArray[np.bool_]) -> bool:
    """Whether eighteen digits or points stand in a row."""
    two = numeric[:-1] & numeric[1:]
    four = two[:-2] & two[2:]
    eight = four[:-4] & four[4:]
    sixteen = eight[:-8] & eight[8:]
    return bool((sixteen[:-2] & two[16:]).any()) if len(numeric) >= 18 else False


_ALL_BYTES = 0x01010101
_TO_SIGN, _POINT, _SIGNS = (np.uint32(byte * _ALL_BYTES) for byte in (0x80 - ord("9") - 1, ord("."), 0x80))


def long_number(data: npt.NDArray[np.uint8]) -> bool:
    """Whether eighteen digits or points stand in a row: then three of the words of four bytes that lie in it are all digits or
    points (or slashes, between the two). A byte of a word is none where one of its sums has the sign bit."""
    words = data[: len(data) & ~3].view(np.uint32)
    step = _BLOCK // 4
    above, below = np.empty(step + 2, np.uint32), np.empty(step + 2, np.uint32)
    for start in range(0, len(words), step):
        word = words[start : start + step + 2]
        odd, low = above[: len(word)], below[: len(word)]
        np.add(word, _TO_SIGN, out=odd)
        np.subtract(word, _POINT, out=low)
        np.bitwise_or(odd, low, out=odd)
        np.bitwise_or(odd, word, out=odd)
        np.bitwise_and(odd, _SIGNS, out=odd)
        is_numeric = odd == 0
        if (is_numeric[:-2] & is_numeric[1:-1] & is_numeric[2:]).any():
            block = data[max(0, start * 4 - 18) : (start + step + 2) * 4 + 18]
            if _long_number(((block - 48) <= 9) | (block == 46)):
                return True
    return False


def _no_other_names(table: pa.Table, looked: Looked | None) -> bool:
    return looked is not None and looked.members is not None and _all_are_known(table, looked.members)


def _all_are_known(table: pa.Table, members: int) -> bool:
    """Whether it is certain that each text is an object with no names but those of ``table``, each at most once: there are
    at most as many members as values were found. In doubt the answer is no, and the names are listed."""
    values = [table.num_rows - column.null_count for column in table.columns]
    # a text that is no object has no values, and no pairs either: every text must have given at least one value
    return any(count == table.num_rows for count in values) and members == sum(values)


def _member_names(con: duckdb.DuckDBPyConnection, samples: pa.Array) -> list[list[str]]:
    con.register("_samples", pa.table({"position": pa.array(range(len(samples)), pa.int64()), "text": samples}))
    try:
        found = con.execute("SELECT json_keys(text) FROM _samples ORDER BY position").fetchall()
    finally:
        con.unregister("_samples")
    return [names for (names,) in found]
