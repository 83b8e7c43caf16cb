"""The generator: same seed same bytes, safe folders, nothing after the as-of instant, persons that cannot exist."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from simulation.generate import generate
from simulation.people import check_digits, uscc
from simulation.sizes import SIZES
from tests.unit.simulation import sent


def fingerprints(out: Path) -> dict[str, str]:
    files = [p for p in out.rglob("*") if p.is_file() and p.name != "tokens.json"]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_same_bytes_other_seed_other_bytes(tiny: Path, tmp_path: Path) -> None:
    generate("tiny", 7, tmp_path / "again", say=lambda _: None)
    first, again = fingerprints(tiny), fingerprints(tmp_path / "again")
    assert len(first) > 300
    assert first == again
    generate("tiny", 8, tmp_path / "again", say=lambda _: None)
    assert fingerprints(tmp_path / "again") != first


def test_finished_city_is_left_alone_and_foreign_data_is_never_removed(tiny: Path, tmp_path: Path) -> None:
    before = (tiny / "world.json").stat().st_mtime_ns
    said: list[str] = []
    world = generate("tiny", 7, tiny, say=said.append)
    assert (tiny / "world.json").stat().st_mtime_ns == before
    assert "already" in said[0]
    assert world["size"] == "tiny"
    (tmp_path / "drops").mkdir()
    (tmp_path / "drops/mine.csv").write_text("precious")
    with pytest.raises(FileExistsError, match="drops"):
        generate("tiny", 7, tmp_path, say=lambda _: None)
    assert (tmp_path / "drops/mine.csv").read_text() == "precious"


def test_unfinished_city_is_written_again(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "cut"
    generate("tiny", 7, out, say=lambda _: None)
    tokens = (out / "tokens.json").read_text()
    (out / "world.json").unlink()  # what a kill leaves: no completion mark, and half of the files
    (out / "drops/venue/entry/stray.ndjson").write_text("half")
    generate("tiny", 7, out, say=lambda _: None)
    assert fingerprints(out) == fingerprints(tiny)
    assert (out / "tokens.json").read_text() == tokens
    assert (out / "tokens.json").stat().st_mode & 0o077 == 0


def test_persons_cannot_exist_and_pass_the_check_digit(tiny: Path) -> None:
    rows = [json.loads(x) for x in sent.api(tiny, "checkins")]
    resident = [r["id_no"] for r in rows if r["id_type"] == "resident_id" and not r["checkin_id"].startswith("CKX")]
    assert len(resident) > 4_000
    weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
    for number in resident:
        assert "10X98765432"[sum(int(c) * w for c, w in zip(number, weights, strict=False)) % 11] == number[17]
        assert number[:2] == "99"
    assert all(19_900_000_000 <= int(r["phone"]) <= 19_909_999_999 for r in rows)


def test_check_digit_vectors_of_the_standards() -> None:
    import numpy as np

    assert check_digits(np.array(["11010519491231002", "99000019800101001"]))[0] == "X"
    from stdnum.cn import uscc as judge

    for number in (1, 77, 500_001):
        assert judge.is_valid(uscc(number))
        assert not judge.is_valid(uscc(number)[:-1] + ("0" if uscc(number)[-1] != "0" else "1"))


def test_nothing_happened_after_the_present(tiny: Path) -> None:
    as_of = json.loads((tiny / "world.json").read_text("utf-8"))["as_of"]
    for name, fields in (
        ("checkins", ("scanned_at", "updated_at")),
        ("bookings", ("created_at", "updated_at", "checked_in_at", "cancelled_at")),
    ):
        rows = [json.loads(x) for x in sent.api(tiny, name)]
        good = [r for r in rows if "X26" not in r[f"{name[:-1].replace('checkin', 'checkin')}_id"]]
        assert len(good) > 1_000
        assert not [r for r in good for f in fields if r[f] and r[f] > as_of]
    future = [r for r in rows if r["slot_start"] > as_of]
    assert future, "bookings of future slots exist"


def test_every_entry_leaves_the_same_day_before_closing(tiny: Path) -> None:
    closing = {u["场馆编码"]: u["关闭时间"] for u in sent.venues(tiny).values()}
    inside: dict[tuple[str, str], int] = {}
    rows = [r for r in sent.good_entries(tiny) if r["passed_at"] < "2026-11-20"]
    for r in rows:
        key = (r["venue_id"], r["passed_at"][:10])
        inside[key] = inside.get(key, 0) + (1 if r["direction"] == "in" else -1)
        assert r["passed_at"][11:16] <= closing[r["venue_id"]]
    assert len(inside) > 50
    assert set(inside.values()) == {0}


def test_no_court_is_booked_twice_at_once_and_no_person_scans_twice_at_a_venue(tiny: Path) -> None:
    first = {json.loads(x)["booking_id"]: json.loads(x) for x in sent.api(tiny, "bookings") if '"BKX' not in x}
    slots = [(r["unit_id"], r["slot_start"]) for r in first.values()]
    assert len(slots) > 1_000
    assert sent.repeated(slots) == 0
    scans = {json.loads(x)["checkin_id"]: json.loads(x) for x in sent.api(tiny, "checkins") if '"CKX' not in x}
    assert sent.repeated([(r["id_no"], r["venue_id"], r["scanned_at"][:10]) for r in scans.values()]) == 0


def test_sizes_agree_with_their_scale() -> None:
    assert SIZES["small"].demo_scale == 0.05
    assert SIZES["city"].demo_scale == 1.0
    assert SIZES["small"].first_date.isoformat() == "2026-08-23"
    assert SIZES["city"].shortened(9).days == 9
    with pytest.raises(ValueError, match="days"):
        SIZES["tiny"].shortened(11)
