"""What teams and their physicians write down: plans, sessions with perceived exertion, kinematics, tests, exams, injuries, schooling."""

from __future__ import annotations

from datetime import date, timedelta

from simulation.city import SPORTS, City
from simulation.records.feed import Feed, Form, Row, bounded, daily, days_between, month_before, monthly, weekly, yearly
from simulation.squads import Membership, memberships
from simulation.times import iso_text, midnight, stream

PHASES = ("准备期", "专项期", "竞赛期", "恢复期")
_MEMBERS: dict[tuple[object, int], list[Membership]] = {}


def members(city: City, day: date) -> list[Membership]:
    """Who is in which squad on a day."""
    key = (city.size, city.seed)
    if key not in _MEMBERS:
        _MEMBERS.clear()
        _MEMBERS[key] = memberships(city)
    return [m for m in _MEMBERS[key] if m.on(day)]


def squads(city: City, day: date) -> list[str]:
    return sorted({m.squad for m in members(city, day)})


def plan_no(squad: str, on: date, session: int) -> str:
    """The number that a planned session is known by, in the plan and in the sessions that follow it."""
    return f"TP{squad[2:]}{on:%y%m%d}{session}"


def plans(city: City, day: date, since: date | None) -> list[Row]:
    """The coming week of every squad: one session a day, two on some, none on Sunday."""
    del since
    rows = []
    for squad in squads(city, day):
        for ahead in range(7):
            on = day + timedelta(days=ahead)
            rng = stream(city.seed, f"plan {squad}", on.toordinal())
            for session in range(1, (0 if on.weekday() == 6 else 1 + int(rng.random() < 0.3)) + 1):
                rows.append({
                    "计划编号": plan_no(squad, on, session), "运动队": squad, "训练日期": on.isoformat(), "课次": session,
                    "训练阶段": PHASES[on.month % 4], "训练内容": ("有氧耐力", "专项技术", "力量", "速度", "战术", "恢复")[int(rng.integers(6))],
                    "计划分钟": int(rng.choice([60, 75, 90, 120])), "计划强度": int(rng.integers(3, 9)),
                })  # fmt: skip
    return rows


def sessions(city: City, day: date, since: date | None) -> list[Row]:
    """The sessions that ended yesterday or before: of four athletes three came, and nearly all were asked in time."""
    rows = []
    for on in days_between(since, day, SESSIONS.starts(city)):
        if on.weekday() == 6:
            continue
        rng = stream(city.seed, "sessions", on.toordinal())
        for number, member in enumerate(members(city, on)):
            came, start = rng.random() < 0.75, midnight(on) + int(rng.integers(6 * 3600, 17 * 3600))
            length, rpe, late = int(rng.integers(40, 130)), int(rng.integers(2, 10)), rng.random() < 0.02
            if not came:
                continue
            asked = start + length * 60 + (26 * 3600 if late else 1_800)
            rows.append({
                "log_id": f"TS{on:%y%m%d}{number + 1:05d}", "athlete_no": member.athlete_no, "squad": member.squad,
                "plan_no": plan_no(member.squad, on, 1), "started_at": iso_text(start), "duration_min": length,
                "rpe": None if rng.random() < 0.04 else rpe, "asked_at": iso_text(asked),
            })  # fmt: skip
    return rows


JOINTS = ("踝", "膝", "髋")


def kinematics(city: City, day: date, since: date | None) -> list[Row]:
    """A few captures a day: three joints at ten instants each."""
    rows = []
    for on in days_between(since, day, KINEMATICS.starts(city)):
        rng, there = stream(city.seed, "kinematics", on.toordinal()), members(city, on)
        for capture in range(1, 2 + min(6, city.size.athletes // 60)):
            member = there[int(rng.integers(len(there)))]
            at, rate = midnight(on) + int(rng.integers(9 * 3600, 16 * 3600)), int(rng.choice([120, 240, 500]))
            for point in range(30):
                rows.append({
                    "采集编号": f"KC{on:%y%m%d}{capture:02d}", "点号": point + 1, "运动员编号": member.athlete_no, "项目": SPORTS[member.sport],
                    "采集时间": iso_text(at), "相对秒": round(point // 3 / rate * 8, 4), "关节": JOINTS[point % 3],
                    "角度": round(bounded(rng, 120, 20, 20, 180), 1), "速度": round(bounded(rng, 4, 1.2, 0.1, 12), 2),
                    "帧率": rate, "标定编号": f"CAL{on:%y%m}",
                })  # fmt: skip
    return rows


BODY = (
    ("身高", 178, 8, "cm"),
    ("体重", 70, 8, "kg"),
    ("体脂率", 14, 3, "%"),
    ("握力", 46, 7, "kg"),
    ("纵跳", 48, 7, "cm"),
)
EXAM = (("静息心率", 54, 6), ("收缩压", 116, 8), ("舒张压", 72, 6), ("血红蛋白", 148, 10), ("铁蛋白", 70, 18))


def _tested(city: City, day: date, name: str, share: float) -> list[tuple[Membership, date]]:
    """Athletes tested in the last days of the month before."""
    _, last = month_before(day)
    rng = stream(city.seed, name, last.toordinal())
    return [(m, last - timedelta(days=int(rng.integers(0, 3)))) for m in members(city, last) if rng.random() < share]


def body_tests(city: City, day: date, since: date | None) -> list[Row]:
    del since
    rows = []
    for member, on in _tested(city, day, "body tests", 0.5):
        rng = stream(city.seed, "body test", int(member.athlete_no[3:]), on.toordinal())
        for item, mean, spread, unit in BODY:
            rows.append({
                "测试编号": f"BT{on:%y%m%d}{member.athlete_no[3:]}", "运动员编号": member.athlete_no, "测试日期": on.isoformat(), "测试项目": item,
                "测试值": round(bounded(rng, mean, spread, mean - 3 * spread, mean + 3 * spread), 1), "测试单位": unit,
            })  # fmt: skip
    return rows


def exams(city: City, day: date, since: date | None) -> list[Row]:
    del since
    rows = []
    for member, on in _tested(city, day, "exams", 0.35):
        rng = stream(city.seed, "exam", int(member.athlete_no[3:]), on.toordinal())
        for item, mean, spread in EXAM:
            value = round(bounded(rng, mean, spread, mean - 2.5 * spread, mean + 2.5 * spread), 1)
            rows.append({
                "体检编号": f"HE{on:%y%m%d}{member.athlete_no[3:]}", "运动员编号": member.athlete_no, "体检日期": on.isoformat(), "体检项目": item,
                "体检值": value, "体检结论": "建议复查" if abs(value - mean) > 2 * spread else "未见异常",
            })  # fmt: skip
    return rows


INJURIES = (("KJ", "膝"), ("AL1", "踝"), ("TM2", "大腿"), ("BL", "腰背"), ("SF", "肩"))


def injuries(city: City, day: date, since: date | None) -> list[Row]:
    """One new injury a week and hundred athletes, at least one; those of a month ago come again, healed."""
    rows = []
    for week, healed in ((day - timedelta(days=7), False), (day - timedelta(days=35), True)):
        if healed and since is None:
            continue
        rng, there = stream(city.seed, "injuries", week.toordinal()), members(city, week)
        for number in range(1 + len(there) // 100):
            member, (code, part) = there[int(rng.integers(len(there)))], INJURIES[int(rng.integers(len(INJURIES)))]
            onset, lost = week + timedelta(days=5 + number % 2), int(rng.integers(3, 26))
            if healed and onset + timedelta(days=lost) >= day:
                continue
            rows.append({
                "伤病编号": f"IJ{week:%y%m%d}{number + 1:03d}", "运动员编号": member.athlete_no, "发生日期": onset.isoformat(), "伤病编码": code,
                "部位": part, "伤停天数": lost if healed else (day - onset).days,
                "重返日期": (onset + timedelta(days=lost)).isoformat() if healed else None, "更新时间": iso_text(midnight(day) + 9 * 3600),
            })  # fmt: skip
    return rows


def schooling(city: City, day: date, since: date | None) -> list[Row]:
    """The mid-term record of the young among the athletes: one in three."""
    del since
    on = date(day.year, 11, 6) if (day.month, day.day) >= (11, 6) else date(day.year, 4, 30)
    rows = []
    for member in members(city, on):
        rng = stream(city.seed, "schooling", int(member.athlete_no[3:]))
        if rng.random() < 0.33:
            rows.append({
                "运动员编号": member.athlete_no, "学期": f"{on.year}-{1 if on.month > 8 else 2}", "学段": ("初中", "高中", "大学")[int(rng.integers(3))],
                "成绩等第": ("优", "良", "中", "待提高")[int(rng.integers(4))], "出勤率": round(float(rng.uniform(80, 100)), 1),
                "记录日期": on.isoformat(),
            })  # fmt: skip
    return rows


PLANS = Feed(
    "training.plan", ("计划编号", "运动队", "训练日期", "课次", "训练阶段", "训练内容", "计划分钟", "计划强度"),
    Form("csv", "训练计划"), weekly, plans, "计划编号",
    {"unknown_squad": {"运动队": "SQ99"}, "above_scale": {"计划强度": 11}, "text_in_number": {"计划分钟": "半天"}, "bad_date": {"训练日期": "2026-02-30"}},
)  # fmt: skip
SESSIONS = Feed(
    "training.session_log", ("log_id", "athlete_no", "squad", "plan_no", "started_at", "duration_min", "rpe", "asked_at"),
    Form("ndjson", "session"), daily, sessions, "log_id",
    {"above_scale": {"rpe": 11}, "unknown_squad": {"squad": "SQ99"}, "bad_athlete": {"athlete_no": "运动员甲"},
     "asked_before": {"started_at": "2026-11-01T09:00:00+08:00", "asked_at": "2026-11-01T08:00:00+08:00"}},
)  # fmt: skip
KINEMATICS = Feed(
    "training.kinematics", ("采集编号", "点号", "运动员编号", "项目", "采集时间", "相对秒", "关节", "角度", "速度", "帧率", "标定编号"),
    Form("parquet", "运动学"), daily, kinematics, "采集编号",
    {"unknown_joint": {"关节": "颈"}, "impossible_angle": {"角度": 400.0}, "text_in_number": {"速度": "很快"}},
)  # fmt: skip
BODY_TESTS = Feed(
    "training.body_test", ("测试编号", "运动员编号", "测试日期", "测试项目", "测试值", "测试单位"),
    Form("xlsx", "身体测试", title="运动员身体形态与机能测试（演示）", sheet="身体测试"), monthly(3), body_tests, "测试编号",
    {"unknown_item": {"测试项目": "臂展"}, "impossible_height": {"测试项目": "身高", "测试值": 17.8}, "text_in_number": {"测试值": "约四十"}},
)  # fmt: skip
EXAMS = Feed(
    "training.health_exam", ("体检编号", "运动员编号", "体检日期", "体检项目", "体检值", "体检结论"),
    Form("csv", "体检", "gb18030"), monthly(3), exams, "体检编号",
    {"unknown_conclusion": {"体检结论": "待定"}, "impossible_pressure": {"体检项目": "收缩压", "体检值": 16.0}, "bad_date": {"体检日期": "2026-02-30"}},
)  # fmt: skip
INJURY = Feed(
    "training.injury", ("伤病编号", "运动员编号", "发生日期", "伤病编码", "部位", "伤停天数", "重返日期", "更新时间"),
    Form("csv", "伤病"), weekly, injuries, "伤病编号",
    {"unknown_part": {"部位": "指甲"}, "bad_code": {"伤病编码": "膝伤"}, "back_before": {"重返日期": "2020-01-01"}},
)  # fmt: skip
EDUCATION = Feed(
    "training.education_record", ("运动员编号", "学期", "学段", "成绩等第", "出勤率", "记录日期"),
    Form("csv", "文化教育"), yearly(4, 30), schooling, "运动员编号",
    {"unknown_band": {"成绩等第": "甲上", "运动员编号": "SHA990001"}, "impossible_attendance": {"出勤率": 120, "运动员编号": "SHA990002"},
     "bad_term": {"学期": "2026 秋", "运动员编号": "SHA990003"}},
)  # fmt: skip
FEEDS = (PLANS, SESSIONS, KINEMATICS, BODY_TESTS, EXAMS, INJURY, EDUCATION)
