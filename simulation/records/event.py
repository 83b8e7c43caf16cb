"""What happens around an event besides its filing: permits, registrations, results, assessments."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np

from simulation.city import City
from simulation.events import Event, make_events
from simulation.people import person_names
from simulation.records.feed import Feed, Form, Row, daily, weekly
from simulation.records.venue import present
from simulation.times import iso_text, midnight, noon, stream

_EVENTS: dict[tuple[object, int, int], list[Event]] = {}


def events_of(city: City, day: date) -> list[Event]:
    """The events known on a day, drawn once for all feeds of the day."""
    here = present(city, day)
    key = (here.size, here.seed, here.number)
    if key not in _EVENTS:
        while len(_EVENTS) > 1:
            del _EVENTS[next(iter(_EVENTS))]
        _EVENTS[key] = make_events(here)
    return _EVENTS[key]


def own(city: City, name: str, event: Event) -> np.random.Generator:
    """The stream of one event for one purpose."""
    return stream(city.seed, name, int(event.filing_id[2:]))


def _window(feed: Feed, city: City, day: date, since: date | None) -> tuple[int, int]:
    """Instants that a delivery covers: after the last noon, up to this one; the first delivery begins a month earlier."""
    return (noon(feed.starts(city) - timedelta(days=31)) if since is None else noon(since)), noon(day)


def approvals(city: City, day: date, since: date | None) -> list[Row]:
    """Permits of large, high-risk and outdoor events, decided two to five days after filing."""
    start, end = _window(APPROVALS, city, day, since)
    rows = []
    for event in events_of(city, day):
        rng = own(city, "approval", event)
        decided = event.filed_at + int(rng.integers(2 * 86_400, 5 * 86_400))
        refused, granted = rng.random() < 0.03, int(event.expected * 1.2)
        if not start < decided <= end:
            continue
        where = city.names[event.district]
        kinds = []
        if event.permit:
            office = "上海市公安局" if event.expected >= 5_000 else f"{where}公安分局"
            kinds.append((event.permit, "大型群众性活动安全许可", office))
        if event.high_risk:
            kinds.append((f"沪体高赛许〔2026〕{event.filing_id[-6:]}号", "高危险性体育赛事活动许可", f"{where}体育局"))
        if event.venue_id is None:
            kinds.append((f"沪体占许〔2026〕{event.filing_id[-6:]}号", "临时占用场地许可", f"{where}体育局"))
        for number, kind, authority in kinds:
            rows.append({
                "许可编号": number, "填报编号": event.filing_id, "许可类别": kind, "许可机关": authority,
                "决定日期": iso_text(decided)[:10], "决定结果": "不予许可" if refused else "准予许可",
                "许可条件": None, "核定人数": None if refused else granted, "有效期止": None if refused else event.end.isoformat(),
                "更新时间": iso_text(decided),
            })  # fmt: skip
    return rows


def entrants(city: City, event: Event) -> list[Row]:
    """Everybody who registers for an event, in order of time; opens two days after filing, closes the evening before."""
    rng = own(city, "registrations", event)
    first, last = event.filed_at + 2 * 86_400, midnight(event.start) - 3_600
    if first >= last:
        return []
    count = min(event.expected, int(rng.integers(6, 20)))
    at = np.sort(rng.integers(first, last, count))
    who, names = rng.integers(0, city.size.people, count), person_names(rng, count)
    fee, serial = int(rng.choice([0, 0, 50, 80, 120])), event.filing_id[2:]
    rows = []
    for number in range(count):
        person = int(who[number])
        born = str(city.people.id_no[person])[6:14] if city.people.id_type[person] == "resident_id" else "19900101"
        minor = (event.start - date(int(born[:4]), int(born[4:6]), int(born[6:]))).days < 18 * 365.25 + 2
        when = iso_text(int(at[number]))
        rows.append({
            "registration_id": f"RG{serial}{number + 1:04d}", "filing_id": event.filing_id,
            "group_name": ("青少年组" if minor else ("公开组", "大众组", "常青组")[number % 3]),
            "id_type": str(city.people.id_type[person]), "id_no": str(city.people.id_no[person]), "name": names[number],
            "phone": str(city.people.phone[person]), "fee": fee, "health_statement": True,
            "guardian_consent_no": f"GC{serial}{number + 1:04d}" if minor and number % 9 else None,
            "status": "confirmed", "registered_at": when, "updated_at": when,
        })  # fmt: skip
    return rows


def registrations(city: City, day: date, since: date | None) -> list[Row]:
    """Registrations of the time since the last delivery; first those of every event that was still to be held."""
    begin = REGISTRATIONS.starts(city)
    end, start = iso_text(noon(day)), "" if since is None else iso_text(noon(since))
    return [
        row
        for event in events_of(city, day)
        if event.start >= begin - timedelta(days=1)
        for row in entrants(city, event)
        if start < row["registered_at"] <= end
    ]


def results(city: City, day: date, since: date | None) -> list[Row]:
    """Results of the events that were held, published the evening of the last day; ranked within their group."""
    start, end = _window(RESULTS, city, day, since)
    rows = []
    for event in events_of(city, day):
        published = midnight(event.end) + 21 * 3_600
        if event.start < REGISTRATIONS.starts(city) or not start < published <= end or event.cancelled:
            continue
        people, rng = entrants(city, event), own(city, "results", event)
        marks = rng.normal(1_800, 240, len(people)).clip(600)
        fate = rng.random(len(people))
        order: dict[str, int] = {}
        for place in np.argsort(marks, kind="stable"):
            person = people[int(place)]
            status = (
                "未出发"
                if fate[place] < 0.06
                else "未完成"
                if fate[place] < 0.1
                else "取消资格"
                if fate[place] < 0.11
                else "有效"
            )
            group = person["group_name"]
            if status == "有效":
                order[group] = order.get(group, 0) + 1
            rows.append({
                "成绩编号": f"RS{person['registration_id'][2:]}", "填报编号": event.filing_id, "报名编号": person["registration_id"],
                "组别": group, "号码布": f"{int(place) + 1:04d}", "用时秒": round(float(marks[place]), 2) if status == "有效" else None,
                "名次": order[group] if status == "有效" else None, "成绩状态": status, "是否破纪录": "否", "发布时间": iso_text(published),
            })  # fmt: skip
    return rows


PARTS = (("关注度", 350), ("专业度", 350), ("贡献度", 300))


def assessments(city: City, day: date, since: date | None) -> list[Row]:
    """The assessed events that ended since the last delivery, or the largest of them; three parts of 1000 points."""
    start, end = _window(ASSESSMENTS, city, day, since)
    ended = [e for e in events_of(city, day) if start < midnight(e.end) + 86_400 <= end and not e.cancelled]
    chosen = [e for e in ended if e.is_assessed] or sorted(ended, key=lambda e: (-e.expected, e.filing_id))[:1]
    rows = []
    for event in chosen:
        rng = own(city, "assessment", event)
        for part, most in PARTS:
            rows.append({
                "填报编号": event.filing_id, "评估指标": part, "得分": round(float(rng.uniform(0.45, 0.95)) * most, 1), "满分": most,
                "评估机构": "赛事评估机构（演示）", "评估依据": "现场问卷、票务与转播数据（演示）", "指标版本": "2025",
                "评估日期": (day - timedelta(days=1)).isoformat(),
            })  # fmt: skip
    return rows


APPROVALS = Feed(
    "event.approval",
    ("许可编号", "填报编号", "许可类别", "许可机关", "决定日期", "决定结果", "许可条件", "核定人数", "有效期止", "更新时间"),
    Form("xlsx", "赛事许可", title="上海市体育赛事活动许可登记（演示）", sheet="赛事许可"), weekly, approvals, "许可编号",
    {"unknown_kind": {"许可类别": "口头同意"}, "unknown_filing": {"填报编号": "EV2026999999"}, "text_in_number": {"核定人数": "若干"},
     "bad_date": {"决定日期": "2026-02-30"}},
)  # fmt: skip
REGISTRATIONS = Feed(
    "event.registration",
    ("registration_id", "filing_id", "group_name", "id_type", "id_no", "name", "phone", "fee", "health_statement", "guardian_consent_no",
     "status", "registered_at", "updated_at"),
    Form("ndjson", "registration"), daily, registrations, "registration_id",
    {"unknown_filing": {"filing_id": "EV2026999999"}, "unknown_status": {"status": "maybe"}, "negative_fee": {"fee": -1},
     "bad_check_digit": {"id_type": "resident_id", "id_no": "990001199001010010"}},
)  # fmt: skip
RESULTS = Feed(
    "event.result",
    ("成绩编号", "填报编号", "报名编号", "组别", "号码布", "用时秒", "名次", "成绩状态", "是否破纪录", "发布时间"),
    Form("xlsx", "赛事成绩", title="体育赛事成绩册（演示）", sheet="成绩"), weekly, results, "成绩编号",
    {"unknown_registration": {"报名编号": "RG2026999999"}, "unknown_status": {"成绩状态": "并列"}, "rank_zero": {"名次": 0, "成绩状态": "有效", "用时秒": 1500},
     "text_in_number": {"用时秒": "三分多"}},
)  # fmt: skip
ASSESSMENTS = Feed(
    "event.assessment",
    ("填报编号", "评估指标", "得分", "满分", "评估机构", "评估依据", "指标版本", "评估日期"),
    Form("csv", "赛事评估"), weekly, assessments, "填报编号",
    {"unknown_filing": {"填报编号": "EV2026999999"}, "above_maximum": {"填报编号": "EV2026999998", "得分": 9999},
     "unknown_indicator": {"填报编号": "EV2026999997", "评估指标": "热度"}},
)  # fmt: skip
FEEDS = (APPROVALS, REGISTRATIONS, RESULTS, ASSESSMENTS)
