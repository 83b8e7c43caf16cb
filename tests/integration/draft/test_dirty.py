"""A sample with a few dirty records drafts the contract that the clean one drafts, and names the records that would be refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from catalog import contracts
from ingestion import trial
from ingestion.drafting import Draft, draft

pytestmark = pytest.mark.integration

TITLE, HEAD, UNITS = "预约明细,,,,,", "预约编号,预约日期,费用,人数,联系电话,备注", ",,元,人,,"
SETTLED = ("decoder:", "partDate:", "dedup:", "physicalType:", "required:", "values:", "read")
CHANGED = 7
"""The record that is dirty, counted as the decoder does."""


def rows(count: int = 40) -> list[list[str]]:
    return [
        [
            f"B-{n:04d}",
            f"2026/11/{n % 28 + 1}",
            f"{1000 + n}.50",
            str(n) if n % 9 else '"1,201"',
            f"199{n:08d}",
            "无" if n % 3 else "",
        ]
        for n in range(1, count + 1)
    ]


def csv_of(lines: list[list[str]]) -> bytes:
    made = [
        ",".join(f'"{float(cell):,.2f}"' if at == 2 and cell.count(".") == 1 else cell for at, cell in enumerate(line))
        for line in lines
    ]
    return "\n".join([TITLE, HEAD, UNITS, *made, ""]).encode("gb18030")


def settled(found: Draft) -> list[str]:
    """What of a draft decides how the file is read."""
    return [line.strip() for line in found.text.splitlines() if any(word in line for word in SETTLED)]


def contract_of(found: Draft, tmp_path: Path) -> contracts.Contract:
    path = tmp_path / "sources" / "venue" / "sample.odcs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(found.text, encoding="utf-8")
    return contracts.read_contract(path)


def put(at: int, text: str):
    def change(lines: list[list[str]]) -> None:
        lines[CHANGED - 1][at] = text

    return change


DIRT = {
    "a fee in words": (put(2, "约三百"), "有 1 条不是数（第 7 条）", 39),
    "a fee in full width": (put(2, "1，250．00"), "有 1 条不是数（第 7 条）", 39),
    "a day that there is not": (put(1, "2026/11/31"), "有 1 条不是日期或时间（第 7 条）", 39),
    "no number": (put(0, ""), "1 条没有值", 39),
    "a record sent twice": (lambda lines: lines.append(lines[3]), None, 40),
    "a record sent twice with other content": (
        lambda lines: lines.append([*lines[3][:3], "99", *lines[3][4:]]), "1 条与别的记录编号相同而内容不同", 40,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIRT)
def test_one_dirty_record_changes_nothing_but_a_note(home, tmp_path, name):
    spoil, note, accepted = DIRT[name]
    clean = draft("venue.sample", "a.csv", csv_of(rows()))
    assert 'thousands: ","' in clean.text
    assert 'unitRow: {"费用": "元", "人数": "人"}' in clean.text
    assert "dedup: [booking_no]" in clean.text
    assert "unit: CNY" in clean.text
    lines = rows()
    spoil(lines)
    dirty = draft("venue.sample", "a.csv", csv_of(lines))
    assert settled(dirty) == settled(clean)
    assert note is None or any(note in text for text in dirty.notes), dirty.notes
    assert "约三百" not in dirty.text + "".join(dirty.notes), "no value of the file is shown"
    done = trial.run(contract_of(dirty, tmp_path), {"a.csv": csv_of(lines)})
    assert done.accepted == accepted
    assert done.decoded == len(lines)


def test_of_few_records_none_is_taken_for_dirt(home):
    lines = rows(12)
    lines[CHANGED - 1][2] = "约三百"
    found = draft("venue.sample", "a.csv", csv_of(lines))
    assert next(column.type for column in found.columns if column.source_name == "费用") == "VARCHAR"


def test_two_ways_in_equal_parts_stay_a_text(home):
    lines = rows()
    for line in lines[:20]:
        line[1] = f"{line[1].replace('/', '年', 1).replace('/', '月')}左右"
    found = draft("venue.sample", "a.csv", csv_of(lines))
    assert next(column.type for column in found.columns if column.source_name == "预约日期") == "VARCHAR"


def test_a_phone_tells_persons_apart_and_not_records(home):
    content = "日期,电话,姓名\n" + "".join(f"2026-11-{n % 5 + 1:02d},199{n:08d},王测{n}\n" for n in range(30))
    found = draft("venue.sample", "a.csv", content.encode())
    assert "dedup: [phone" not in found.text
    assert any("没有找到能区分记录的列" in note for note in found.notes)
    assert found.text.count("required: true") == 1, "only the date: that a column is in the key says nothing of it"


def records(count: int = 40) -> list[dict]:
    return [
        {"no": f"M{n:03d}", "on": f"2026-11-{n % 28 + 1:02d}", "technician": {"name": "王测试", "phone": f"199{n:08d}"}, "parts": [{"name": "螺栓", "n": n}]}
        for n in range(count)
    ]  # fmt: skip


def test_names_and_numbers_inside_records_are_protected_and_tried(home, tmp_path):
    content = "".join(json.dumps(item) + "\n" for item in records()).encode()
    contract = contract_of(draft("venue.sample", "a.ndjson", content), tmp_path)
    inside = {prop.path: prop.identifier_kind for prop in contract.root.properties if prop.path}
    assert inside == {"/technician/name": "name", "/technician/phone": "phone"}
    assert next(prop.name for prop in contract.lists[0].properties if prop.source_name) != "person_name"
    done = trial.run(contract, {"a.ndjson": content})
    assert (done.decoded, done.accepted) == (40, 40)


@pytest.mark.parametrize("odd", [{"technician": "王测"}, {"parts": "螺栓"}])
def test_one_record_of_another_shape_is_refused_and_named(home, tmp_path, odd):
    made = records()
    made[CHANGED - 1] |= odd
    content = "".join(json.dumps(item) + "\n" for item in made).encode()
    found = draft("venue.sample", "a.ndjson", content)
    assert any(f"第 {CHANGED} 条记录无法读取" in note for note in found.notes), found.notes
    done = trial.run(contract_of(found, tmp_path), {"a.ndjson": content})
    assert (done.decoded, done.accepted, done.quarantined) == (40, 39, 1)
