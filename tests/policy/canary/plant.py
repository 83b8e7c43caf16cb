"""A small simulated city with canaries in every source: in their own fields, in refused rows, in names, in wrong fields."""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl

from simulation.generate import generate
from simulation.sizes import SIZES
from simulation.sources import FILING_HEADER, FILING_SHEET, _workbook
from tests.policy.canary import records
from tests.policy.canary.persons import CONTACT, DAY, STRAY, UTC, VISITOR, Person
from tests.unit.ingestion_decoders import fit_bytes

SEED = 990713
VENUE = "V310104-977"
"""The contact is that of this venue, which only the canaries know."""
NOWHERE = "V310199-999"


def city(folder: Path) -> Path:
    """Three days of the tiny city."""
    generate(SIZES["tiny"].shortened(3), SEED, folder, say=lambda text: None)
    return folder


def plant(folder: Path) -> dict[str, list[Path]]:
    """Put the canaries into every source of a city; returns source → the files they are in."""
    drops, api = folder / "drops", folder / "api"
    return {
        "venue.register": _register(drops / "venue" / "register"),
        "event.filing": _filing(drops / "event" / "filing"),
        "venue.entry": _entries(drops / "venue" / "entry" / f"{DAY:%Y%m%d}"),
        "supervision.water_reading": _water(drops / "supervision" / "water_reading" / f"{DAY:%Y%m%d}"),
        "training.athlete": _roster(drops / "training" / "athlete"),
        "training.activity": _training(drops / "training" / "activity"),
        "venue.flow_count": _messages(folder),
        "fitness.checkin": _checkins(api),
        "venue.booking": _bookings(api),
        **records.plant(folder),
    }


def _register(folder: Path) -> list[Path]:
    path = sorted(folder.glob("*.csv"))[-1]
    text = path.read_bytes().decode("gb18030", "replace")
    header, *rows = csv.reader(io.StringIO(text))
    names = {name: number for number, name in enumerate(header)}
    sample = next(row for row in rows if len(row) == len(header) and row[names["面积"]].replace(".", "").isdigit())

    def row(**values: str) -> list[str]:
        made = list(sample)
        for name, value in values.items():
            made[names[name]] = value
        return made

    planted = [
        row(
            场馆编码=VENUE, 场馆名称="试验馆", 单元编码=f"{VENUE}-U01", 联系人=CONTACT.name, 联系电话=CONTACT.phone,
            地址=f"试验路 1 号，{CONTACT.name} {CONTACT.phone}", 街镇=f"{CONTACT.name}所在街道", 面积="120", 核定容量="60",
        ),
        # accepted: what no contract expects in a free text, of persons whose names stand in other rows
        row(
            场馆编码=VENUE, 场馆名称=f"试验馆（{CONTACT.name}）", 单元编码=f"{VENUE}-U02", 联系人=VISITOR.name, 联系电话="",
            单元名称=f"{VISITOR.email} {VISITOR.bank_card} {VISITOR.plate_no}",
        ),
        # refused rows: the stray person in their own fields, and where they do not belong
        row(单元编码=f"{sample[names['场馆编码']]}-U81", 核定容量="约五十人", 联系人=STRAY.name, 联系电话=STRAY.phone),
        row(单元编码=f"{sample[names['场馆编码']]}-U82", 面积=STRAY.phone + "平", 街镇=STRAY.phone, 联系人=STRAY.name),
    ]  # fmt: skip
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(planted)
    path.write_bytes(path.read_bytes() + out.getvalue().encode("gb18030"))
    return [path]


def _filing(folder: Path) -> list[Path]:
    first = sorted(folder.glob("*.xlsx"))[-1]
    sheet = openpyxl.load_workbook(first, read_only=True)[FILING_SHEET]
    rows = [list(row) for row in sheet.iter_rows(min_row=3, values_only=True)]
    at = {name: number for number, name in enumerate(FILING_HEADER)}
    sample = next(
        row for row in rows if str(row[at["开始日期"]]) != "2026-02-30" and str(row[at["预计人数"]]).isdigit()
    )

    def row(**values: Any) -> list[Any]:
        made = list(sample)
        for name, value in values.items():
            made[at[name]] = value
        return made

    path = folder / f"赛事填报_{DAY:%Y%m%d}_补.xlsx"
    path.write_bytes(
        _workbook(
            [
                row(
                    填报编号="EV2026977001", 联系人=CONTACT.name, 联系电话=CONTACT.phone,
                    举办地点=f"试验馆，找{CONTACT.name}（{CONTACT.phone}）",
                ),
                row(填报编号="EV2026977002", 联系人=STRAY.name, 联系电话=STRAY.phone, 开始日期="2026-02-30"),
            ],
            DAY,
        )
    )  # fmt: skip
    return [path]


def _entries(folder: Path) -> list[Path]:
    sample = json.loads(sorted(folder.glob("*.ndjson"))[0].read_text("utf-8").splitlines()[0])

    def write(name: str, *changes: dict[str, Any]) -> Path:
        path = folder / name
        rows = [json.dumps({**sample, **change}, ensure_ascii=False) for change in changes]
        path.write_text("\n".join(rows) + "\n", "utf-8")
        return path

    return [
        write(
            f"entry_{DAY:%Y%m%d}_96.ndjson",
            {"seq_no": 977001},
            {"seq_no": 977002, "direction": STRAY.phone, "checkin_id": STRAY.name},
            {"seq_no": 977003, "venue_id": NOWHERE, "unit_id": None, "checkin_id": STRAY.phone},
        ),
        # an identity number in a field that is none stops the batch; the object is then refused as a whole
        write(f"entry_{DAY:%Y%m%d}_97.ndjson", {"seq_no": 977004, "checkin_id": STRAY.id_no}),
    ]


def _water(folder: Path) -> list[Path]:
    header, *rows = sorted(folder.glob("*.csv"))[0].read_text("utf-8").splitlines()
    good = rows[0].split(",")
    paths = []
    for number, value in ((96, STRAY.phone), (97, STRAY.id_no)):
        path = folder / f"water_{DAY:%Y%m%d}_{number}.csv"
        bad = [*good[:4], value + "?", *good[5:]]
        named = [good[0], value, *good[2:4], "超量程", *good[5:]]
        path.write_text("\n".join([header, ",".join(bad), ",".join(named)]) + "\n", "utf-8")
        paths.append(path)
    return paths


def track(person: Person) -> bytes:
    """A GPX file of a person who starts at home; the watch carries its owner's name."""
    points = []
    for number, beats in enumerate(person.heart_rate):
        at = person.at.astimezone(UTC) + timedelta(seconds=5 * number)
        points.append(
            f'<trkpt lat="{person.home[1]:.6f}" lon="{person.home[0]:.6f}"><ele>4.0</ele><time>{at:%Y-%m-%dT%H:%M:%SZ}</time>'
            f"<extensions><gpxtpx:TrackPointExtension><gpxtpx:hr>{beats}</gpxtpx:hr></gpxtpx:TrackPointExtension></extensions></trkpt>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<gpx version="1.1" creator="{person.name}的手表" xmlns="http://www.topografix.com/GPX/1/1" '
        'xmlns:gpxtpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v1">'
        f"<trk><name>{person.name}</name><type>running</type><trkseg>\n"
        + "\n".join(points)
        + "\n</trkseg></trk></gpx>\n"
    ).encode()


def _fit(number: int, *rows: list[tuple[int, str, int]]) -> bytes:
    """Messages of one kind of a device file, all with the same fields: (field, letter of its type, value)."""
    layout = "".join(letter for _, letter, _ in rows[0])
    body = fit_bytes.definition(0, number, [(field, letter, 1) for field, letter, _ in rows[0]])
    return body + b"".join(fit_bytes.data(0, layout, *(value for _, _, value in row)) for row in rows)


def swim(person: Person, at: datetime) -> bytes:
    """A pool swim from an instant on: heart rate and the intervals between beats are the person's, lengths have their times."""
    start = fit_bytes.stamp(int(at.timestamp()))
    body = _fit(0, [(0, "E", 4), (4, "I", start)])
    body += _fit(20, *([(253, "I", start + n), (3, "B", rate)] for n, rate in enumerate(person.heart_rate)))
    body += fit_bytes.definition(1, 78, [(0, "H", len(person.heart_rate))])
    body += fit_bytes.data(1, f"{len(person.heart_rate)}H", *person.heart_rate)
    body += _fit(101, *([(254, "H", n), (253, "I", start + 30 * n + 28), (2, "I", start + 30 * n), (3, "I", 28_000),
                         (12, "E", 1), (5, "H", 14)] for n in range(4)))  # fmt: skip
    body += _fit(18, [(253, "I", start + 120), (2, "I", start), (5, "E", 5), (7, "I", 120_000), (44, "H", 2500), (46, "E", 0),
                      (9, "I", 10_000)])  # fmt: skip
    return fit_bytes.wrap(body)


def wrist(person: Person, at: datetime) -> bytes:
    """A day as a watch keeps it: the person's heart rate every minute from an instant on."""
    start = fit_bytes.stamp(int(at.timestamp()))
    body = _fit(0, [(0, "E", 32), (4, "I", start)]) + _fit(103, [(253, "I", start), (0, "I", start + 8 * 3600)])
    rows = ([(253, "I", start + 60 * n), (27, "B", rate)] for n, rate in enumerate(person.heart_rate))
    return fit_bytes.wrap(body + _fit(55, *rows))


def _training(folder: Path) -> list[Path]:
    files = {
        f"{VISITOR.athlete_no}/{VISITOR.at:%Y%m%d%H%M}_running.gpx": track(VISITOR),
        f"{VISITOR.athlete_no}/{VISITOR.at:%Y%m%d%H%M}_{VISITOR.phone}.gpx.gz": gzip.compress(
            track(VISITOR).replace(b"<type>running", b"<type>running "), mtime=0
        ),
        f"{VISITOR.athlete_no}/{VISITOR.at:%Y%m%d%H%M}_pool.fit": swim(VISITOR, CONTACT.at),
        f"{VISITOR.athlete_no}/{VISITOR.at:%Y%m%d%H%M}_wrist.fit": wrist(VISITOR, CONTACT.at + timedelta(hours=1)),
        # refused: cut off in the middle
        f"{STRAY.athlete_no}/{STRAY.at:%Y%m%d%H%M}_{STRAY.athlete_no}.gpx": track(STRAY)[:-90],
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def _messages(folder: Path) -> list[Path]:
    """What a counting device sends that somebody typed persons into; one message a line, as they reach the broker."""
    good = {"device_id": "C977", "venue_id": VENUE, "counted_at": f"{DAY}T08:00:00+08:00", "interval_s": 60, "in_count": 3,
            "out_count": 1, "inside_count": 2}  # fmt: skip
    segments = [
        [good, {**good, "device_id": STRAY.phone}, {**good, "device_id": STRAY.name, "venue_id": STRAY.phone},
         {**good, "device_id": "C978", "in_count": f"{STRAY.name} {STRAY.phone}"}],
        # an identity number in a field that is none: the object is refused as a whole
        [{**good, "device_id": "C979", "venue_id": STRAY.id_no}],
    ]  # fmt: skip
    (folder / "stream").mkdir()
    paths = [folder / "stream" / f"flow_count_{number}.ndjson" for number in (1, 2)]
    for path, messages in zip(paths, segments, strict=True):
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in messages), "utf-8")
    return paths


def _roster(folder: Path) -> list[Path]:
    path = sorted(folder.glob("*.csv"))[-1]
    header, *rows = path.read_text("utf-8").splitlines()
    names = header.split(",")
    day = rows[0].split(",")[0]

    def row(person: Person, **values: str) -> str:
        made = {"名册日期": day, "运动员编号": person.athlete_no, "姓名": person.name, "运动队": "SQ01", "队内编号": "77",
                "主项": "跑步", "入队日期": "2026-01-01", "离队日期": ""}  # fmt: skip
        return ",".join((made | values)[name] for name in names)

    planted = [
        row(VISITOR),
        # refused: a squad nobody knows, a phone where a number belongs
        row(STRAY, 运动队="SQ99"),
        row(STRAY, 队内编号=STRAY.phone, 离队日期=STRAY.name),
    ]
    path.write_text("\n".join([header, *rows, *planted]) + "\n", "utf-8")
    return [path]


def _add_to_feed(api: Path, name: str, *changes: dict[str, Any], later_s: int = 0) -> Path:
    """More rows at the end of the last file of a REST resource."""
    path = sorted(api.glob(f"{name}-*.parquet"))[-1]
    frame = pl.read_parquet(path)
    last = frame.row(-1, named=True)
    key = next(iter(json.loads(last["body"])))
    rows = []
    for change in changes:
        body = {**json.loads(last["body"]), **change}
        rows.append(
            {"updated_ts": last["updated_ts"] + later_s, "id": body[key], "body": json.dumps(body, ensure_ascii=False)}
        )
    pl.concat([frame, pl.DataFrame(rows, schema=frame.schema)]).write_parquet(path, compression="zstd")
    return path


def _checkins(api: Path) -> list[Path]:
    def person(who: Person, number: str, **more: Any) -> dict[str, Any]:
        return {
            "checkin_id": number, "id_type": "resident_id", "id_no": who.id_no, "phone": who.phone,
            "scanned_at": who.at.isoformat(), **more,
        }  # fmt: skip

    return [
        _add_to_feed(
            api,
            "checkins",
            *(person(VISITOR, f"CK97700{number}") for number in range(6)),  # so many that a sample may be given
            person(STRAY, "CK977012", venue_id=NOWHERE, unit_id=None),
            person(STRAY, "CK977013", id_no=STRAY.id_no[:-1] + ("1" if STRAY.id_no[-1] != "1" else "2")),
            person(STRAY, "CK977014", purpose=STRAY.phone, sport_code=STRAY.name),
        )
    ]


def _bookings(api: Path) -> list[Path]:
    return [
        _add_to_feed(
            api,
            "bookings",
            {"booking_id": "BK977001", "phone": VISITOR.phone},
            {"booking_id": "BK977002", "phone": STRAY.phone, "venue_id": NOWHERE, "unit_id": f"{NOWHERE}-U01"},
            {"booking_id": "BK977003", "phone": STRAY.phone, "amount": STRAY.phone + "元"},
        )
    ]


def more_checkins(api: Path) -> None:
    """Check-ins that a later fetch finds: a good one, and two that are refused."""
    rows = pl.read_parquet(sorted(api.glob("checkins-*.parquet"))[-1]).filter(pl.col("id") == "CK977000")
    good = {**json.loads(rows["body"][0]), "checkin_id": "CK978001"}
    stray = {**good, "id_no": STRAY.id_no, "phone": STRAY.phone, "venue_id": NOWHERE}
    bad = (
        {**stray, "checkin_id": "CK978002", "unit_id": None},
        {**stray, "checkin_id": "CK978003", "unit_id": STRAY.phone},
    )
    named = {**good, "checkin_id": STRAY.phone}  # a key that is a person's number
    _add_to_feed(api, "checkins", good, *bad, named, later_s=60)


def second(city_folder: Path, resource: str, folder: Path) -> None:
    """A small further delivery of one source: the same canaries in other records, as files."""
    folder.mkdir(parents=True)
    drops = city_folder / "drops"
    if resource == "event.filing":
        sheet = openpyxl.load_workbook(sorted((drops / "event" / "filing").glob("*_补.xlsx"))[0], read_only=True)[
            FILING_SHEET
        ]
        rows = [list(row) for row in sheet.iter_rows(min_row=3, values_only=True)]
        for number, row in enumerate(rows):
            row[0] = f"EV202697800{number}"
        (folder / "赛事填报_20261119_再补.xlsx").write_bytes(_workbook(rows, DAY))
    elif resource == "training.activity":
        own = folder / VISITOR.athlete_no
        own.mkdir()
        data = track(replace(VISITOR, at=VISITOR.at + timedelta(minutes=67)))  # another activity
        (own / f"{VISITOR.at:%Y%m%d%H%M}_{VISITOR.phone}.gpx").write_bytes(data)
    else:
        sample = json.loads(
            sorted((drops / "venue" / "entry" / f"{DAY:%Y%m%d}").glob("*.ndjson"))[0].read_text("utf-8").splitlines()[0]
        )
        row = {**sample, "seq_no": 978001, "checkin_id": STRAY.id_no}
        (folder / f"entry_{DAY:%Y%m%d}_98.ndjson").write_text(json.dumps(row) + "\n", "utf-8")
