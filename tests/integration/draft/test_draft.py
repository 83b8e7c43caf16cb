"""`tiyu contract draft` on twenty unlike files: at most five lines edited in eighteen of them, no cell changed, refusals explained."""

from __future__ import annotations

import difflib
import json
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from catalog import contracts
from ingestion import decoders, split, trial
from ingestion.drafting import Draft, draft
from lake.errors import TiyuError

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
EXPECTED = json.loads((HERE / "expected.json").read_text("utf-8"))
NAMES = sorted(EXPECTED)
#: What a person changes in the draft of a file: text → text, a line each.
EDITS: dict[str, list[tuple[str, str]]] = {}
MOST_EDITS, EASY_FILES = 5, 18


@cache
def drafted(name: str) -> Draft:
    return draft("venue.sample", name, content_of(name))


def content_of(name: str) -> bytes:
    return (HERE / "files" / name).read_bytes()


def edited(name: str) -> tuple[str, int]:
    """The contract after a person's edits, and how many lines of the draft these changed."""
    before = drafted(name).text
    after = before
    for old, new in EDITS.get(name, []):
        assert after.count(old) == 1, f"{name}: {old!r} is not there once"
        after = after.replace(old, new)
    changed = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith("+ ")]
    return after, len(changed)


def contract_of(tmp_path: Path, text: str) -> contracts.Contract:
    path = tmp_path / "sources" / "venue" / "sample.odcs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return contracts.read_contract(path)


def shown(value: object) -> str | None:
    """A typed cell in the canonical text of expected.json."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_arrives_as_it_was_meant(home, tmp_path, name):
    text, edits = edited(name)
    assert edits <= MOST_EDITS
    contract = contract_of(tmp_path, text)
    assert contract.server is not None
    decoded = decoders.decode(
        contract.server, content_of(name), object_name=name, object_sha256="o" * 64, contract=contract
    )
    table = decoded.tables[contract.root.table]
    table = (
        table.append_column("_source_object", [["o" * 64] * table.num_rows])
        if "_source_object" not in table.column_names
        else table
    )
    con = split.connect_for(contract)
    outcome = split.split_text(con, contract, table)
    accepted = pl.DataFrame(outcome.accepted)
    accepted = accepted.sort("_record_no")
    by_source = {prop.source_name: prop for prop in contract.root.properties if prop.source_name}
    wanted = dict(EXPECTED[name]["columns"])
    assert set(by_source) == set(wanted)
    cells = 0
    for source_name, column in wanted.items():
        prop = by_source[source_name]
        assert prop.type == column["type"], source_name
        series = accepted[prop.name]
        if prop.type == "TIMESTAMPTZ":
            series = series.dt.convert_time_zone("Asia/Shanghai")
        assert [shown(value) for value in series.to_list()] == column["values"], source_name
        cells += len(column["values"])
    assert cells == len(wanted) * accepted.height
    assert len(decoded.issues) == len(EXPECTED[name]["refused"])
    assert pl.DataFrame(outcome.refused).height == 0
    for issue in decoded.issues:
        assert len(issue.reason_zh) >= 8, "a refusal says why"


def test_eighteen_of_twenty_need_at_most_five_lines():
    easy = [name for name in NAMES if edited(name)[1] <= MOST_EDITS]
    assert len(NAMES) == 20
    assert len(easy) >= EASY_FILES, sorted(set(NAMES) - set(easy))


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "TIYU-DRF-0002"), (b"\x7fELF\x00\x01\x02" * 50, "TIYU-DRF-0001"), (b'{"a": [1, 2', "TIYU-DRF-0001"), (b"1,2,3\n4,5,6\n", "TIYU-DRF-0002")],
)  # fmt: skip
def test_what_is_no_table_is_said(content, code):
    with pytest.raises(TiyuError, match=code):
        draft("venue.sample", "sample.bin", content)


@pytest.mark.parametrize(
    ("column", "values", "note"),
    [
        ("held", ["03/04/2026", "05/06/2026"], "两种读法"),
        ("amount", ["1.204", "2.500"], "千分位"),
        ("serial", ["1234567890123456789012", "1234567890123456789013"], "超过 18 位"),
        ("state", ["N/A", "open"], "按原文保留"),
    ],
)
def test_what_two_readings_would_make_two_values_stays_a_text(column, values, note):
    content = f"id,{column}\n" + "".join(f"A{n},{value}\n" for n, value in enumerate(values))
    found = draft("venue.sample", "sample.csv", content.encode())
    profile = next(item for item in found.columns if item.source_name == column)
    assert profile.type == "VARCHAR"
    assert any(note in text for text in found.notes), found.notes


def test_persons_are_protected_from_the_first_draft_on(home, tmp_path):
    rows = "".join(f"王测试,1{n}9{n:08d},99010119900307{n:03d}X\n" for n in range(3, 9))
    text = draft("fitness.sample", "members.csv", f"姓名,手机号,身份证号\n{rows}".encode()).text
    path = tmp_path / "sources" / "fitness" / "sample.odcs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    contract = contracts.read_contract(path)
    kinds = {
        prop.source_name: (prop.identifier_kind, prop.protection, prop.grade >= "L3", prop.pi_mark != "N")
        for prop in contract.root.properties
    }
    assert kinds["姓名"] == ("name", "mask", True, True)
    assert kinds["手机号"] == ("phone", "token", True, True)
    assert kinds["身份证号"] == ("id_no", "token", True, True)
    for value in ("王测试", "99010119900307"):
        assert value not in text, "no value of a person stands in a draft"


def test_a_name_outside_the_grammar_is_refused():
    with pytest.raises(TiyuError, match="TIYU-DRF-0003"):
        draft("venues.Sample", "a.csv", b"a,b\n1,2\n")


def test_a_draft_from_an_address_is_kept_once_and_satisfies_its_file(home, tmp_path):
    """What `tiyu contract draft` writes is what `tiyu contract test` accepts; a file is never written over."""
    import http.server
    import threading

    from ingestion import trial
    from ingestion.drafting import fetch, keep

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *values, **options):
            super().__init__(*values, directory=str(HERE / "files"), **options)

        def log_message(self, *_):
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        name, content = fetch(f"{address}/01_lanes.csv")
        assert (name, content) == ("01_lanes.csv", content_of("01_lanes.csv"))
        with pytest.raises(TiyuError, match="TIYU-DRF-0004"):
            fetch(f"{address}/nothing.csv")
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(TiyuError, match="TIYU-DRF-0004"):
        fetch(str(tmp_path / "nothing.csv"))
    path = keep(draft("venue.lane", name, content), "venue.lane", tmp_path)
    done = trial.run(contracts.read_contract(path, anywhere=True), trial.read_samples([HERE / "files" / name]))
    assert (done.ok, done.decoded, done.accepted) == (True, 4, 4)
    with pytest.raises(TiyuError, match="TIYU-DRF-0006"):
        keep(draft("venue.lane", name, content), "venue.lane", tmp_path)


# ------------------------------------------------------------------ nested records
def orders(*more: dict) -> bytes:
    records = [
        {"no": f"O{n}", "on": f"2026-03-0{n}", "buyer": {"city": "甲", "at": {"lng": 121.5}}, "tags": ["a"],
         "per": {f"M{n}": 1, f"N{n}": 2, f"K{n}": 3}, "lines": [{"sku": f"S{n}{k}", "price": {"amount": n + k / 4}} for k in range(n)]}
        for n in range(1, 5)
    ]  # fmt: skip
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in [*records, *more]).encode()


def test_objects_become_columns_and_lists_of_objects_tables(home, tmp_path):
    found = draft("venue.sample", "orders.ndjson", orders())
    contract = contract_of(tmp_path, found.text)
    paths = {prop.source_name: prop.path for prop in contract.root.properties if prop.path}
    assert paths == {"buyer.city": "/buyer/city", "buyer.at.lng": "/buyer/at/lng"}
    (lines,) = contract.lists
    assert (lines.items, lines.parent_key, lines.dedup) == ("/lines", ["no_value"], ["no_value", "item_no"])
    assert [(prop.name, prop.path, prop.type) for prop in lines.properties if prop.source_name] == [
        ("sku", None, "VARCHAR"),
        ("price_amount", "/price/amount", "DOUBLE"),
    ]
    said = "\n".join(found.notes)
    assert "“tags”里是对象或列表" in said
    assert "“per”里是对象或列表" in said, "an object whose members are names of things is no set of columns"
    assert "列表 /lines 拆成子表" in said


def test_a_drafted_nested_contract_takes_its_file_in(home, tmp_path):
    found = draft("venue.sample", "orders.ndjson", orders())
    done = trial.run(contract_of(tmp_path, found.text), {"orders.ndjson": orders()})
    assert done.ok, done
    assert (done.decoded, done.accepted) == (4, 4)
    sku = next(column for column in done.columns if column.column == "sample_lines.sku")
    assert (sku.rows, sku.filled, sku.distinct) == (10, 10, 10)


@pytest.mark.parametrize(
    "odd",
    [
        {"no": "O9", "on": "2026-03-09", "buyer": "a text", "lines": {"not": "a list"}},
        {"no": "O9", "on": "2026-03-09", "buyer": ["a"], "lines": [1]},
    ],
)
def test_where_records_disagree_the_text_stays(home, tmp_path, odd):
    found = draft("venue.sample", "orders.ndjson", orders(odd))
    contract = contract_of(tmp_path, found.text)
    assert not contract.lists
    assert not [prop for prop in contract.root.properties if prop.path]
    assert trial.run(contract, {"orders.ndjson": orders(odd)}).accepted == 5


def test_without_a_key_lists_stay_text(home, tmp_path):
    record = {"on": "2026-03-01", "city": "甲", "district": "乙", "lines": [{"sku": "S"}]}
    content = (json.dumps(record) + "\n").encode() * 3
    found = draft("venue.sample", "orders.ndjson", content)
    contract = contract_of(tmp_path, found.text)
    assert len(contract.root.dedup) > 2
    assert not contract.lists
    assert any("未拆成子表" in note for note in found.notes)


def test_a_member_called_like_a_path_is_told_apart(home, tmp_path):
    content = b'{"a.b":"1x","a":{"b":"2x"}}\n{"a.b":"3x","a":{"b":"4x"}}\n'
    contract = contract_of(tmp_path, draft("venue.sample", "a.ndjson", content).text)
    assert {prop.source_name: prop.path for prop in contract.root.properties if prop.source_name} == {
        "a.b": None,
        "a.b_": "/a/b",
    }


def test_without_a_date_elements_take_over_the_day_of_arrival(home, tmp_path):
    content = b'{"code":"A","lines":[{"x":1}]}\n{"code":"B","lines":[{"x":2},{"x":3}]}\n'
    contract = contract_of(tmp_path, draft("venue.sample", "a.ndjson", content).text)
    assert contract.lists[0].dedup == ["code", "delivered_on", "item_no"]
    assert trial.run(contract, {"a.ndjson": content}).accepted == 2
