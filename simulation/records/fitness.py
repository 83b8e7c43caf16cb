"""Public fitness: physique tests, services of homes for elders, student fitness sums of the schools, sports instructors."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np

from simulation.city import SPORTS, City
from simulation.people import person_names
from simulation.records.feed import Feed, Form, Row, bounded, daily, days_between, monthly, weekly, yearly
from simulation.times import iso_text, midnight, stream

STEPS = np.array([50, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100])
ITEMS = {  # item -> (weight of ages 20-49, domain reference 4.5; mean, spread of the raw value)
    "bmi": (0.05, 23.4, 2.6), "body_fat": (0.10, 22.0, 5.0), "lung": (0.10, 3_300, 600), "vo2max": (0.15, 38, 6), "grip": (0.10, 36, 8),
    "jump": (0.10, 34, 7), "pushup": (0.05, 24, 8), "situp": (0.05, 28, 8), "sit_reach": (0.10, 8, 7), "one_leg": (0.10, 32, 12),
    "reaction": (0.10, 0.52, 0.06),
}  # fmt: skip


def _residents(
    city: City, rng: np.random.Generator, count: int, day: date, low: int, high: int
) -> list[tuple[int, int]]:
    """(person, age) of residents within an age band; the number is drawn, who is not of age is left out."""
    found = []
    for person in rng.integers(0, city.size.people, count * 6):
        if city.people.id_type[person] != "resident_id":
            continue
        born = str(city.people.id_no[person])[6:14]
        age = day.year - int(born[:4]) - ((day.month, day.day) < (int(born[4:6]), int(born[6:])))
        if low <= age <= high:
            found.append((int(person), age))
    return found[:count]


def physique(city: City, day: date, since: date | None) -> list[Row]:
    """Adult tests of whole days: eleven items with a score in the standard's steps, and the weighted total with its rating."""
    rows = []
    for on in days_between(since, day, PHYSIQUE.starts(city)):
        rng = stream(city.seed, "physique", on.toordinal())
        people = _residents(city, rng, max(2, city.size.people // 3_000), on, 20, 49)
        for number, (person, age) in enumerate(people):
            at = iso_text(midnight(on) + int(rng.integers(9 * 3600, 17 * 3600)))
            home = int(city.people.home[person])
            common: Row = {
                "test_id": f"PT{on:%y%m%d}{number + 1:05d}", "station": f"JC-{city.codes[home]}-{number % 3 + 1:02d}", "district": city.codes[home],
                "id_type": "resident_id", "id_no": str(city.people.id_no[person]),
                "sex": "male" if int(str(city.people.id_no[person])[16]) % 2 else "female", "age": age,
            }  # fmt: skip
            total = 0.0
            for item, (weight, mean, spread) in ITEMS.items():
                score = int(rng.choice(STEPS))
                total += weight * score
                value = round(bounded(rng, mean, spread, mean - 2.5 * spread, mean + 2.5 * spread), 2)
                rows.append(common | {"item": item, "value": value, "score": score, "rating": None, "standard": "2023", "exempt_reason": None,
                                      "tested_at": at, "updated_at": at})  # fmt: skip
            total = round(total, 2)
            rating = "excellent" if total >= 83 else "good" if total >= 75 else "pass" if total >= 60 else "fail"
            rows.append(common | {"item": "total", "value": None, "score": total, "rating": rating, "standard": "2023", "exempt_reason": None,
                                  "tested_at": at, "updated_at": at})  # fmt: skip
    return rows


SERVICES = ("体质测试", "基础健康检测", "科学健身指导", "慢性病运动干预", "运动康复", "健康知识", "休闲社交")


def elder_services(city: City, day: date, since: date | None) -> list[Row]:
    """Services of the days since the last delivery, one home a district."""
    rows = []
    for on in days_between(since, day, ELDERS.starts(city) - timedelta(days=7)):
        rng = stream(city.seed, "elder services", on.toordinal())
        for number, (person, _) in enumerate(_residents(city, rng, max(2, city.size.people // 4_000), on, 60, 84)):
            home, measured = int(city.people.home[person]), rng.random() < 0.6
            systolic = round(bounded(rng, 132, 12, 95, 180))
            rows.append({
                "服务编号": f"ES{on:%y%m%d}{number + 1:05d}", "机构名称": f"{city.names[home]}长者运动健康之家", "行政区划代码": city.codes[home],
                "证件类型": "居民身份证", "证件号码": str(city.people.id_no[person]), "服务时间": iso_text(midnight(on) + int(rng.integers(8 * 3600, 16 * 3600))),
                "服务类别": SERVICES[int(rng.integers(len(SERVICES)))], "服务分钟": int(rng.choice([20, 30, 45, 60])),
                "收缩压": systolic if measured else None, "舒张压": systolic - int(rng.integers(40, 60)) if measured else None,
                "风险等级": ("低", "中", "高")[int(rng.choice(3, p=[0.6, 0.33, 0.07]))], "是否完成": "是" if rng.random() < 0.93 else "否",
            })  # fmt: skip
    return rows


GRADES = (("小学", 6), ("初中", 3), ("高中", 3))
STUDENT_ITEMS = ("BMI", "肺活量", "50 米跑", "总分")


def student_sums(city: City, day: date, since: date | None) -> list[Row]:
    """The schools' sums of the school year: by district, grade, sex and item; small cities have fewer districts."""
    del since
    reported = date(day.year, 12, 20) if (day.month, day.day) >= (12, 20) else date(day.year - 1, 12, 20)
    rows = []
    for place, code in enumerate(city.codes[: max(3, min(16, len(city.venues) // 6))]):
        rng = stream(city.seed, "students", reported.year, place)
        for stage, years in GRADES:
            for grade in range(1, years + 1):
                for sex in ("男", "女"):
                    tested = int(rng.integers(400, 4_000))
                    for item in STUDENT_ITEMS:
                        passed = int(tested * rng.uniform(0.9, 0.985))
                        rows.append({
                            "学年": reported.year, "行政区划代码": code, "学段": stage, "年级": grade, "性别": sex, "项目": item, "受测人数": tested,
                            "及格以上人数": passed, "优秀人数": int(passed * rng.uniform(0.08, 0.2)), "平均分": round(float(rng.uniform(74, 84)), 1),
                            "报送日期": reported.isoformat(),
                        })  # fmt: skip
    return rows


def instructors(city: City, day: date, since: date | None) -> list[Row]:
    """Everybody registered: one in 150 of the people who exercise."""
    del since
    count = max(20, city.size.people // 150)
    rng = stream(city.seed, "instructors")
    names, sports = person_names(rng, count), [s for s in SPORTS if s != "other"]
    level, sport, home = (
        rng.choice(4, count, p=[0.03, 0.12, 0.35, 0.5]),
        rng.integers(0, len(sports), count),
        rng.integers(0, 16, count),
    )
    since_days, hours, active = rng.integers(60, 4_000, count), rng.integers(0, 300, count), rng.random(count) < 0.74
    return [
        {
            "名册日期": day.isoformat(), "指导员编号": f"SI{number + 1:06d}", "姓名": names[number], "等级": ("国家级", "一级", "二级", "三级")[level[number]],
            "项目": SPORTS[sports[sport[number]]], "行政区划代码": city.codes[home[number]],
            "发证日期": (date(2026, 9, 1) - timedelta(days=int(since_days[number]))).isoformat(), "是否在岗": "是" if active[number] else "否",
            "服务小时": int(hours[number]) if active[number] else 0,
        }
        for number in range(count)
    ]  # fmt: skip


PHYSIQUE = Feed(
    "fitness.physique_test",
    ("test_id", "item", "station", "district", "id_type", "id_no", "sex", "age", "value", "score", "rating", "standard", "exempt_reason", "tested_at",
     "updated_at"),
    Form("api", "physique-tests", api="physique-tests", api_id="test_id", api_time="updated_at"), daily, physique, "test_id",
    {"not_a_step": {"item": "grip", "score": 61, "rating": None}, "unknown_item": {"item": "dance"},
     "rating_of_another_total": {"item": "total", "value": None, "score": 59.0, "rating": "pass"},
     "bad_check_digit": {"id_no": "990001199001010010"}},
)  # fmt: skip
ELDERS = Feed(
    "fitness.elder_home",
    ("服务编号", "机构名称", "行政区划代码", "证件类型", "证件号码", "服务时间", "服务类别", "服务分钟", "收缩压", "舒张压", "风险等级", "是否完成"),
    Form("csv", "长者服务"), weekly, elder_services, "服务编号",
    {"unknown_service": {"服务类别": "理发"}, "pressure_reversed": {"收缩压": 80, "舒张压": 120}, "text_in_number": {"服务分钟": "一上午"}},
)  # fmt: skip
STUDENTS = Feed(
    "fitness.student_fitness",
    ("学年", "行政区划代码", "学段", "年级", "性别", "项目", "受测人数", "及格以上人数", "优秀人数", "平均分", "报送日期"),
    Form("xlsx", "学生体质", title="学生体质健康汇总（演示）", sheet="学生体质"), yearly(12, 20), student_sums, "年级",
    {"more_pass_than_tested": {"年级": 97, "受测人数": 10, "及格以上人数": 11, "优秀人数": 1}, "unknown_item": {"年级": 98, "项目": "铅球"},
     "text_in_number": {"年级": 99, "平均分": "良"}},
)  # fmt: skip
INSTRUCTORS = Feed(
    "fitness.instructor", ("名册日期", "指导员编号", "姓名", "等级", "项目", "行政区划代码", "发证日期", "是否在岗", "服务小时"),
    Form("csv", "指导员", "gb18030"), monthly(1), instructors, "指导员编号",
    {"unknown_level": {"等级": "特级"}, "unknown_district": {"行政区划代码": "310199"}, "negative_hours": {"服务小时": -5}},
)  # fmt: skip
FEEDS = (PHYSIQUE, ELDERS, STUDENTS, INSTRUCTORS)
