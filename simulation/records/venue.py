"""What venues keep besides register, bookings, gates: facilities, opening slots, payments, device heartbeats, safety events."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np

from simulation.bookings import booking_counts, booking_day, told_between
from simulation.city import COURT, City
from simulation.records.feed import Feed, Form, Row, daily, days_between, monthly, weekly
from simulation.sizes import BOOKING_AHEAD_DAYS, LAST_DATE
from simulation.times import iso_text, midnight, noon, stream

NO_VENUE = "V310199-999"
SURFACES = {"swimming": "瓷砖", "badminton": "PVC 地胶", "basketball": "木地板", "table_tennis": "PVC 地胶", "tennis": "丙烯酸",
            "football": "人造草", "volleyball": "木地板", "climbing": "软垫", "athletics": "塑胶"}  # fmt: skip


def present(city: City, day: date) -> City:
    """The city whose numbering of bookings and events is that of ``day``; before generation, that of generation."""
    return city.at(max(0, (day - LAST_DATE).days))


def facilities(city: City, day: date, since: date | None) -> list[Row]:
    """Every unit of the venues that are open on the day, with what the register does not say."""
    del since
    rng = stream(city.seed, "facilities")
    active, rows = city.active(day), []
    for unit in city.units:
        pool = unit.unit_type == "泳池"
        lanes, friction, since_days = (
            int(rng.integers(4, 9)),
            round(float(rng.normal(0.62, 0.06)), 2),
            rng.integers(5, 25),
        )
        if not active[unit.venue]:
            continue
        areas = -(-max(0.0, unit.area_m2 - 250) // 250)
        rows.append({
            "设施日期": day.isoformat(), "单元编码": unit.unit_id, "面层": SURFACES.get(unit.sport, "PVC 地胶"),
            "是否可预订": "是" if unit.sport in COURT else "否", "是否有灯光": "是" if unit.indoor else "否",
            "泳道数": lanes if pool else None, "观察台数": int(2 + areas) if pool else None,
            "扶梯数": (4 if unit.area_m2 >= 500 else 2) if pool else None, "静摩擦系数": friction if pool else None,
            "最近维护日期": (day - timedelta(days=int(since_days))).isoformat(),
        })  # fmt: skip
    return rows


def slots(city: City, day: date, since: date | None) -> list[Row]:
    """The plan of the coming seven days of every unit that can be booked; some are closed, announced in time or not."""
    del since
    active, rows = city.active(day), []
    units = [u for u in city.units if u.sport in COURT or u.unit_type == "泳池"]
    rng = stream(city.seed, "slots", day.toordinal())
    draws = rng.random((len(units), 7, 2))
    for place, unit in enumerate(units):
        venue = city.venues[unit.venue]
        if not active[unit.venue]:
            continue
        for ahead in range(7):
            on = day + timedelta(days=ahead + 1)
            free = draws[place, ahead, 0] < 0.18
            closed = draws[place, ahead, 1] < 0.02
            lead = 9 if draws[place, ahead, 1] < 0.017 else 3  # a few are announced too late
            rows.append({
                "slot_id": f"{unit.unit_id}-{on:%Y%m%d}", "version_no": 1, "unit_id": unit.unit_id, "slot_date": on.isoformat(),
                "open_at": iso_text(midnight(on) + venue.open_s), "close_at": iso_text(midnight(on) + venue.close_s - (3_600 if closed else 0)),
                "is_free": free, "price_cny": 0 if free else 20 + place % 7 * 10, "closure_reason": "maintenance" if closed else None,
                "notice_date": (on - timedelta(days=lead)).isoformat() if closed else None,
            })  # fmt: skip
    return rows


METHODS = np.array(["wechat", "alipay", "digital_cny", "union", "coupon"])


def payments(city: City, day: date, since: date | None) -> list[Row]:
    """What was paid and paid back for bookings: told with the booking's own update, noon to noon."""
    here = present(city, day)
    start = midnight(PAYMENTS.starts(city)) if since is None else noon(since)
    wanted, rows = booking_counts(here), []
    first = max(0, ((since or PAYMENTS.starts(city)) - city.first_date).days - 3)
    venue_of = [city.venues[u.venue].venue_id for u in city.units]
    for index in range(first, min(len(wanted), (day - city.first_date).days + BOOKING_AHEAD_DAYS + 1)):
        b = told_between(booking_day(here, index, int(wanted[index])), start, noon(day))
        for row, status, at, amount in zip(b.update_row, b.update_status, b.update_at, b.update_amount, strict=True):
            number = int(b.number[row])
            opening = status == 0 and amount == b.amount[row]  # an amended booking is settled at the desk
            if not opening and status != 2:
                continue
            kind = "refund" if status == 2 else "payment"
            rows.append({
                "payment_id": f"PY{b.day:%y%m%d}{number:06d}{'R' if status == 2 else 'P'}", "booking_id": f"BK{b.day:%y%m%d}{number:06d}",
                "venue_id": venue_of[b.unit[row]], "kind": kind, "method": str(METHODS[(number + index) % len(METHODS)]),
                "amount_cny": float(amount), "paid_at": iso_text(int(at)), "updated_at": iso_text(int(at)),
            })  # fmt: skip
    return rows


def devices(city: City) -> list[tuple[str, str, str, bool]]:
    """(device, kind, venue, on battery) of everything that reports: gates and water monitors as their own sources name them."""
    gates = [(f"GT-{v.venue_id[1:]}-1", "turnstile", v.venue_id, False) for v in city.venues if v.has_turnstile]
    pools = [
        (f"WQ-{u.unit_id[1:]}", "water_monitor", city.venues[u.venue].venue_id, True)
        for u in city.units
        if u.unit_type == "泳池"
    ]
    return gates + pools


def heartbeats(city: City, day: date, since: date | None) -> list[Row]:
    """Each device every six hours; a few are silent for a while."""
    start = midnight(HEARTBEATS.starts(city)) if since is None else noon(since)
    known, rows = devices(city), []
    number = -(-start // 21_600)
    while number * 21_600 < noon(day):
        rng = stream(city.seed, "heartbeats", int(number))
        silent, delay = rng.random(len(known)), rng.random(len(known))
        for place, (device, kind, venue, battery) in enumerate(known):
            if silent[place] < 0.02:
                continue
            at = number * 21_600 + place % 60
            if at >= noon(day):
                continue
            rows.append({
                "device_id": device, "device_kind": kind, "venue_id": venue, "reported_at": iso_text(int(at)),
                "is_online": bool(silent[place] > 0.04), "battery_pct": round(100 - (number + place * 7) % 90, 1) if battery else None,
                "delay_s": round(float(delay[place]) * 4, 2),
            })  # fmt: skip
        number += 1
    return rows


EVENT_KINDS = ("长时间未出水", "人流超限", "跌倒磕碰", "设施故障", "水质异常")


def safety_events(city: City, day: date, since: date | None) -> list[Row]:
    """About one event a day and thirty venues, each told the next morning with its outcome."""
    pools, rows = [u for u in city.units if u.unit_type == "泳池"], []
    for on in days_between(since, day, SAFETY_EVENTS.starts(city)):
        rng = stream(city.seed, "safety events", on.toordinal())
        for number in range(1 + int(rng.poisson(len(city.venues) / 40))):
            kind = EVENT_KINDS[int(rng.integers(len(EVENT_KINDS)))]
            water = kind in ("长时间未出水", "水质异常")
            unit = pools[int(rng.integers(len(pools)))] if water else city.units[int(rng.integers(len(city.units)))]
            at = midnight(on) + int(rng.integers(8 * 3600, 20 * 3600))
            hurt = kind == "跌倒磕碰"
            rows.append({
                "事件编号": f"SE{on:%y%m%d}{number + 1:04d}", "场馆编码": city.venues[unit.venue].venue_id, "单元编码": unit.unit_id,
                "事件类别": kind, "发生时间": iso_text(at), "持续秒数": int(rng.integers(10, 40)) if kind == "长时间未出水" else None,
                "处置时间": iso_text(at + int(rng.integers(20, 900))), "受伤人数": int(hurt),
                "处置结果": "转送医疗机构" if hurt and rng.random() < 0.3 else "误报" if rng.random() < 0.4 else "现场处置完毕",
                "更新时间": iso_text(midnight(on) + 22 * 3600),
            })  # fmt: skip
    return rows


FACILITIES = Feed(
    "venue.facility",
    ("设施日期", "单元编码", "面层", "是否可预订", "是否有灯光", "泳道数", "观察台数", "扶梯数", "静摩擦系数", "最近维护日期"),
    Form("csv", "场地设施", "gb18030"), monthly(1), facilities, "单元编码",
    {"unknown_unit": {}, "unknown_surface": {"面层": "冰面"}, "text_in_number": {"泳道数": "八条"}, "bad_date": {"最近维护日期": "2026-02-30"}},
)  # fmt: skip
SLOTS = Feed(
    "venue.slot",
    ("slot_id", "version_no", "unit_id", "slot_date", "open_at", "close_at", "is_free", "price_cny", "closure_reason", "notice_date"),
    Form("ndjson", "slot"), weekly, slots, "slot_id",
    {"negative_price": {"price_cny": -10}, "unknown_reason": {"closure_reason": "holiday", "notice_date": "2026-10-01"},
     "closure_without_notice": {"closure_reason": "event", "notice_date": None}, "bad_date": {"slot_date": "2026-02-30"}},
)  # fmt: skip
PAYMENTS = Feed(
    "venue.payment",
    ("payment_id", "booking_id", "venue_id", "kind", "method", "amount_cny", "paid_at", "updated_at"),
    Form("api", "payments", api="payments", api_id="payment_id", api_time="updated_at"), daily, payments, "payment_id",
    {"zero_amount": {"amount_cny": 0}, "unknown_venue": {"venue_id": NO_VENUE}, "text_in_number": {"amount_cny": "面议"}},
)  # fmt: skip
HEARTBEATS = Feed(
    "venue.heartbeat",
    ("device_id", "device_kind", "venue_id", "reported_at", "is_online", "battery_pct", "delay_s"),
    Form("ndjson", "heartbeat", inside={"state": ("is_online", "battery_pct", "delay_s")}), daily, heartbeats, "device_id",
    {"unknown_kind": {"device_kind": "robot"}, "impossible_battery": {"battery_pct": 180.0}, "unknown_venue": {"venue_id": NO_VENUE}},
)  # fmt: skip
SAFETY_EVENTS = Feed(
    "venue.safety_event",
    ("事件编号", "场馆编码", "单元编码", "事件类别", "发生时间", "持续秒数", "处置时间", "受伤人数", "处置结果", "更新时间"),
    Form("csv", "安全事件"), daily, safety_events, "事件编号",
    {"unknown_kind": {"事件类别": "其他事件"}, "negative_injured": {"受伤人数": -1}, "handled_before": {"处置时间": "2020-01-01T08:00:00+08:00"}},
)  # fmt: skip
FEEDS = (FACILITIES, SLOTS, PAYMENTS, HEARTBEATS, SAFETY_EVENTS)
