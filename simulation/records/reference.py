"""What others publish and everybody refers to: district codes, holidays, weather warnings, population, training bases, official figures."""

from __future__ import annotations

from datetime import date, timedelta

from simulation.city import POPULATION, WORDS_A, WORDS_B, City
from simulation.records.feed import Feed, Form, Row, daily, days_between, month_before, monthly, yearly
from simulation.times import iso_text, midnight, stream

STREETS = {  # units of each district, domain reference 6.4; 215 together
    "310101": 10, "310104": 13, "310105": 10, "310106": 14, "310107": 10, "310109": 8, "310110": 12, "310112": 13, "310113": 12, "310114": 10,
    "310115": 36, "310116": 10, "310117": 17, "310118": 11, "310120": 11, "310151": 18,
}  # fmt: skip
RETIRED = (("310102", "南市区", "310101"), ("310103", "卢湾区", "310101"), ("310108", "闸北区", "310106"), ("310119", "南汇区", "310115"),
           ("310225", "南汇县", "310119"), ("310226", "奉贤县", "310120"), ("310227", "松江县", "310117"), ("310228", "金山县", "310116"),
           ("310229", "青浦县", "310118"), ("310230", "崇明县", "310151"))  # fmt: skip
"""Codes no longer given out and what took their place (domain reference 6.4, K-M); in which year is not settled there."""


def _listed(day: date, month: int, on: int) -> date:
    """The day of this year's list, or of last year's while this year's is not out."""
    here = date(day.year, month, on)
    return here if here <= day else date(day.year - 1, month, on)


def districts(city: City, day: date, since: date | None) -> list[Row]:
    """City, districts, retired codes and streets; the names of the streets are invented, their number is not."""
    del since
    listed = _listed(day, 1, 1).isoformat()

    def row(
        code: str, name: str, level: str, parent: str | None, end: str | None = None, successor: str | None = None
    ) -> Row:
        return {"名单日期": listed, "区划代码": code, "区划名称": name, "级别": level, "上级代码": parent, "启用日期": None, "停用日期": end,
                "后继代码": successor}  # fmt: skip

    rows = [row("310000", "上海市", "市", None)]
    rows += [row(code, name, "区", "310000") for code, name in zip(city.codes, city.names, strict=True)]
    rows += [row(code, name, "区", "310000", "2016-12-31", successor) for code, name, successor in RETIRED]
    for code, count in STREETS.items():
        rng = stream(city.seed, "streets", int(code))
        for number in range(1, count + 1):
            name = WORDS_A[int(rng.integers(len(WORDS_A)))] + WORDS_B[int(rng.integers(len(WORDS_B)))]
            rows.append(row(f"{code}{number:03d}", f"{name}街道", "街镇", code))
    return rows


HOLIDAYS = (("元旦", "01-01", "01-03"), ("春节", "02-15", "02-23"), ("清明节", "04-04", "04-06"), ("劳动节", "05-01", "05-05"),
            ("端午节", "06-19", "06-21"), ("中秋节", "09-25", "09-27"), ("国庆节", "10-01", "10-07"))  # fmt: skip
WORKDAYS = (
    ("元旦", "01-04"),
    ("春节", "02-14"),
    ("春节", "02-28"),
    ("劳动节", "05-09"),
    ("国庆节", "09-20"),
    ("国庆节", "10-10"),
)


def holidays(city: City, day: date, since: date | None) -> list[Row]:
    """The arrangement of 2026 (K-M: to be compared with the notice itself)."""
    del city, since
    listed, rows = _listed(day, 1, 5).isoformat(), []
    for name, first, last in HOLIDAYS:
        start, end = date.fromisoformat(f"2026-{first}"), date.fromisoformat(f"2026-{last}")
        for ahead in range((end - start).days + 1):
            rows.append(
                {"名单日期": listed, "日期": (start + timedelta(days=ahead)).isoformat(), "类型": "放假", "节日": name}
            )
    rows += [{"名单日期": listed, "日期": f"2026-{on}", "类型": "调休上班", "节日": name} for name, on in WORKDAYS]
    return rows


TYPES = ("gale", "fog", "cold", "rainstorm", "pollution")


def warnings(city: City, day: date, since: date | None) -> list[Row]:
    """Each district and day: a warning now and then, else a row that says there was none."""
    rows = []
    for on in days_between(since, day, WARNINGS.starts(city)):
        rng = stream(city.seed, "weather", on.toordinal())
        bad, kind, level = (
            rng.random() < 0.25,
            TYPES[int(rng.integers(len(TYPES)))],
            ("blue", "yellow", "orange", "red")[int(rng.choice(4, p=[0.5, 0.32, 0.14, 0.04]))],
        )
        hit = rng.random(len(city.codes)) < 0.6
        for place, code in enumerate(city.codes):
            warned = bad and hit[place]
            at = midnight(on) + (7 * 3600 + place * 60 if warned else 300)
            rows.append({
                "warning_id": f"WW{on:%y%m%d}{code}", "district": code, "type": kind if warned else "none", "level": level if warned else "none",
                "issued_at": iso_text(at), "lifted_at": iso_text(at + 6 * 3600) if warned else None,
            })  # fmt: skip
    return rows


def population(city: City, day: date, since: date | None) -> list[Row]:
    """The census of 2020 (domain reference 6.4); estimates of later years must come from the statistics bureau."""
    del city, since
    return [
        {
            "整理日期": _listed(day, 1, 15).isoformat(),
            "行政区划代码": code,
            "年份": 2020,
            "常住人口": count,
            "来源文件": "第七次全国人口普查公报",
        }
        for code, count in POPULATION.items()
    ]


BASES = (("P1", "东片训练基地", "310115"), ("P2", "南片训练基地", "310112"), ("P3", "西片训练基地", "310118"), ("D1", "一号训练点", "310104"),
         ("D2", "二号训练点", "310110"), ("D3", "三号训练点", "310113"), ("D4", "四号训练点", "310151"))  # fmt: skip
EQUIPMENT = (
    ("力量架", "力量", 24),
    ("功率自行车", "耐力", 18),
    ("跑台", "耐力", 12),
    ("冷热水浴", "恢复", 4),
    ("测力台", "测试", 3),
    ("塑胶跑道", "场地", 1),
)


def training_bases(city: City, day: date, since: date | None) -> list[Row]:
    """Three areas and four sites with their equipment and the hours of the month before."""
    del since
    first, last = month_before(day)
    hours, rows = ((last - first).days + 1) * 12.0, []
    for code, name, district in BASES:
        rng = stream(city.seed, f"base {code}", last.toordinal())
        for equipment, kind, most in EQUIPMENT:
            owned = max(1, int(most * rng.uniform(0.5, 1.0)))
            rows.append({
                "基地编码": code, "基地名称": name, "行政区划代码": district, "器材名称": equipment, "器材类别": kind, "数量": owned,
                "可用小时": hours * owned, "使用小时": round(hours * owned * float(rng.uniform(0.25, 0.8)), 1), "月末日期": last.isoformat(),
            })  # fmt: skip
    return rows


SURVEY = "调查口径，以常住人口为分母"
FIGURES = (  # indicator, name, unit, method note, document, {year: value}, mark; all from the domain reference 4.1, 4.7 and 4.8
    ("area_per_person", "人均体育场地面积", "平方米", "体育场地统计调查，年末常住人口为分母", "上海市体育场地统计调查公报", {2021: 2.44, 2022: 2.51, 2023: 2.6}, "V2 [S22][S23]"),
    ("regular_exercise_share", "经常参加体育锻炼人数比例", "%", SURVEY, "上海市全民健身发展公告", {2019: 43.7, 2021: 49.0, 2023: 50.5}, "V2 [S22][S23]"),
    ("index_600", "全民健身发展指数", "分", "600 指数，六项一级指标各 100 分；2022 年起口径有调整", "上海市全民健身发展公告", {2021: 454.3, 2022: 457.2, 2023: 486.7}, "V2 [S22]"),
    ("department_events", "体育部门主办的赛事活动场次", "场次", "体育部门牵头，不含市场主体自办", "上海市全民健身发展公告", {2022: 15_013, 2023: 18_754}, "V2 [S23]"),
    ("department_participants", "体育部门主办的赛事活动人次", "万人次", "体育部门牵头，不含市场主体自办", "上海市全民健身发展公告", {2022: 901, 2023: 1_122}, "V2 [S23]"),
    ("assessed_events", "纳入评估的国际国内赛事", "场", "赛事影响力评估报告的范围", "上海市体育赛事影响力评估报告", {2019: 163, 2021: 46, 2022: 25, 2023: 118, 2024: 178, 2025: 182}, "V2 [S26]"),
    ("event_direct_impact", "赛事直接经济影响", "亿元", "赛事影响力评估报告的模型", "上海市体育赛事影响力评估报告", {2023: 49.38, 2024: 113.78, 2025: 135}, "V2 [S26]"),
    ("instructors", "社会体育指导员", "人", "登记数，不是在岗数", "上海市全民健身发展公告", {2023: 63_198}, "V2 [S23]"),
    ("orgs_per_10k", "每万人体育健身组织", "个", "登记组织与健身团队合计", "上海市全民健身发展公告", {2022: 30.0, 2023: 30.5}, "V2 [S23]"),
    ("national_pass_rate", "全国国民体质合格率", "%", "第六次国民体质监测，全国样本；与上海数据方法不同", "第六次国民体质监测公报", {2025: 84.9}, "V2 [S32]"),
)  # fmt: skip


def figures(city: City, day: date, since: date | None) -> list[Row]:
    """Figures as they were published, each with its document and what it counts."""
    del city, since
    listed = _listed(day, 3, 1).isoformat()
    return [
        {"整理日期": listed, "指标编码": code, "指标名称": name, "年份": year, "数值": value, "单位": unit, "公布文件": document, "口径说明": note,
         "来源标记": mark}
        for code, name, unit, note, document, values, mark in FIGURES
        for year, value in values.items()
    ]  # fmt: skip


DISTRICTS = Feed(
    "reference.district_code", ("名单日期", "区划代码", "区划名称", "级别", "上级代码", "启用日期", "停用日期", "后继代码"),
    Form("csv", "区划代码"), yearly(1, 1), districts, "区划代码",
    {"unknown_level": {"区划代码": "319901", "级别": "村"}, "short_code": {"区划代码": "3101"}, "successor_without_end": {"区划代码": "319902", "停用日期": None, "后继代码": "310101"}},
)  # fmt: skip
HOLIDAY = Feed(
    "reference.holiday", ("名单日期", "日期", "类型", "节日"), Form("csv", "节假日"), yearly(1, 5), holidays, "日期",
    {"unknown_kind": {"日期": "2026-07-01", "类型": "半天"}, "bad_date": {"日期": "2026-02-30"}, "no_name": {"日期": "2026-07-02", "节日": None}},
)  # fmt: skip
WARNINGS = Feed(
    "reference.weather_warning", ("warning_id", "district", "type", "level", "issued_at", "lifted_at"),
    Form("xml", "warning"), daily, warnings, "warning_id",
    {"unknown_type": {"type": "sandstorm", "level": "blue"}, "unknown_district": {"district": "310199"}, "none_with_level": {"type": "none", "level": "red"}},
)  # fmt: skip
PEOPLE = Feed(
    "reference.population", ("整理日期", "行政区划代码", "年份", "常住人口", "来源文件"),
    Form("xlsx", "常住人口", title="分区常住人口", sheet="常住人口"), yearly(1, 15), population, "来源文件",
    {"unknown_district": {"行政区划代码": "310199"}, "text_in_number": {"年份": 2019, "常住人口": "约百万"}, "nobody": {"年份": 2018, "常住人口": 0}},
)  # fmt: skip
TRAINING_BASES = Feed(
    "reference.training_base", ("基地编码", "基地名称", "行政区划代码", "器材名称", "器材类别", "数量", "可用小时", "使用小时", "月末日期"),
    Form("xlsx", "训练基地", title="训练基地器材与使用（演示）", sheet="训练基地"), monthly(2), training_bases, "器材名称",
    {"more_used_than_there": {"可用小时": 10, "使用小时": 11}, "unknown_kind": {"器材类别": "娱乐"}, "text_in_number": {"数量": "几台"}},
)  # fmt: skip
OFFICIAL = Feed(
    "reference.official_figure", ("整理日期", "指标编码", "指标名称", "年份", "数值", "单位", "公布文件", "口径说明", "来源标记"),
    Form("csv", "官方数据", "gb18030"), yearly(3, 1), figures, "指标编码",
    {"no_method": {"口径说明": None}, "text_in_number": {"数值": "未公布"}, "impossible_year": {"年份": 1923}},
)  # fmt: skip
FEEDS = (DISTRICTS, HOLIDAY, WARNINGS, PEOPLE, TRAINING_BASES, OFFICIAL)
