"""How each source system writes a business day, dirt included.

Dirt never takes the place of a true record: it is an extra row, an extra copy or a later delivery, each counted in the ledger.
Every extra bad row breaks exactly one rule and has a key of its own, so it can be told from a duplicate.
"""

from __future__ import annotations

import io
import json
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xlsxwriter

from simulation import bookings as bk
from simulation.city import SPORTS, City
from simulation.events import Event
from simulation.ledger import SentLedger
from simulation.records.all import APIS
from simulation.sizes import LAST_DATE, SHANGHAI
from simulation.squads import memberships
from simulation.times import iso, iso_text, midnight, naive, noon, stream, to_date
from simulation.training import DeviceFile, packed, training_day
from simulation.visits import CHANNELS, METHODS, PURPOSES, VisitDay
from simulation.water import ITEMS, UNITS, WaterDay

FUTURE_S = 200 * 86_400
"""How far ahead a clock that runs wrong says it is: further than anybody advances a demo."""
BAD_INSTANT = "2026-02-30T08:00:00+08:00"
NO_VENUE = "V310199-999"
FILE_HEADER = [
    "登记日期",
    "场馆编码",
    "场馆名称",
    "场馆类型",
    "权属",
    "运营单位统一社会信用代码",
    "行政区划代码",
    "街镇",
    "地址",
    "经度",
    "纬度",
    "坐标系",
    "是否公共场馆",
    "开放时间",
    "关闭时间",
    "联系人",
    "联系电话",
    "单元编码",
    "单元名称",
    "单元类型",
    "运动项目",
    "面积",
    "核定容量",
    "是否室内",
    "最浅水深",
    "最深水深",
]
FILING_HEADER = [
    "填报编号",
    "赛事名称",
    "主办单位",
    "主办单位统一社会信用代码",
    "主办单位类别",
    "运动项目",
    "赛事级别",
    "赛事性质",
    "是否纳入评估",
    "举办区划代码",
    "场馆编码",
    "举办地点",
    "开始日期",
    "结束日期",
    "预计人数",
    "实际参赛人数",
    "是否高危",
    "公安许可编号",
    "状态",
    "填报日期",
    "联系人",
    "联系电话",
    "更新时间",
]
ROSTER_HEADER = ["名册日期", "运动员编号", "姓名", "运动队", "队内编号", "主项", "入队日期", "离队日期"]
FILING_TITLE = "上海市体育赛事活动填报表（演示）"
FILING_SHEET = "赛事填报"


def _take(rng: np.random.Generator, count: int, share: float) -> np.ndarray:
    """Row numbers of a random share of ``count`` rows."""
    return np.flatnonzero(rng.random(count) < share)


def _lines(frame: pl.DataFrame) -> np.ndarray:
    """The frame as JSON lines."""
    return np.array(frame.write_ndjson().splitlines(), dtype=object)


def _changed(line: str, **values: Any) -> str:
    return json.dumps({**json.loads(line), **values}, ensure_ascii=False, separators=(",", ":"))


def _yes(flag: bool) -> str:
    return "是" if flag else "否"


def checkin_id(day: date, numbers: np.ndarray) -> pl.Series:
    text = pl.Series(numbers).cast(pl.String).str.zfill(7)
    return pl.select(pl.lit(f"CK{day:%y%m%d}") + text).to_series()


class Api:
    """Rows behind one REST resource, kept until no earlier update can come, then written as one file a day.

    A file holds (updated_ts seconds of Shanghai time, id, body JSON) in serving order.
    """

    def __init__(self, folder: Path, name: str, first: date) -> None:
        self.folder, self.name, self.first = folder, name, first
        self.waiting: list[pl.DataFrame] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, updated: np.ndarray, ids: pl.Series, bodies: np.ndarray) -> None:
        self.waiting.append(
            pl.DataFrame(
                {"updated_ts": updated.astype(np.int64), "id": ids, "body": pl.Series(bodies, dtype=pl.String)}
            )
        )

    def flush(self, upto: date) -> None:
        """Write all rows updated on or before ``upto``; later rows wait."""
        if not self.waiting or upto < self.first:
            return  # the backlog belongs to the file of the first day, which is written once
        rows = pl.concat(self.waiting)
        edge = midnight(upto + timedelta(days=1))
        self.waiting = [rows.filter(pl.col("updated_ts") >= edge)]
        ready = rows.filter(pl.col("updated_ts") < edge).sort("updated_ts", "id", "body")
        # What was updated before the first day is the backlog that a first fetch finds.
        days = ready.with_columns(pl.col("updated_ts").clip(midnight(self.first)).floordiv(86_400).alias("_day"))
        for (number,), part in days.group_by("_day", maintain_order=True):
            self._write(part.drop("_day"), to_date(int(str(number)) * 86_400))

    def write_all(self, day: date) -> None:
        """Write all waiting rows as one file, the one that the present of ``day`` adds; none when nothing waits."""
        if not self.waiting:
            return
        self._write(pl.concat(self.waiting).sort("updated_ts", "id", "body"), day)
        self.waiting = []

    def _write(self, rows: pl.DataFrame, day: date) -> None:
        rows.write_parquet(self.folder / f"{self.name}-{day:%Y%m%d}.parquet", compression="zstd", statistics=False)


class Sources:
    """Writes the drops and the API files of a city."""

    def __init__(self, city: City, out: Path) -> None:
        self.city, self.drops, self.ledger = city, out / "drops", SentLedger()
        self.waiting = out / "waiting"
        self.checkin_api = Api(out / "api", "checkins", city.first_date)
        self.booking_api = Api(out / "api", "bookings", city.first_date)
        self.record_apis = {name: Api(out / "api", name, city.first_date) for name in APIS}
        self.venue_id = pl.Series([v.venue_id for v in city.venues])
        self.unit_id = pl.Series([u.unit_id for u in city.units])
        self.unit_sport = pl.Series([u.sport for u in city.units])
        self.people_id = pl.Series(city.people.id_no)
        self.people_type = pl.Series(city.people.id_type)
        self.people_phone = pl.Series(city.people.phone)
        self.memberships = memberships(city)
        self.future = iso_text(noon(LAST_DATE) + FUTURE_S)
        self.held: set[str] = set()
        """Resources whose system is down: what they write now is delivered when it is up again."""

    def _gather(self, names: pl.Series, index: np.ndarray) -> pl.Series:
        """Names by index; -1 gives null."""
        return names.gather(pl.Series(np.where(index < 0, 0, index))).zip_with(
            pl.Series(index >= 0), pl.Series([None] * len(index), dtype=pl.String)
        )

    def deliver_file(self, relative: str, data: bytes, resource: str) -> None:
        """Lay a file into the drop, or keep it back while its source is down."""
        path = (self.waiting if resource in self.held else self.drops) / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.ledger.objects[resource] += 1

    # fitness.checkin ------------------------------------------------------------------------------------------------

    def checkins(self, v: VisitDay, part: str = "") -> None:
        """One day (or the part of it that becomes known now) of one-code check-ins into the API store."""
        r, c = "fitness.checkin", v.checkins
        rng = stream(self.city.seed, f"dirt checkins{part}", v.day.toordinal())
        ids = checkin_id(v.day, c.number)
        frame = pl.DataFrame({
            "checkin_id": ids, "venue_id": self._gather(self.venue_id, c.venue), "unit_id": self._gather(self.unit_id, c.unit),
            "sport_code": self._gather(self.unit_sport, c.unit), "scanned_at": c.scanned,
            "purpose": PURPOSES[c.purpose], "channel": CHANNELS[c.channel],
            "id_type": self.people_type.gather(pl.Series(c.person)), "id_no": self.people_id.gather(pl.Series(c.person)),
            "phone": self.people_phone.gather(pl.Series(c.person)), "updated_at": c.updated,
        }).with_columns(iso("scanned_at"), iso("updated_at"))  # fmt: skip
        lines = _lines(frame)
        self.checkin_api.add(c.updated, ids, lines)
        self.ledger.true[r] += len(lines)
        late = int((c.updated - c.scanned > 3_600).sum())
        self.ledger.disorder[r]["late_uploads"] += late

        again = _take(rng, len(lines), 0.0015)
        self.checkin_api.add(c.updated[again], ids.gather(pl.Series(again)), lines[again])
        self.ledger.duplicates[r]["exact_copy"] += len(again)
        resident = np.flatnonzero(np.asarray(frame["id_type"] == "resident_id"))
        for kind, share in (
            ("bad_check_digit", 0.0004), ("unknown_venue", 0.0002), ("unknown_purpose", 0.0002), ("bad_time", 0.0001), ("future_time", 0.0001),
        ):  # fmt: skip
            rows = self._some(rng, resident, len(lines), share)
            if not len(rows):
                continue
            new_ids = [f"CKX{v.day:%y%m%d}{part}{kind[:5]}{i:04d}" for i in range(len(rows))]
            bad = []
            for i, row in enumerate(rows):
                number = frame["id_no"][int(row)]
                changes: dict[str, dict[str, Any]] = {
                    "bad_check_digit": {"id_no": number[:17] + ("1" if number[17] != "1" else "2")},
                    "unknown_venue": {"venue_id": NO_VENUE, "unit_id": None},
                    "unknown_purpose": {"purpose": "sleep"},
                    "bad_time": {"scanned_at": BAD_INSTANT},
                    "future_time": {"scanned_at": self.future},
                }
                bad.append(_changed(lines[row], checkin_id=new_ids[i], **changes[kind]))
            self.checkin_api.add(c.updated[rows], pl.Series(new_ids), np.array(bad, dtype=object))
            self.ledger.bad[r][kind] += len(rows)

    def _some(self, rng: np.random.Generator, pool: np.ndarray, count: int, share: float) -> np.ndarray:
        """A few distinct rows of ``pool``: on average ``share`` of ``count``, as a Poisson number."""
        wanted = min(int(rng.poisson(count * share)), len(pool))
        return rng.choice(pool, wanted, replace=False) if wanted else np.zeros(0, np.int64)

    # venue.entry ----------------------------------------------------------------------------------------------------

    def entries(self, v: VisitDay, part: str = "") -> None:
        """One day (or the part of it that becomes known now) of turnstile passages as hourly NDJSON files."""
        r, p, city = "venue.entry", v.passages, self.city
        rng = stream(city.seed, f"dirt entries{part}", v.day.toordinal())
        venue = self._gather(self.venue_id, p.venue)
        frame = pl.DataFrame({
            "device_id": pl.select(pl.lit("GT-") + venue.str.slice(1) + pl.lit("-") + pl.Series(p.gate).cast(pl.String)).to_series(),
            "seq_no": p.seq, "venue_id": venue, "unit_id": self._gather(self.unit_id, p.unit),
            "direction": np.where(p.is_in, "in", "out"), "method": METHODS[p.method], "passed_at": p.passed,
            "checkin_id": checkin_id(v.day, np.maximum(p.checkin, 0)).zip_with(
                pl.Series(p.checkin >= 0), pl.Series([None] * len(p.seq), dtype=pl.String)),
        }).with_columns(iso("passed_at"))  # fmt: skip
        lines = _lines(frame)
        n = len(lines)
        self.ledger.true[r] += n
        hour = (p.passed - midnight(v.day)) // 3_600
        last_hour = 11 if v.day == city.last_date else 23
        # A gate controller that was busy delivers with the next hour.
        moved = _take(rng, n, 0.01)
        moved = moved[hour[moved] < last_hour]
        target = hour.copy()
        target[moved] += 1
        self.ledger.disorder[r]["rows_in_a_later_file"] += len(moved)
        within = _take(rng, n, 0.003)
        across = _take(rng, n, 0.002)
        across = across[target[across] < last_hour]
        self.ledger.duplicates[r]["within_file"] += len(within)
        self.ledger.duplicates[r]["across_files"] += len(across)
        texts, hours, order = (
            [lines, lines[within], lines[across]],
            [target, target[within], target[across] + 1],
            [p.passed, p.passed[within], p.passed[across]],
        )
        for k, (kind, share) in enumerate(
            (
                ("unknown_venue", 0.0004),
                ("unknown_direction", 0.0003),
                ("bad_time", 0.0002),
                ("text_in_number", 0.0002),
                ("future_time", 0.0001),
            )
        ):
            rows = self._some(rng, np.arange(n), n, share)
            if not len(rows):
                continue
            bad = []
            for i, row in enumerate(rows):
                number = int(v.day.strftime("%y%m%d")) * 1_000 + k * 100 + i + (50 if part else 0)
                key = {"seq_no": 900_000_000_000 + number}
                changes: dict[str, dict[str, Any]] = {
                    "unknown_venue": {**key, "venue_id": NO_VENUE, "unit_id": None},
                    "unknown_direction": {**key, "direction": "sideways"},
                    "bad_time": {**key, "passed_at": BAD_INSTANT},
                    "text_in_number": {"seq_no": "未知"},
                    "future_time": {**key, "passed_at": self.future},
                }
                bad.append(_changed(lines[row], checkin_id=None, **changes[kind]))
            texts.append(np.array(bad, dtype=object))
            hours.append(target[rows])
            order.append(p.passed[rows])
            self.ledger.bad[r][kind] += len(rows)
        text, at = np.concatenate(texts), np.concatenate(hours)
        # Within a file the order is that of arrival, which is nearly but not exactly that of passing.
        rank = np.concatenate(order) + rng.normal(0, 15, len(text))
        by = np.lexsort((rank, at))
        text, at = text[by], at[by]
        late_day = v.day.toordinal() % 30 == 7 and v.day < city.yesterday
        for h in np.unique(at):
            folder = v.day
            if late_day and h == at.max():
                folder = v.day + timedelta(days=1)  # delivered the next morning, into the next day's folder
                self.ledger.disorder[r]["late_files"] += 1
            body = "\n".join(text[np.searchsorted(at, h) : np.searchsorted(at, h, side="right")]) + "\n"
            self.deliver_file(f"venue/entry/{folder:%Y%m%d}/entry_{v.day:%Y%m%d}_{h:02d}.ndjson", body.encode(), r)

    # venue.booking --------------------------------------------------------------------------------------------------

    def bookings(self, b: bk.BookingDay, part: str = "") -> None:
        """All updates (or those that become known now) of the bookings of one slot day into the API store."""
        r = "venue.booking"
        rng = stream(self.city.seed, f"dirt bookings{part}", b.day.toordinal())
        row, n = b.update_row, len(b.update_row)
        ids = pl.select(pl.lit(f"BK{b.day:%y%m%d}") + pl.Series(b.number[row]).cast(pl.String).str.zfill(6)).to_series()
        unit = b.unit[row]
        venue = np.array([u.venue for u in self.city.units])[unit]
        frame = pl.DataFrame({
            "booking_id": ids, "venue_id": self._gather(self.venue_id, venue), "unit_id": self._gather(self.unit_id, unit),
            "sport_code": self._gather(self.unit_sport, unit), "channel": CHANNELS[b.channel[row]], "slot_start": b.start[row],
            "slot_end": b.end[row], "phone": self.people_phone.gather(pl.Series(b.person[row])), "amount": b.update_amount,
            "status": bk.STATUS[b.update_status], "created_at": b.created[row], "updated_at": b.update_at,
            "cancelled_at": pl.Series(np.where(b.update_status == 2, b.cancelled[row], -1)).replace(-1, None),
            "checked_in_at": pl.Series(np.where(b.update_status == 1, b.checked_in[row], -1)).replace(-1, None),
        }).with_columns(*[iso(c) for c in ("slot_start", "slot_end", "created_at", "updated_at", "cancelled_at", "checked_in_at")])  # fmt: skip
        lines = _lines(frame) if n else np.zeros(0, object)
        self.booking_api.add(b.update_at, ids, lines)
        self.ledger.true[r] += n
        self.ledger.disorder[r]["late_updates"] += b.late_updates
        self.ledger.disorder[r]["cancellations"] += int((b.update_status == 2).sum())
        earlier = int((b.update_status != 0).sum()) if part else n - len(b.number)
        self.ledger.disorder[r]["updates_of_earlier_bookings"] += earlier
        again = _take(rng, n, 0.002)
        self.booking_api.add(b.update_at[again], ids.gather(pl.Series(again)), lines[again])
        self.ledger.duplicates[r]["exact_copy"] += len(again)
        must = not part and b.day == self.city.yesterday  # the sample that every run has
        for kind, share in (
            ("unknown_venue", 0.0003), ("unknown_status", 0.0002), ("text_in_number", 0.0002), ("bad_time", 0.0002), ("slot_reversed", 0.0002),
        ):  # fmt: skip
            rows = self._some(rng, np.arange(n), n, share)
            if must and n and not len(rows):
                rows = rng.choice(n, 1)
            if not len(rows):
                continue
            new_ids = [f"BKX{b.day:%y%m%d}{part}{kind[:9]}{i:04d}" for i in range(len(rows))]
            changes: dict[str, dict[str, Any]] = {
                "unknown_venue": {"venue_id": NO_VENUE, "unit_id": f"{NO_VENUE}-U01"},
                "unknown_status": {"status": "vanished", "cancelled_at": None, "checked_in_at": None},
                "text_in_number": {"amount": "面议"},
                "bad_time": {"slot_start": BAD_INSTANT},
                "slot_reversed": {},
            }
            bad = [_changed(lines[row], booking_id=new_ids[i], **changes[kind]) for i, row in enumerate(rows)]
            if kind == "slot_reversed":
                starts = [json.loads(x)["slot_start"] for x in bad]
                bad = [
                    _changed(x, slot_start=json.loads(x)["slot_end"], slot_end=s)
                    for x, s in zip(bad, starts, strict=True)
                ]
            self.booking_api.add(b.update_at[rows], pl.Series(new_ids), np.array(bad, dtype=object))
            self.ledger.bad[r][kind] += len(rows)

    # supervision.water_reading ---------------------------------------------------------------------------------------

    def water(self, w: WaterDay, part: str = "") -> None:
        """One day (or the part of it that becomes known now) of water readings as hourly CSV files."""
        r = "supervision.water_reading"
        rng = stream(self.city.seed, f"dirt water{part}", w.day.toordinal())
        pool = self._gather(self.unit_id, w.pool)
        number = pl.Series(np.char.mod("%.2f", w.value))
        number = number.zip_with(pl.Series(w.item != 3), pl.Series(np.char.mod("%.1f", w.value)))
        number = number.zip_with(pl.Series(w.item != 4), pl.Series(np.char.mod("%.0f", w.value)))
        frame = pl.DataFrame({
            "pool_id": pool, "device_id": pl.select(pl.lit("WQ-") + pool.str.slice(1)).to_series(), "sampled_at": w.sampled,
            "item": np.array(ITEMS)[w.item], "value": number, "unit": np.array(UNITS)[w.item],
            "method": np.array(["online", "manual"])[w.method],
        }).with_columns(naive("sampled_at"))  # fmt: skip
        header, *rows = frame.write_csv().splitlines()
        lines = np.array(rows, dtype=object)
        n = len(lines)
        self.ledger.true[r] += n
        hour = (w.sampled - midnight(w.day)) // 3_600
        last_hour = 11 if w.day == self.city.last_date else 23
        target = hour.copy()
        moved = _take(rng, n, 0.006)
        moved = moved[hour[moved] < last_hour]
        target[moved] += 1
        self.ledger.disorder[r]["rows_in_a_later_file"] += len(moved)
        within, across = _take(rng, n, 0.002), _take(rng, n, 0.002)
        across = across[target[across] < last_hour]
        self.ledger.duplicates[r]["within_file"] += len(within)
        self.ledger.duplicates[r]["across_files"] += len(across)
        texts, hours = [lines, lines[within], lines[across]], [target, target[within], target[across] + 1]
        for kind, share in (
            ("text_in_number", 0.0006),
            ("unknown_pool", 0.0004),
            ("unknown_item", 0.0003),
            ("bad_time", 0.0002),
            ("implausible_value", 0.0002),
        ):
            chosen = self._some(rng, np.arange(n), n, share)
            if not len(chosen):
                continue
            bad = []
            for i, row in enumerate(chosen):
                pool_id, device, at, item, value, unit, method = lines[row].split(",")
                # Seconds of their own keep the key apart from the true reading's.
                at = f"{at[:-2]}{50 + i % 10:02d}"
                if kind == "text_in_number":
                    value = "超量程"
                elif kind == "unknown_pool":
                    pool_id = f"{NO_VENUE}-U01"
                elif kind == "unknown_item":
                    item = "cyanide"
                elif kind == "implausible_value":
                    item, unit, value = "free_chlorine", "mg/L", "99.90"
                else:
                    at = "2026-02-30 08:00:00"
                bad.append(",".join((pool_id, device, at, item, value, unit, method)))
            texts.append(np.array(bad, dtype=object))
            hours.append(target[chosen])
            self.ledger.bad[r][kind] += len(chosen)
        text, at_hour = np.concatenate(texts), np.concatenate(hours)
        by = np.argsort(at_hour, kind="stable")
        text, at_hour = text[by], at_hour[by]
        for h in np.unique(at_hour):
            rows_of_hour = text[np.searchsorted(at_hour, h) : np.searchsorted(at_hour, h, side="right")]
            self.deliver_file(f"supervision/water_reading/{w.day:%Y%m%d}/water_{w.day:%Y%m%d}_{h:02d}.csv",
                       ("\n".join([header, *rows_of_hour]) + "\n").encode(), r)  # fmt: skip

    # venue.register --------------------------------------------------------------------------------------------------

    def snapshot_days(self) -> list[date]:
        """Weekly from the first day, and the last day."""
        days = [d for d in self.city.at(0).days() if self.is_snapshot_day(d)]
        return sorted({*days, LAST_DATE})

    def is_snapshot_day(self, day: date) -> bool:
        """Whether the weekly snapshots fall on a day."""
        return (day - self.city.first_date).days % 7 == 0

    def register(self, day: date) -> None:
        """The full register snapshot of ``day``: GB18030 CSV, one row a unit."""
        r, city = "venue.register", self.city
        rng = stream(city.seed, "dirt register", day.toordinal())
        active = city.active(day)
        rows: list[list[str]] = []
        for u in city.units:
            v = city.venues[u.venue]
            if not active[u.venue]:
                continue
            rows.append([
                day.isoformat(), v.venue_id, v.name, v.venue_type, v.ownership, v.uscc, v.district_code, v.street, v.address,
                f"{v.lng:.6f}", f"{v.lat:.6f}", v.crs, _yes(v.is_public), _clock_text(v.open_s), _clock_text(v.close_s),
                v.contact, v.phone, u.unit_id, u.name, u.unit_type, SPORTS[u.sport], f"{u.area_m2:.1f}", str(u.capacity),
                _yes(u.indoor), "" if u.depth_min is None else f"{u.depth_min}", "" if u.depth_max is None else f"{u.depth_max}",
            ])  # fmt: skip
        self.ledger.true[r] += len(rows)
        copies = [rows[int(i)] for i in rng.choice(len(rows), 2, replace=False)]
        self.ledger.duplicates[r]["within_file"] += len(copies)
        columns = {name: i for i, name in enumerate(FILE_HEADER)}

        def spoiled(number: int, **values: str) -> list[str]:
            row = list(rows[int(rng.integers(len(rows)))])
            row[columns["单元编码"]] = f"{row[columns['场馆编码']]}-U{number}"
            for name, value in values.items():
                row[columns[name]] = value
            return row

        bad = {
            "negative_area": spoiled(91, 面积="-120.0"),
            "text_in_number": spoiled(92, 核定容量="约五十人"),
            "unknown_district": spoiled(93, 行政区划代码="310199"),
            "bad_uscc_check_digit": spoiled(94),
        }
        code = bad["bad_uscc_check_digit"][columns["运营单位统一社会信用代码"]]
        bad["bad_uscc_check_digit"][columns["运营单位统一社会信用代码"]] = code[:-1] + ("0" if code[-1] != "0" else "1")
        lines = [",".join(x).encode("gb18030") for x in (*rows, *copies)]
        for kind, row in bad.items():
            lines.insert(int(rng.integers(len(lines))), ",".join(row).encode("gb18030"))
            self.ledger.bad[r][kind] += 1
        days = self.snapshot_days()
        if day == days[-2]:  # one file has one byte that GB18030 does not know
            row = spoiled(95)
            at = len(",".join(row[:2]).encode("gb18030")) + 1
            line = ",".join(row).encode("gb18030")
            lines.insert(len(lines) // 2, line[:at] + b"\xff" + line[at:])
            self.ledger.bad[r]["bad_byte"] += 1
        data = b"\r\n".join([",".join(FILE_HEADER).encode("gb18030"), *lines]) + b"\r\n"
        self.deliver_file(f"venue/register/场馆登记_{day:%Y%m%d}.csv", data, r)

    # event.filing ----------------------------------------------------------------------------------------------------

    def filings(
        self, day: date, since: int, upto: int, events: list[Event], without: str | None = None, suffix: str = ""
    ) -> None:
        """The workbook of ``day``: events whose latest change as known at ``upto`` came after ``since``.

        ``without``: a column that somebody deleted. ``suffix`` of the file name tells the mended workbook.
        """
        r, city = "event.filing", self.city
        rng = stream(city.seed, "dirt filings", day.toordinal())
        rows, older = [], []
        for e in events:
            if e.filed_at > upto:
                continue
            status, changed = e.state(upto)
            row = self._filing_row(e, status, changed)
            if changed > since:
                rows.append(row)
            elif changed > since - 7 * 86_400:
                older.append(row)
        self.ledger.true[r] += len(rows)
        extra: list[list[Any]] = []
        if older and rng.random() < 0.6:  # a clerk sends last week's row once more
            extra.append(older[int(rng.integers(len(older)))])
            self.ledger.duplicates[r]["across_files"] += 1
        if rows:
            extra.append(rows[int(rng.integers(len(rows)))])
            self.ledger.duplicates[r]["within_file"] += 1
            columns = {name: i for i, name in enumerate(FILING_HEADER)}
            kinds: list[tuple[str, dict[str, Any]]] = [
                ("bad_date", {"开始日期": "2026-02-30"}), ("text_in_number", {"预计人数": "若干"}),
                ("unknown_district", {"举办区划代码": "310199"}), ("unknown_level", {"赛事级别": "宇宙级"}),
            ]  # fmt: skip
            for k, (kind, change) in enumerate(kinds):
                if (day.toordinal() // 7 + k) % 2 and day != LAST_DATE:
                    continue
                row = list(rows[int(rng.integers(len(rows)))])
                row[columns["填报编号"]] = f"EV2026{900_000 + (day.toordinal() % 10_000) * 10 + k:06d}"
                for name, value in change.items():
                    row[columns[name]] = value
                extra.append(row)
                self.ledger.bad[r][kind] += 1
        rows = rows + extra
        rng.shuffle(rows)
        if without is not None:
            self.ledger.notes[r]["lost_column"] = without
        self.deliver_file(f"event/filing/赛事填报_{day:%Y%m%d}{suffix}.xlsx", _workbook(rows, day, without), r)

    def _filing_row(self, e: Event, status: str, changed: int) -> list[Any]:
        day = to_date(changed)
        return [
            e.filing_id, e.name, e.organizer, e.organizer_uscc, e.organizer_type, SPORTS[e.sport], e.level, e.nature,
            _yes(e.is_assessed), self.city.codes[e.district], e.venue_id, e.place, e.start.isoformat(), e.end.isoformat(),
            e.expected, e.participants if status == "已举办" else None, _yes(e.high_risk), e.permit, status,
            e.filed.isoformat(), e.contact, e.phone, f"{day.isoformat()} {iso_text(changed)[11:19]}",
        ]  # fmt: skip

    # training.athlete ------------------------------------------------------------------------------------------------

    def roster(self, day: date) -> None:
        """The squads' roster of ``day``: all memberships so far, one row each, those that ended included."""
        r = "training.athlete"
        rng = stream(self.city.seed, "dirt roster", day.toordinal())
        rows = [
            [day.isoformat(), m.athlete_no, m.name, m.squad, str(m.member_no), SPORTS[m.sport], m.joined.isoformat(),
             m.left.isoformat() if m.left is not None and m.left <= day else ""]
            for m in self.memberships if m.joined <= day
        ]  # fmt: skip
        self.ledger.true[r] += len(rows)
        copy = rows[int(rng.integers(len(rows)))]
        self.ledger.duplicates[r]["within_file"] += 1
        lines = list(rows)
        columns = {name: i for i, name in enumerate(ROSTER_HEADER)}
        bad: dict[str, dict[str, str]] = {
            "unknown_squad": {"运动队": "SQ99"},
            "left_before_joined": {"离队日期": "2019-12-31", "入队日期": "2020-01-01"},
            "text_in_number": {"队内编号": "队长"},
            "bad_date": {"入队日期": "2026-02-30"},
        }
        for number, (kind, values) in enumerate(bad.items()):
            row = list(rows[int(rng.integers(len(rows)))])
            row[columns["运动员编号"]] = f"SHA{990_000 + number:06d}"
            row[columns["离队日期"]] = ""
            for name, value in values.items():
                row[columns[name]] = value
            lines.insert(int(rng.integers(len(lines))), row)
            self.ledger.bad[r][kind] += 1
        text = "\n".join(",".join(row) for row in (ROSTER_HEADER, *lines, copy)) + "\n"
        self.deliver_file(f"training/athlete/运动员名册_{day:%Y%m%d}.csv", text.encode(), r)

    # training.activity -----------------------------------------------------------------------------------------------

    def device_files(self, files: list[DeviceFile]) -> None:
        """Device files as they are, no dirt among them."""
        self.ledger.true["training.activity"] += len(files)
        for f in files:
            self.deliver_file(f"training/activity/{f.path}", f.data, "training.activity")

    def training(self, index: int, count: int) -> None:
        """The device files of one day, with copies and one damaged file."""
        r, city = "training.activity", self.city
        rng = stream(city.seed, "dirt training", index)
        files = training_day(city, index, count)
        self.ledger.true[r] += len(files)
        for f in files:
            self.deliver_file(f"training/activity/{f.path}", f.data, r)
        plain = [f for f in files if f.path.endswith(".fit")]
        if not plain:
            return
        chosen = plain[int(rng.integers(len(plain)))]
        if rng.random() < 0.1 or index == city.size.days - 3:  # the athlete's phone uploads the same file again
            self.deliver_file(f"training/activity/{_another_name(chosen.path, 1)}", chosen.data, r)
            self.ledger.duplicates[r]["same_bytes_other_name"] += 1
        if rng.random() < 0.05 or index == city.size.days - 4:
            name, data = packed(chosen.data, chosen.path, "gz")
            self.deliver_file(f"training/activity/{name}", data, r)
            self.ledger.duplicates[r]["same_content_compressed"] += 1
        if index == city.size.days - 2:
            self.deliver_file(
                f"training/activity/{_another_name(chosen.path, 2)}", chosen.data[: len(chosen.data) * 6 // 10], r
            )
            self.ledger.bad[r]["truncated_fit"] += 1
            self.ledger.duplicates[r]["salvaged_of_truncated_fit"] += (
                1  # what can be read of it is in the whole file too
            )
            self.ledger.notes[r]["truncated_fit"] = _another_name(chosen.path, 2)


def _another_name(path: str, minutes: int) -> str:
    """The same kind of file name some minutes later: ``SHA000001/202608230931_running.fit`` → ``…0932…``."""
    athlete, name = path.split("/")
    stamp, rest = name.split("_", 1)
    total = int(stamp[8:10]) * 60 + int(stamp[10:12]) + minutes
    return f"{athlete}/{stamp[:8]}{total // 60:02d}{total % 60:02d}_{rest}"


def _clock_text(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}"


def _workbook(rows: list[list[Any]], day: date, without: str | None = None) -> bytes:
    """The filing form as XLSX bytes that depend on nothing but the rows and the day. ``without``: a column left out."""
    header = [name for name in FILING_HEADER if name != without]
    if without is not None:
        at = FILING_HEADER.index(without)
        rows = [row[:at] + row[at + 1 :] for row in rows]
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer, {"in_memory": True})
    book.set_properties({"created": datetime(day.year, day.month, day.day, tzinfo=SHANGHAI), "author": "演示"})
    sheet = book.add_worksheet(FILING_SHEET)
    bold = book.add_format({"bold": True, "align": "center"})
    sheet.merge_range(0, 0, 0, len(header) - 1, FILING_TITLE, bold)
    sheet.write_row(1, 0, header, bold)
    for i, row in enumerate(rows):
        sheet.write_row(i + 2, 0, row)
    sheet.set_column(0, len(header) - 1, 14)
    sheet.freeze_panes(2, 1)
    book.close()
    return buffer.getvalue()
