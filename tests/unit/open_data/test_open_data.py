"""Open data: disclosure boundary, immutable versions, files that other tools read."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import openpyxl
import polars as pl
import pytest

from catalog.policy import Facet
from lake import ledger, properties
from lake.errors import TiyuError
from sharing import outputs
from sharing.open_data import build, charts, completeness, disclosure, formats, versions
from sharing.outputs import Column
from tests.unit.open_data import synthetic

DIRECTORY, VISITS = synthetic.specs()


OPEN = Facet("L1", "N", None)


def tree(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(root.rglob("*")) if p.is_file()
    }


def latest(home: Path, name: str) -> Path:
    return home / "open" / name / "latest"


def test_publishing_again_changes_nothing(home):
    first = build.build_open_data()
    assert [d.action for d in first.datasets] == ["published", "published"]
    before = tree(home / "open")
    second = build.build_open_data()
    assert [d.action for d in second.datasets] == ["unchanged", "unchanged"]
    assert second.pages_written == 0
    assert tree(home / "open") == before
    assert len(before) > 30


def test_a_new_version_leaves_the_old_one_alone(home, monkeypatch):
    build.build_open_data()
    old = versions.published("daily_visits")[0]
    before = tree(home / "open" / "daily_visits" / old["version"])
    monkeypatch.setenv("TIYU_TODAY", "2026-11-21")
    frame = synthetic.visits_frame(31, synthetic.date(2026, 11, 20))
    changed = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 40)
        .then(pl.col("visit_count") + 1)
        .otherwise(pl.col("visit_count"))
        .alias("visit_count")
    )
    synthetic.put(synthetic.VISITS, changed)
    report = build.build_open_data()
    assert [d.action for d in report.datasets] == ["unchanged", "published"]
    published = versions.published("daily_visits")
    assert published[0]["version"] == old["version"]
    assert published[1]["changes"]["added"] == 16
    assert published[1]["changes"]["removed"] == 0
    assert tree(home / "open" / "daily_visits" / old["version"]) == before
    assert os.readlink(latest(home, "daily_visits")) == published[1]["version"]
    assert len(ledger.dataset_versions("daily_visits")) == 2
    page = (home / "open" / "daily_visits" / "index.html").read_text(encoding="utf-8")
    assert all(v["version"] in page for v in published)
    assert "新增 16 行" in (latest(home, "daily_visits") / "CHANGELOG.md").read_text(encoding="utf-8")


def test_content_that_goes_back_is_a_version_of_its_own(home):
    build.build_open_data()
    synthetic.put(synthetic.DIRECTORY, synthetic.directory_frame(59))
    build.build_open_data()
    synthetic.put(synthetic.DIRECTORY, synthetic.directory_frame(60))
    build.build_open_data()
    published = versions.published("venue_directory")
    assert len(published) == 3
    assert published[2]["version"] == published[0]["version"] + "-2"
    assert [v["changes"]["added"] for v in published] == [60, 0, 1]


FRESHNESS = {"title": "一码健身入场", "state": "late", "is_missing": True}


def freshness(*rows: dict[str, object]) -> None:
    """Fill the freshness table as the platform does, one row a source, and let it pass."""
    synthetic.put("ops_ingest__freshness", pl.DataFrame([{**FRESHNESS, **row} for row in rows]))


def test_a_version_made_without_a_source_says_so_and_is_followed_by_a_whole_one(home):
    freshness({"resource": "fitness.checkin"}, {"resource": "event.filing", "title": "赛事备案"})
    build.build_open_data()
    directory, (visits,) = versions.published("venue_directory"), versions.published("daily_visits")
    assert visits["missing_sources"] == ["一码健身入场"], "event.filing is no source of this dataset"
    assert directory[0]["missing_sources"] == []
    note = "未收到「一码健身入场」的最新数据，本版本不完整"
    folder = latest(home, "daily_visits")
    for name in ("CHANGELOG.md", "index.html", "datapackage.json", "dcat.jsonld", "../index.html"):
        assert note in (folder / name).read_text(encoding="utf-8"), name
    cells = openpyxl.load_workbook(folder / "daily_visits.xlsx").worksheets
    assert any(note in str(cell.value) for sheet in cells for row in sheet.iter_rows() for cell in row)
    assert note not in (home / "open" / "venue_directory" / "index.html").read_text(encoding="utf-8")
    assert "缺 一码健身入场" in (home / "open" / "index.html").read_text(encoding="utf-8")

    freshness({"resource": "fitness.checkin", "state": "fresh", "is_missing": False})
    assert [d.action for d in build.build_open_data().datasets] == ["unchanged", "published"]
    first, second = versions.published("daily_visits")
    assert (first["missing_sources"], second["missing_sources"]) == (["一码健身入场"], [])
    assert (second["changes"]["added"], second["changes"]["changed"]) == (0, 0)
    page = (home / "open" / "daily_visits" / "index.html").read_text(encoding="utf-8")
    assert page.count(note) == 1, "in the list of versions only"
    assert note not in (latest(home, "daily_visits") / "datapackage.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("missing", [True, False])
def test_a_source_is_missing_when_its_freshness_says_so(home, missing):
    """Whether it is late or failed does not matter here: the rule stands in `quality.ops.is_missing`."""
    freshness({"resource": "venue.entry", "state": "fresh" if missing else "failed", "is_missing": missing})
    assert completeness.missing_sources(list(synthetic.specs()))["daily_visits"] == (
        ["一码健身入场"] if missing else []
    )


def test_a_version_from_before_the_field_existed_is_read_as_whole(home):
    build.build_open_data()
    folder = latest(home, "daily_visits").resolve()
    old = json.loads((folder / "version.json").read_text(encoding="utf-8"))
    del old["missing_sources"]
    (folder / "version.json").write_bytes(formats.pretty(old))
    listed = [
        path
        for path in sorted(folder.iterdir())
        if path.name not in ("checksums.sm3", "checksums.sha256", "index.html")
    ]
    (folder / "checksums.sm3").write_text(
        "".join(f"{build.files.sm3_file(path)} *{path.name}\n" for path in listed), encoding="utf-8"
    )
    assert [d.action for d in build.build_open_data().datasets] == ["unchanged", "unchanged"]
    assert versions.published("daily_visits")[0]["missing_sources"] == []


def test_an_altered_version_stops_the_line(home):
    build.build_open_data()
    path = latest(home, "venue_directory").resolve() / "venue_directory.csv"
    path.write_bytes(path.read_bytes()[:-3] + b"9\r\n")
    with pytest.raises(TiyuError, match="TIYU-OPEN-0005") as error:
        build.build_open_data()
    assert "venue_directory.csv" in str(error.value)
    (path.parent / "checksums.sm3").write_text("")
    with pytest.raises(TiyuError, match="TIYU-OPEN-0005"):
        versions.check(path.parent)


def test_a_crash_between_folder_and_ledger_is_repaired(home, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build.files, "replace_link", die)
        with pytest.raises(KeyboardInterrupt):
            build.build_open_data()
    assert not latest(home, "venue_directory").exists()
    report = build.build_open_data()
    assert [d.action for d in report.datasets] == ["unchanged", "published"]
    assert latest(home, "venue_directory").is_dir()
    assert len(ledger.dataset_versions("venue_directory")) == 1


@pytest.mark.parametrize(
    ("people", "hidden", "ok"),
    [(20, False, True), (19, False, False), (None, False, False), (19, True, False), (None, True, True)],
)
def test_the_boundary_of_k(home, people, hidden, ok):
    frame = pl.DataFrame(
        {
            "part_date": [synthetic.date(2026, 11, 19)],
            "district_code": ["310101"],
            "district_name": ["黄浦区"],
            "visit_count": [None if hidden else 40],
            "person_count": [people],
            "is_suppressed": [hidden],
        },
        schema_overrides={"visit_count": pl.Int64, "person_count": pl.Int64},
    )
    synthetic.put(synthetic.VISITS, frame)
    if ok:
        assert build.publish(VISITS, []).result.cells_examined == 1
    else:
        with pytest.raises(TiyuError, match="TIYU-OPEN-0003"):
            build.publish(VISITS, [])


@pytest.mark.parametrize("damage", ["value_in_suppressed", "city_total", "null_total", "unmarked", "no_count_column"])
def test_disclosure_check_fails_when_it_should(home, damage):
    frame = synthetic.visits_frame()
    assert disclosure.check_aggregate(VISITS, frame) == 480
    if damage == "value_in_suppressed":
        frame = frame.with_columns(pl.col("visit_count").fill_null(3))
    elif damage in ("city_total", "null_total"):
        code = pl.lit("310000" if damage == "city_total" else None, dtype=pl.String).alias("district_code")
        frame = pl.concat([frame, frame.filter(~pl.col("is_suppressed"))[:1].with_columns(code)])
    elif damage == "unmarked":
        frame = frame.with_columns(pl.lit(None, dtype=pl.Boolean).alias("is_suppressed"))
    else:
        frame = frame.drop("person_count")
    with pytest.raises(TiyuError, match="TIYU-OPEN-0003"):
        disclosure.check_aggregate(VISITS, frame)


def test_no_total_and_no_suppressed_value_on_the_page_or_in_the_files(home):
    build.build_open_data()
    source = synthetic.visits_frame()
    total = int(source["visit_count"].sum())
    folder = home / "open" / "daily_visits"
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert f"{total:,}" not in text
    assert str(total) not in text
    for day, group in source.group_by("part_date"):
        assert f">{int(group['visit_count'].sum()):,}<" not in text, day
    for path in (folder / "latest").resolve().iterdir():
        assert b"person_count" not in path.read_bytes(), path.name
    frame = pl.read_parquet(folder / "latest" / "daily_visits.parquet")
    assert frame.filter(pl.col("is_suppressed"))["visit_count"].null_count() == source["is_suppressed"].sum() > 0


def test_columns_outside_the_contract_and_grades(home, monkeypatch):
    build.build_open_data()
    for path in (p for p in (home / "open").rglob("*") if p.is_file()):
        assert "不应离开".encode() not in path.read_bytes(), path
    column = Column("contact_name", "联系人", "VARCHAR", "L1", "P")
    spec = replace(DIRECTORY, columns=(*DIRECTORY.columns, column))
    monkeypatch.setattr(outputs, "described", lambda table: {c.name: OPEN for c in spec.columns})
    with pytest.raises(TiyuError, match="TIYU-OPEN-0002"):
        build.publish(spec, [])
    with pytest.raises(TiyuError, match="TIYU-OPEN-0002"):
        build.publish(replace(spec, columns=(*DIRECTORY.columns, replace(column, pi_mark="N", grade="L3"))), [])
    monkeypatch.setattr(outputs, "described", lambda table: {c.name: OPEN for c in DIRECTORY.columns[1:]})
    with pytest.raises(TiyuError, match="没有定级"):
        build.publish(DIRECTORY, [])
    monkeypatch.setattr(outputs, "described", lambda table: {c.name: OPEN for c in spec.columns} | {"x": OPEN})
    with pytest.raises(TiyuError, match="TIYU-OPEN-0006"):
        build.publish(replace(DIRECTORY, columns=(*DIRECTORY.columns, Column("x", "x", "VARCHAR", "L1", "N"))), [])


def test_nothing_checked_is_not_published(home):
    with ledger.transaction() as connection:
        connection.execute(ledger.checked.delete())
    with pytest.raises(TiyuError, match="TIYU-OPEN-0004"):
        build.build_open_data()


def test_every_format_holds_the_same_rows(home):
    build.build_open_data()
    examined = 0
    for spec in (DIRECTORY, VISITS):
        folder = latest(home, spec.name)
        names = [*(c.name for c in spec.columns), "data_note"]
        parquet = pl.read_parquet(folder / f"{spec.name}.parquet")
        raw = (folder / f"{spec.name}.csv").read_bytes()
        assert raw.startswith(b"\xef\xbb\xbf")
        assert raw.count(b"\r\n") == parquet.height + 1
        csv = pl.read_csv(io.BytesIO(raw), schema_overrides=dict(parquet.schema))
        records = json.loads((folder / f"{spec.name}.json").read_text(encoding="utf-8"))
        sheet = openpyxl.load_workbook(folder / f"{spec.name}.xlsx")
        assert sheet.sheetnames == ["数据", "数据字典", "说明"]
        header, *body = sheet["数据"].iter_rows(values_only=True)
        assert list(header) == parquet.columns == csv.columns == list(records[0]) == names
        assert csv.equals(parquet)
        assert len(records) == len(body) == parquet.height
        assert set(parquet["data_note"]) == {"演示数据，非真实统计"}
        examined += parquet.height
    assert examined == 540


def test_a_moment_is_the_same_in_every_format_and_local_in_a_spreadsheet():
    column = Column("sampled_at", "采样时间", "TIMESTAMPTZ", "L1", "N")
    spec = replace(DIRECTORY, columns=(column,), key=("sampled_at",))
    moment = dt.datetime(2026, 11, 20, 3, 5, tzinfo=dt.UTC)
    frame = formats.public_frame(spec, pl.DataFrame({"sampled_at": [moment]}), "")
    assert frame["sampled_at"].to_list() == [moment]
    assert b"2026-11-20T11:05:00.000000+0800" in formats.csv_bytes(frame)
    assert "2026-11-20T11:05:00+08:00" in formats.json_bytes(frame).decode().replace(".000000", "")
    sheet = openpyxl.load_workbook(io.BytesIO(formats.xlsx_bytes(spec, frame, spec.columns, [("项目", "内容")])))
    cell = sheet["数据"]["A2"]
    assert (cell.value.isoformat(), cell.number_format) == ("2026-11-20T11:05:00", "yyyy-mm-dd hh:mm:ss")


def test_csv_does_not_run_as_a_formula_and_others_keep_the_value(home):
    frame = synthetic.directory_frame(5).with_columns(venue_name=pl.Series(["=1+1", "+86", "-x", "@cmd", "正常"]))
    synthetic.put(synthetic.DIRECTORY, frame)
    build.build_open_data()
    folder = latest(home, "venue_directory")
    csv = pl.read_csv((folder / "venue_directory.csv").read_bytes())
    assert csv["venue_name"].to_list() == ["'=1+1", "'+86", "'-x", "'@cmd", "正常"]
    assert json.loads((folder / "version.json").read_text())["csv_neutralised_cells"] == 4
    assert pl.read_parquet(folder / "venue_directory.parquet")["venue_name"].to_list() == frame["venue_name"].to_list()
    cells = list(openpyxl.load_workbook(folder / "venue_directory.xlsx")["数据"]["B"])[1:]
    assert [c.value for c in cells] == frame["venue_name"].to_list()
    assert {c.data_type for c in cells} == {"s"}


def test_geojson_is_wgs84_and_says_what_it_cannot_place(home):
    frame = synthetic.directory_frame(6).with_columns(
        crs=pl.Series(["CGCS2000", "GCJ-02", "BD-09", "WGS-84", "unknown", "CGCS2000"])
    )
    frame = frame.with_columns(
        lng=pl.when(pl.int_range(pl.len()) == 5).then(None).otherwise(pl.lit(121.4737)), lat=pl.lit(31.2304)
    )
    data, missing = formats.geojson_bytes(DIRECTORY, frame, "横幅")
    found = json.loads(data)
    assert found["type"] == "FeatureCollection"
    assert found["banner"] == "横幅"
    assert missing == 2
    points = [f["geometry"] and f["geometry"]["coordinates"] for f in found["features"]]
    assert points[0] == points[3] == [121.4737, 31.2304]
    assert points[4] is None
    assert points[5] is None
    shift = np.array(points[1]) - np.array(points[0])
    assert np.abs(shift * [95_300, 111_000] + [431, -215]).max() < 3, (
        "GCJ-02 is about 431 m east and 215 m south of WGS-84 here"
    )
    assert "lng" not in found["features"][0]["properties"]


def test_checksum_files_check_with_ordinary_tools(home):
    build.build_open_data()
    for spec in (DIRECTORY, VISITS):
        folder = latest(home, spec.name).resolve()
        done = subprocess.run(
            ["sha256sum", "-c", "checksums.sha256"], cwd=folder, capture_output=True, text=True, check=True
        )
        assert done.stdout.count("OK") >= 10
        for line in (folder / "checksums.sm3").read_text().splitlines():
            name = line.split("*")[1]
            out = subprocess.run(
                ["openssl", "dgst", "-sm3", "-r", name], cwd=folder, capture_output=True, text=True, check=True
            ).stdout
            assert out.strip() == line


def test_datapackage_and_dcat_describe_the_files(home):
    build.build_open_data()
    for spec in (DIRECTORY, VISITS):
        folder = latest(home, spec.name)
        package = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))
        dcat = json.loads((folder / "dcat.jsonld").read_text(encoding="utf-8"))
        problems = check_datapackage(package, folder)
        assert problems == []
        assert {d["dcat:downloadURL"]["@id"] for d in dcat["dcat:distribution"]} == {
            r["path"] for r in package["resources"]
        }
        for distribution in dcat["dcat:distribution"]:
            assert (folder / distribution["@id"]).stat().st_size == distribution["dcat:byteSize"]
        broken = json.loads(json.dumps(package))
        broken["resources"][0]["schema"]["fields"][0]["type"] = "varchar"
        broken["resources"][1]["hash"] = "sha256:0"
        broken["name"] = "Has Space"
        del broken["licenses"][0]["path"], broken["licenses"][0]["name"]
        assert len(check_datapackage(broken, folder)) == 4


FIELD_TYPES = {
    "string",
    "number",
    "integer",
    "boolean",
    "object",
    "array",
    "date",
    "time",
    "datetime",
    "year",
    "yearmonth",
    "duration",
    "geopoint",
    "geojson",
    "any",
}


def check_datapackage(package: dict, folder: Path) -> list[str]:
    """The rules of Data Package v1 and Table Schema v1 that apply here, written from the specification."""

    problems = []
    name = re.compile(r"^([-a-z0-9._/])+$")
    if not name.match(package["name"]) or package["profile"] not in ("data-package", "tabular-data-package"):
        problems.append("package name or profile")
    if not all(x.get("name") or x.get("path") for x in package["licenses"]):
        problems.append("licence needs name or path")
    if len({r["name"] for r in package["resources"]}) != len(package["resources"]) or not package["resources"]:
        problems.append("resource names")
    for resource in package["resources"]:
        if not name.match(resource["name"]) or resource["path"].startswith(("/", "..")):
            problems.append(f"resource {resource['name']}")
        data = (folder / resource["path"]).read_bytes()
        if resource["bytes"] != len(data) or resource["hash"] != "sha256:" + hashlib.sha256(data).hexdigest():
            problems.append(f"hash {resource['path']}")
        if resource.get("profile") == "tabular-data-resource":
            fields = resource["schema"]["fields"]
            header = data.decode("utf-8-sig").split("\r\n", 1)[0].split(",")
            if [f["name"] for f in fields] != header or not set(resource["schema"]["primaryKey"]) <= set(header):
                problems.append("fields do not match the header")
            if not {f["type"] for f in fields} <= FIELD_TYPES:
                problems.append("field type")
    return problems


def test_pages_carry_what_they_must(home):
    build.build_open_data()
    for spec in (DIRECTORY, VISITS):
        page = (home / "open" / spec.name / "index.html").read_text(encoding="utf-8")
        for text in (
            "演示数据，非真实统计",
            "预览：正式开放以上海市公共数据开放平台为准",
            "待确认",
            "数据纠错",
            "数据字典",
            "<svg",
            "sample.py",
            "sample.mjs",
            "checksums.sha256",
            spec.description,
        ):
            assert text in page, text
        table = page.split('id="preview"')[1].split("</table>")[0]
        assert table.count("<tr>") == 21
    properties.set("is_demo", "false")
    build.build_open_data()
    for path in (home / "open").rglob("latest/*.csv"):
        assert "data_note" not in path.read_text(encoding="utf-8")
    assert "演示数据" not in (home / "open" / "daily_visits" / "index.html").read_text(encoding="utf-8")


def test_suppressed_cells_are_hatched_in_the_chart():
    frame = synthetic.visits_frame()
    svg = charts.render(VISITS, frame)
    shown = frame.filter(pl.col("part_date") > frame["part_date"].max() - synthetic.dt.timedelta(days=28))
    assert svg.count("已抑制</title>") == int(shown["is_suppressed"].sum()) > 0
    assert len(re.findall(r"：\d+ 人次</title>", svg)) == int((~shown["is_suppressed"]).sum())
    assert charts.render(VISITS, frame.head(0)) == ""
