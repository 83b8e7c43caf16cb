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
