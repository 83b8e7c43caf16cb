"""An identity number where the contract says there is none stops the batch; the object never gets in, the others do."""

from __future__ import annotations

import csv
import io
import json

import duckdb
import pyarrow.parquet as pq
import pytest

from catalog import contracts
from ingestion import leaks, replay
from ingestion.run import ingest
from lake import ledger, tables
from lake.errors import TiyuError

pytestmark = pytest.mark.integration

ID_NO = "990101199003071237"  # 990101 is no region; the check character is right
TABLE = "ods_venue__register"


def register(city) -> list[list[str]]:
    """Header and rows of one delivered register."""
    path = sorted((city.folder / "drops").rglob("场馆登记_*.csv"))[0]
    return list(csv.reader(io.StringIO(path.read_bytes().decode("gb18030"))))


def deliver(path, rows) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    path.write_bytes(text.getvalue().encode("gb18030"))


@pytest.fixture
def drop(home, city, tmp_path):
    """A clean register of yesterday beside one of today that carries a number among the opening times."""
    folder = tmp_path / "drop"
    folder.mkdir()
    header, *rows = register(city)
    deliver(folder / "场馆登记_clean.csv", [header, *rows[:10]])
    leaking = [list(row) for row in rows[10:16]]
    leaking[2][header.index("街镇")] = f"联系本人{ID_NO[:6]} {ID_NO[6:]}"
    deliver(folder / "场馆登记_leak.csv", [header, *leaking])
    return folder


def test_the_batch_stops_then_goes_on_without_the_object(home, drop):
    with pytest.raises(TiyuError, match="TIYU-ING-0020") as stopped:
        ingest("venue.register", drop)
    context = stopped.value.context
    assert (context["column"], context["records"], context["object_count"]) == ("street_name（街镇）", 1, 1)
    assert not tables.exists(TABLE), "nothing of the batch was stored"
    (batch,) = ledger.batches("venue.register")
    assert batch["status"] == "archived"
    assert {a["rule_code"] for a in ledger.alerts("open")} == {"IN-02"}

    report = ingest("venue.register", drop)
    assert [r.code for r in report.refusals] == ["TIYU-ING-0021"]
    assert report.accepted >= 8, "the rows of the other object, less those that are bad anyway"
    assert report.decoded == 11 == report.accepted + report.quarantined + report.duplicate
    assert {a["rule_code"] for a in ledger.alerts("open")} == {"IN-01"}
    assert ingest("venue.register", drop).status == "nothing_new"
    searched = 0
    for path in home.rglob("*"):
        if path.is_file() and "archive" not in path.relative_to(home).parts:
            text = path.read_bytes().decode("utf-8", "replace")
            if path.suffix == ".parquet":
                text += json.dumps(pq.read_table(path, partitioning=None).to_pylist(), ensure_ascii=False, default=str)
            assert ID_NO not in text, path.name
            assert f"{ID_NO[:6]} {ID_NO[6:]}" not in text, path.name
            searched += 1
    assert searched > 10


def test_a_refused_object_cannot_be_replayed_while_the_contract_says_so(home, drop):
    with pytest.raises(TiyuError, match="TIYU-ING-0020"):
        ingest("venue.register", drop)
    report = ingest("venue.register", drop)
    rows = tables.version(TABLE)
    again = replay.replay("venue.register", [report.batches[0].batch_id])
    assert again.examined >= 1
    assert again.accepted == 0
    assert tables.version(TABLE) == rows


def test_a_clean_delivery_is_examined_and_passes(home, city, tmp_path):
    header, *rows = register(city)
    deliver(tmp_path / "场馆登记_1.csv", [header, *rows[:20]])
    report = ingest("venue.register", tmp_path)
    looked = {rule: n for rule, n in report.batches[0].rules_examined.items() if rule.endswith("detected.id_no")}
    assert len(looked) == len(leaks.free_columns(contracts.load("venue.register").root))
    assert looked["venue.register.street_name.detected.id_no"] == report.accepted + report.duplicate > 15
    assert not [rule for rule in report.batches[0].warned_by_rule if ".detected." in rule]


def test_what_only_warns_is_counted_and_an_expected_item_is_not():
    obj = contracts.load("venue.register").root
    con = duckdb.connect()
    con.execute(
        "create table t as select 'o' as _source_object, i as _record_no, '电话19977665544' as street_name, "
        "'某某路12号' as address from range(5) r(i)"
    )
    found = leaks.look(con, "t", obj, None)
    assert found.leaks == []
    assert found.warned == {"venue.register.street_name.detected.phone": 5}


PHONE, NAME = "19909987341", "阙雀丝"


def test_a_phone_and_a_name_in_a_free_text_are_hidden_before_they_are_stored(home, city, tmp_path, monkeypatch):
    header, *rows = register(city)
    contact, street, place = header.index("联系人"), header.index("街镇"), header.index("地址")
    rows = [list(row) for row in rows[:20] if len(row) == len(header)]
    rows[3][contact], rows[3][street], rows[3][place] = NAME, f"找{NAME}", f"某路 1 号，电话 {PHONE}"
    rows[4][street] = f"{NAME}的隔壁"  # the name is known from another row
    rows[5][header.index("单元编码")] = f"U-{PHONE}"
    deliver(tmp_path / "场馆登记_1.csv", [header, *rows])
    report = ingest("venue.register", tmp_path)
    counted = report.batches[0]
    hidden = {rule: n for rule, n in counted.warned_by_rule.items() if rule.endswith(".detected.hidden")}
    assert hidden == {"venue.register.street_name.detected.hidden": 2, "venue.register.address.detected.hidden": 1}
    examined = [n for rule, n in counted.rules_examined.items() if rule.endswith(".detected.hidden")]
    assert len(examined) == len(leaks.text_columns(contracts.load("venue.register").root)) > 3
    assert max(examined) >= report.accepted
    stored = _texts(home)
    assert f"找{leaks.freetext.GONE}" in stored
    assert NAME not in stored
    assert PHONE not in stored

    monkeypatch.setattr(leaks.freetext, "hidden", lambda texts: texts)
    rows[3][header.index("单元编码")] = rows[3][header.index("单元编码")][:-2] + "91"
    deliver(tmp_path / "场馆登记_2.csv", [header, rows[3]])
    ingest("venue.register", tmp_path)
    assert PHONE in _texts(home), "it is this that keeps it out"


def _texts(home) -> str:
    """Every value of every file of the lake."""
    return "".join(
        json.dumps(pq.read_table(path, partitioning=None).to_pylist(), ensure_ascii=False, default=str)
        for path in sorted((home / "lake").rglob("*.parquet"))
    )


def test_a_key_that_is_a_phone_number_refuses_the_record(home, city, tmp_path):
    header, *rows = register(city)
    deliver(tmp_path / "场馆登记_1.csv", [header, *rows])
    ingest("venue.register", tmp_path)
    ledger.set_checked_version(TABLE, tables.version(TABLE), "test")
    folder = tmp_path / "entries"
    folder.mkdir()
    source = sorted((city.folder / "drops").rglob("entry_*.ndjson"))[-1]
    first, *rest = source.read_text("utf-8").splitlines()[:20]
    named = json.dumps({**json.loads(first), "device_id": f"门 {PHONE}"}, ensure_ascii=False)
    (folder / source.name).write_text("\n".join([named, *rest]) + "\n", "utf-8")
    report = ingest("venue.entry", folder)
    refused = report.batches[0].quarantined_by_rule
    assert refused.get("venue.entry.device_id.detected.contact") == 1, refused
    assert report.accepted >= 10
    assert PHONE not in _texts(home)
