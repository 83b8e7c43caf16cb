"""Declaration of 本队训练, the coach's dashboard: the squad's members, their load and their sessions.

本队 becomes the name of the reader's squad on the screen (``runtime.personalised``). Everything is of the own squad: the file
is cut to it, and a row filter on ``squad_code`` stands behind that.
"""

from __future__ import annotations

from dashboards.cockpit import cards, during, table, trend
from dashboards.model import Chart, Column, Dashboard, Dataset, Metric, Page

C, M = Column, Metric

SQUAD_NOTE = Dataset("squad_note", "本队概况", sql=True, columns=(
    C("squad_code", "VARCHAR", "运动队代码"), C("squad_name", "VARCHAR", "运动队"), C("member_count", "BIGINT", "在队人数"),
    C("roster_text", "VARCHAR", "名册日期"), C("last_session_text", "VARCHAR", "最近一次训练"),
    C("as_of_text", "VARCHAR", "数据截至"), C("notice", "VARCHAR", "数据说明"),
))  # fmt: skip
SQUAD_MEMBER = Dataset("squad_member", "本队队员最近一周", sql=True, columns=(
    C("squad_code", "VARCHAR", "运动队代码"), C("member_no", "INTEGER", "队内编号"), C("athlete_name", "VARCHAR", "姓名"),
    C("member_text", "VARCHAR", "队员"), C("sport_name", "VARCHAR", "主项"), C("joined_date", "DATE", "入队", True),
    C("session_count", "BIGINT", "本周次数"), C("duration_h", "DOUBLE", "本周时长（小时）"),
    C("edwards_load", "DOUBLE", "本周负荷"), C("load_ratio", "DOUBLE", "与前四周之比"),
    C("hr_coverage_pct", "DOUBLE", "心率覆盖率（%）"), C("last_session_text", "VARCHAR", "最近一次"),
))  # fmt: skip
SQUAD_WEEK = Dataset("squad_week", "本队每周负荷", sql=True, time_column="week_start_date",
    columns=(
        C("squad_code", "VARCHAR", "运动队代码"), C("week_start_date", "DATE", "周一", True),
        C("member_text", "VARCHAR", "队员"), C("session_count", "BIGINT", "次数"), C("duration_h", "DOUBLE", "时长（小时）"),
        *(C(f"zone{zone}_min", "DOUBLE", f"第 {zone} 区（分钟）") for zone in range(1, 6)),
        C("edwards_load", "DOUBLE", "负荷"), C("hr_coverage_pct", "DOUBLE", "心率覆盖率（%）"),
    ),
    metrics=(
        M("load", "SUM(edwards_load)", "爱德华兹负荷"),
        *(M(f"zone{zone}", f"SUM(zone{zone}_min) / 60", f"第 {zone} 区（小时）", ",.1f") for zone in range(1, 6)),
    ),
)  # fmt: skip
SQUAD_SESSION = Dataset("squad_session", "本队训练课", sql=True, time_column="part_date", columns=(
    C("squad_code", "VARCHAR", "运动队代码"), C("part_date", "DATE", "日期", True), C("started_text", "VARCHAR", "开始"),
    C("member_text", "VARCHAR", "队员"), C("sport_name", "VARCHAR", "项目"), C("duration_min", "DOUBLE", "时长（分钟）"),
    C("distance_km", "DOUBLE", "距离（公里）"), C("avg_hr_bpm", "INTEGER", "平均心率（次／分）"),
    C("hard_min", "DOUBLE", "第 4、5 区（分钟）"), C("started_at", "TIMESTAMP", "开始时刻", True),
))  # fmt: skip

WHOSE = "squad_code"
BANNER = Chart("squad_banner", "数据说明", "handlebars", SQUAD_NOTE, cards("squad_banner", SQUAD_NOTE, order=WHOSE, limit=1),
               "在队人数、名册日期、数据截至；演示数据在此声明")  # fmt: skip
MEMBERS = Chart("squad_members", "本队队员：最近一周的训练", "table", SQUAD_MEMBER,
                table(["member_no", "athlete_name", "sport_name", "session_count", "duration_h", "edwards_load", "load_ratio",
                       "hr_coverage_pct", "last_session_text"], SQUAD_MEMBER, [("member_no", True)], page=15),
                "与前四周之比高于 1.5 的，训练量增加得快（DESIGN，仅供参考）")  # fmt: skip
LOAD = Chart("squad_load", "本队每周负荷（各队员）", "echarts_timeseries_bar", SQUAD_WEEK,
             trend(["load"], "week_start_date", grain="P1W", groupby=["member_text"], stack="Stack", format=",.0f",
                   x_axis_time_format="%m-%d"),
             "各队员负荷相加；颜色为队员", time_scoped=True)  # fmt: skip
ZONES = Chart("squad_zones", "本队每周心率区间（小时）", "echarts_timeseries_bar", SQUAD_WEEK,
              trend([f"zone{zone}" for zone in range(1, 6)], "week_start_date", grain="P1W", stack="Stack", format=",.1f",
                    x_axis_time_format="%m-%d"),
              "最大心率未知的训练课不计入", time_scoped=True)  # fmt: skip
SESSIONS = Chart("squad_sessions", "本队训练课（新的在前）", "table", SQUAD_SESSION,
                 table(["started_text", "member_text", "sport_name", "duration_min", "distance_km", "avg_hr_bpm", "hard_min"],
                       SQUAD_SESSION, [("started_at", False)], page=15, filters=[during("part_date")]),
                 "一行是一节课", time_scoped=True)  # fmt: skip
NOTES = Chart(
    "squad_notes", "阅读说明", "handlebars", SQUAD_NOTE, cards("squad_notes", SQUAD_NOTE, order=WHOSE, limit=1), ""
)

COACH = Dashboard(
    slug="coach",
    title="本队训练",
    description="教练员看板：本队队员、每周负荷、心率区间与训练课",
    district_dataset=None,
    pages=(
        Page("squad", "队员", (
            ((BANNER, 12, 8),),
            ((MEMBERS, 12, 70),),
            ((LOAD, 6, 56), (ZONES, 6, 56)),
        )),
        Page("sessions", "训练课", (
            ((BANNER, 12, 8),),
            ((SESSIONS, 12, 80),),
        )),
        Page("notes", "说明", (
            ((BANNER, 12, 8),),
            ((NOTES, 12, 40),),
        )),
    ),
)  # fmt: skip
