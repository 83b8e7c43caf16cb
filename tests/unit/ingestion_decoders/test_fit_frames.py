"""A FIT sequence without its records says the same of everything else."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import fitfast
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.decoders.activity import fit
from ingestion.decoders.activity.fit_frames import _run, without_records
from tests.unit.ingestion_decoders import fit_bytes
from tests.unit.ingestion_decoders.test_activity import START

REAL = Path(os.environ.get("TIYU_DEVICE_FILES") or Path(__file__).resolve().parents[4] / "shared" / "data") / "fit"
STAMP = fit_bytes.stamp(START)
FIELDS = {  # fields of each kind of message: number, letter
    20: [(253, "I"), (3, "B"), (5, "I")],
    18: [(253, "I"), (2, "I"), (5, "E"), (7, "I")],
    19: [(253, "I"), (2, "I"), (9, "I")],
    21: [(253, "I"), (0, "E"), (1, "E")],
    78: [(0, "H")],
}
SIZE = {"B": 1, "E": 1, "H": 2, "I": 4}


def define(local: int, number: int, *, big: bool, own: int) -> bytes:
    """A definition message in either byte order, with so many fields of an app besides."""
    body = b"".join(bytes([field, SIZE[letter], fit_bytes._BASE[letter]]) for field, letter in FIELDS[number])
    head = bytes([0x40 | (0x20 if own else 0) | local, 0, int(big)]) + struct.pack(">H" if big else "<H", number)
    more = bytes([own]) + b"".join(bytes([n, 1, 0]) for n in range(own)) if own else b""
    return head + bytes([len(FIELDS[number])]) + body + more


def values(number: int, seed: int, *, big: bool, own: int) -> bytes:
    found = []
    for field, letter in FIELDS[number]:
        value = STAMP + seed % 4000 if field in (253, 2) and letter == "I" else seed % 200
        found.append(struct.pack((">" if big else "<") + letter.replace("E", "B"), value))
    return b"".join(found) + bytes([seed % 100] * own)


APP = (
    fit_bytes.definition(15, 207, [(3, "B", 1)]) + fit_bytes.data(15, "B", 0)
    + b"".join(
        fit_bytes.definition(15, 206, [(0, "B", 1), (1, "B", 1), (2, "B", 1), (3, "s", 4)])
        + bytes([15, 0, n, 2]) + f"own{n}".encode()
        for n in range(3)
    )
)  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["define", "data", "data", "many", "compressed"]),
        st.integers(0, 3),  # local type
        st.sampled_from([20, 20, 20, *FIELDS]),
        st.booleans(),
        st.integers(0, 3),  # fields of an app
        st.integers(0, 5000),
    ),
    min_size=1,
    max_size=30,
)


def stream(steps: list[tuple[Any, ...]], *, compressed: bool) -> bytes:
    body = fit_bytes.definition(14, 0, [(0, "E", 1)]) + fit_bytes.data(14, "E", 4) + APP
    known: dict[int, tuple[int, bool, int]] = {}
    for what, local, number, big, own, seed in steps:
        if what == "define" or local not in known:
            body += define(local, number, big=big, own=own)
            known[local] = (number, big, own)
            continue
        number, big, own = known[local]
        message = values(number, seed, big=big, own=own)
        if what == "compressed" and compressed:
            body += bytes([0x80 | local << 5 | seed & 0x1F]) + message
        else:
            body += (bytes([local]) + message) * (seed % 300 if what == "many" else 1)
    return fit_bytes.wrap(body)


@pytest.mark.parametrize("compressed", [False, True])
@given(steps=STEPS)
@settings(max_examples=150, deadline=None)
def test_what_is_left_is_read_the_same(steps, compressed):
    whole = stream(steps, compressed=compressed)
    thin = without_records(whole)
    told = fitfast.parse(whole)
    records = told.pop("record", [])
    if thin is None:
        assert not records or compressed
    else:
        assert thin.records == len(records) > 0
        assert fitfast.parse(thin.data) == told


def test_most_of_a_file_need_not_be_read_as_messages():
    whole = fit_bytes.activity(START, 3_000)
    thin = without_records(whole)
    assert thin is not None
    assert thin.records == 3_000
    assert len(thin.data) < 300


@pytest.mark.parametrize("header_crc", [True, False])
def test_the_sequence_reads_the_same_with_and_without(monkeypatch, header_crc):
    whole = fit_bytes.activity(START, 500, header_crc=header_crc)
    fast = fit._decode(whole, False)
    monkeypatch.setattr(fit, "without_records", lambda part: None)
    full = fit._decode(whole, False)
    assert (fast.messages, fast.record_count, fast.apps, fast.decoder) == (
        full.messages,
        full.record_count,
        full.apps,
        full.decoder,
    )
    assert {name: column.tolist() for name, column in fast.records.items()} == {
        name: column.tolist() for name, column in full.records.items()
    }


@pytest.mark.parametrize(
    "broken",
    [
        lambda whole: whole[:-200],  # cut off
        lambda whole: whole[:-2] + b"\0\0",  # wrong sum
        lambda whole: whole[:60] + b"\x0d" + whole[61:],  # a message nobody defined
        lambda whole: whole[:300] + bytes([whole[300] ^ 0x40]) + whole[301:],
        lambda whole: whole[:13],
    ],
)
def test_damage_is_left_to_the_careful_decoder(broken):
    damaged = broken(fit_bytes.activity(START, 300))
    sequence = fit._decode(damaged, False)
    assert sequence.reason is not None
    assert sequence.decoder == "fitdecode"


def test_a_file_of_other_messages_is_left_alone():
    assert without_records(fit_bytes.activity(START, 0)) is None
    assert without_records(b"") is None


def test_a_message_that_takes_its_time_from_a_record_is_not_torn_from_it():
    body = fit_bytes.definition(0, 20, [(253, "I", 1)]) + fit_bytes.data(0, "I", STAMP)
    body += fit_bytes.definition(1, 21, [(0, "E", 1)]) + bytes([0x80 | 1 << 5 | (STAMP + 3) & 0x1F, 0])
    assert without_records(fit_bytes.wrap(body)) is None


@given(st.lists(st.sampled_from([0, 0, 0, 0, 1]), min_size=1, max_size=2_000))
def test_a_run_ends_at_the_first_other_header(heads):
    import numpy as np

    heads[0] = 0
    assert _run(np.array(heads, np.uint8), 0, 0xFF) == (heads.index(1) if 1 in heads else len(heads))


@pytest.mark.skipif(not REAL.is_dir(), reason="real device files are not beside the repository")
def test_real_files():
    examined = 0
    for path in sorted(REAL.glob("*.fit")):
        data = path.read_bytes()
        for start, end, is_short in fit._split(data)[0]:
            thin = None if is_short else without_records(data[start:end])
            if thin is None:
                continue
            try:
                told = fitfast.parse(data[start:end])
            except Exception:  # damaged: never read this way
                continue
            assert thin.records == len(told.pop("record"))
            assert fitfast.parse(thin.data) == told, path.name
            examined += 1
    assert examined >= 5
