"""A source may deliver anything: names, headers and fields that hold persons, and files made to break the reader."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zipfile
from types import SimpleNamespace

import duckdb
import pyarrow.parquet as pq
import pytest
import xlsxwriter

from catalog import contracts
from catalog.contracts.value_options import ColumnValues
from ingestion import conversion, decoders, naming, run
from ingestion.connectors import FetchedObject, create
from ingestion.decoders import activity
from ingestion.decoders.activity.xml import read_xml
from ingestion.run import ingest
from lake.errors import TiyuError
from protection import masking

pytestmark = pytest.mark.policy

PHONE, ID_NO, NAME, ATHLETE = "19977665544", "310101199003071994", "欧阳探针", "SHA987654"
CANARIES = (PHONE, ID_NO, NAME, ATHLETE)


def deliver(path, header, *rows):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    path.write_bytes(text.getvalue().encode("gb18030"))


def seen_outside_the_archive(home):
    """Every canary in any byte, Parquet decoded, outside the sealed archive; and how many files were searched."""
    found, searched = [], 0
    for path in home.rglob("*"):
        if not path.is_file() or "archive" in path.relative_to(home).parts:
            continue
        searched += 1
        text = path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".parquet":
            text += json.dumps(pq.read_table(path, partitioning=None).to_pylist(), ensure_ascii=False, default=str)
        found += [(path.name, word) for word in CANARIES if word in text or json.dumps(word)[1:-1] in text]
    return found, searched


def test_persons_in_wrong_places_are_written_nowhere(home, tmp_path):
    drop = tmp_path / "drop"
    drop.mkdir()
    header = [p.source_name for p in contracts.load("venue.register").root.properties if p.source_name and not p.derive]
    shifted = [PHONE, NAME, ID_NO, *["x"] * (len(header) - 3)]
    deliver(drop / f"场馆登记_{PHONE}_{ID_NO}.csv", header, shifted)
    deliver(drop / "场馆登记_2.csv", [*header, PHONE, NAME], [*shifted, "a", "b"])
    report = ingest("venue.register", drop)
    assert report.quarantined == 2
    assert not [word for word in CANARIES if word in repr(report)]
    found, searched = seen_outside_the_archive(home)
    assert searched > 3
    assert not found


def test_a_sound_row_keeps_its_preview(home, tmp_path):
    header = [p.source_name for p in contracts.load("venue.register").root.properties if p.source_name and not p.derive]
    drop = tmp_path / "drop"
    drop.mkdir()
    deliver(drop / "场馆登记_1.csv", header, ["2026-13-01", "V310101-001", *["x"] * (len(header) - 2)])
    assert ingest("venue.register", drop).quarantined == 1
    text = "".join(
        str(pq.read_table(path, partitioning=None).to_pylist())
        for path in home.rglob("ops_ingest__quarantine/**/*.parquet")
    )
    assert "V310101-001" in text


@pytest.mark.parametrize(
    "name",
    [
        f"training/activity/{ATHLETE}/run.gpx",
        f"training/activity/{ATHLETE}/{ATHLETE}_{NAME}_{PHONE}.gpx",
        f"training/activity/{ATHLETE}/2026/run.gpx",
        f"training/activity/{ATHLETE.lower()}/run.gpx",
        f"training/activity/SHA000001/{ID_NO}.gpx",
        f"training/activity/{NAME}.gpx",
    ],
)
def test_no_identifier_stays_in_an_object_name(home, name):
    stored = naming.protect_name(contracts.load("training.activity"), name)
    assert not [word for word in CANARIES if word.lower() in stored.lower()]
    assert stored.endswith(".gpx")


def test_different_names_stay_different_and_ordinary_names_stay(home):
    water = contracts.load("supervision.water_reading")
    assert len({naming.protect_name(water, f"water_1380013800{n}.csv") for n in range(10)}) == 10
    for name in (
        "supervision/water_reading/20261120/water_20261120_14.csv",
        "a_20261120143000123.csv",
        "场馆登记_1.csv",
    ):
        assert naming.protect_name(water, name) == name


def test_only_the_folder_of_the_path_names_the_athlete(home):
    contract = contracts.load("training.activity")
    stored = naming.protect_name(contract, f"{ATHLETE}/SHA000002_x.gpx")
    alone = naming.protect_name(contract, f"{ATHLETE}/x.gpx")
    assert naming.token_in_name("athlete_no", stored) == naming.token_in_name("athlete_no", alone) is not None
    assert naming.token_in_name("athlete_no", naming.protect_name(contract, f"{ATHLETE}/deep/x.gpx")) is None


def test_hostile_file_names_are_listed_and_links_are_not(tmp_path):
    folder = os.fsencode(tmp_path)
    for name in (b"a_\xff\xfe.csv", b"b\nINFO forged line.csv", b"c'; drop table objects;--.csv"):
        with open(folder + b"/" + name, "wb") as file:
            file.write(b"x")
    (tmp_path / "d.csv").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "e.csv")
    options = {"kind": "file_drop", "path": ".", "settle_seconds": 0}
    found = list(create(options, f"file://{tmp_path}", lambda signature: False).fetch({}, max_bytes=1000))
    assert [item.name for item in found] == [
        "a_\\xff\\xfe.csv",
        "b\\nINFO forged line.csv",
        "c'; drop table objects;--.csv",
    ]
    assert all(item.open().read() == b"x" and item.signature.encode() for item in found)


def test_a_file_replaced_by_a_link_after_listing_is_not_followed(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"x")
    (item,) = create({"kind": "file_drop"}, f"file://{tmp_path}", lambda signature: False).fetch({}, max_bytes=9)
    (tmp_path / "a.csv").unlink()
    (tmp_path / "a.csv").symlink_to("/etc/passwd")
    with pytest.raises(TiyuError, match="TIYU-ING-0111"):
        item.open()


def test_an_object_that_cannot_be_opened_is_named_as_it_may_be_written_down(home):
    """The connector knows only what the file is called; what reaches logs and ledger is the protected name."""

    def gone():
        raise TiyuError("TIYU-ING-0111", "数据文件读取失败", object=f"{NAME}.gpx")

    item = FetchedObject(f"{ATHLETE}/{NAME}_{PHONE}.gpx", "x", 1, gone)
    with (
        pytest.raises(TiyuError, match="TIYU-ING-0111") as caught,
        run._opened(contracts.load("training.activity"), item),
    ):
        pass
    for value in (ATHLETE, NAME, PHONE):
        assert value not in str(caught.value)
    assert str(caught.value.context["object"]).endswith(".gpx")


@pytest.mark.parametrize("creator", [f"{NAME}的手表", "Ouyang's Watch", f"GPS {PHONE}"])
def test_a_device_name_that_its_owner_gave_is_not_kept(creator):
    gpx = '<gpx creator="{}"><trk><trkseg><trkpt lat="31" lon="121"><time>2026-11-19T01:00:00Z</time></trkpt></trkseg></trk></gpx>'
    assert read_xml(gpx.format(creator).encode(), "gpx").activities[0].device_product is None
    assert (
        read_xml(gpx.format("Garmin Forerunner 945").encode(), "gpx").activities[0].device_product
        == "Garmin Forerunner 945"
    )


def test_a_track_that_unpacks_to_too_much_is_not_read(monkeypatch):
    monkeypatch.setattr(activity, "MAX_XML_BYTES", 1000)
    packed = gzip.compress(b"<gpx><trk><trkseg>" + b'<trkpt lat="1" lon="2"/>' * 100 + b"</trkseg></trk></gpx>")
    decoded = activity.decode_chunk({}, [("a" * 64, "x.gpx.gz", packed)])
    assert [issue.rule_id for issue in decoded.issues] == ["decode.too_large"]
    assert decoded.root_count == 1


@pytest.mark.parametrize("part", ["xl/worksheets/sheet1.xml", "xl/hidden.xml"])
def test_a_sheet_with_two_cells_far_apart_is_refused(part):
    """The reader would lay out 17 billion cells and end the process, again at every later run."""
    made = io.BytesIO()
    with xlsxwriter.Workbook(made) as book:
        book.add_worksheet("赛事填报").write(0, 0, "a")
    bomb = io.BytesIO()
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(bomb, "w") as target:
        for item in source.infolist():
            data = source.read(item)
            if item.filename == "xl/worksheets/sheet1.xml":
                data = data.replace(
                    b"</sheetData>", b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
                )
                target.writestr(part, data)
                continue
            target.writestr(item.filename, data.replace(b"worksheets/sheet1.xml", part[3:].encode()))
    contract = contracts.load("event.filing")
    with pytest.raises(TiyuError, match="TIYU-ING-0216"):
        decoders.decode(
            contract.server, bomb.getvalue(), object_name="x.xlsx", object_sha256="a" * 64, contract=contract
        )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PHONE, True),
        (f"x{ID_NO}y", True),
        ("１９９７７６６５５４４", True),
        ("199 7766 5544", True),
        ("20261120143000", False),
        ("1763600000000", False),
        ("91310000775785552L", False),
        ("V310112-001-U01", False),
    ],
)
def test_both_spellings_of_the_number_search_agree(text, found):
    import polars as pl

    assert bool(masking.personal_numbers(text)) is found
    assert pl.select(masking.has_personal_number(pl.lit(text))).item() is found


def test_a_value_not_written_like_its_kind_is_masked_whole():
    import polars as pl

    frame = pl.DataFrame({"v": [f"{NAME} {PHONE}", PHONE]})
    assert frame.select(masking.masked("phone", pl.col("v")))["v"].to_list() == ["***", "199****5544"]


@pytest.mark.parametrize("moment", ["4000-01-01 (BC) 00:00:00+00:00", "infinity+00:00", "-infinity+00:00", "0001-01-01 00:00:00", "290000-01-01 00:00:00+00:00"])  # fmt: skip
def test_a_date_beyond_history_is_quarantined_and_does_not_stop_the_source(home, tmp_path, moment):
    drop = tmp_path / "drop"
    drop.mkdir()
    header = [p.source_name for p in contracts.load("venue.register").root.properties if p.source_name and not p.derive]
    deliver(drop / "场馆登记_1.csv", header, [moment, "V310101-001", *["x"] * (len(header) - 2)])
    assert ingest("venue.register", drop).quarantined == 1
    con = duckdb.connect()
    for kind in ("DATE", "TIMESTAMPTZ"):
        prop = SimpleNamespace(source_name="t", protection=None, code_list=None, type=kind, read=ColumnValues())
        for text, good in ((moment, False), ("2026-11-20 08:00:00", True)):
            con.execute('create or replace table r as select ? as "s::t"', [text])
            (found,) = con.execute(f"select ({conversion.expression(prop)}) is not null from r").fetchone()
            assert found is good
