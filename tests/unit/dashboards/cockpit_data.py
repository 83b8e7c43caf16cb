"""A serving folder with the columns of the interface and invented figures, for cockpit tests without the pipeline.

Deterministic (hash of the keys, no random state) and set-based. Used only when TIYU_SERVING_ROOT is not given.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb

from dashboards import access
from tests.unit.dashboards import squad_data

NOTICE = "演示数据，非真实统计"
FIRST, LAST, AS_OF = "2026-08-23", "2026-11-19", "2026-11-20 12:00:00"

DISTRICTS = """(VALUES
 ('310101','黄浦区',662030),('310104','徐汇区',1113078),('310105','长宁区',693051),('310106','静安区',975707),
 ('310107','普陀区',1239800),('310109','虹口区',757498),('310110','杨浦区',1242548),('310112','闵行区',2653489),
 ('310113','宝山区',2235218),('310114','嘉定区',1834258),('310115','浦东新区',5681512),('310116','金山区',822776),
 ('310117','松江区',1909713),('310118','青浦区',1271424),('310120','奉贤区',1140872),('310151','崇明区',637921)
) AS d(district_code, district_name, population_count)"""

SPORTS = """(VALUES ('swimming','游泳',22),('badminton','羽毛球',20),('fitness','健身',18),('basketball','篮球',14),
 ('football','足球',9),('table_tennis','乒乓球',7),('tennis','网球',5),('dance','广场舞',3),('climbing','攀岩',1),
 ('volleyball','排球',1)) AS s(sport_code, sport_name, weight)"""

SCRIPT = f"""
SET TimeZone = 'Asia/Shanghai';
CREATE SCHEMA ads;
CREATE TEMP TABLE dd AS
  SELECT d.*, CAST(t.day AS DATE) AS part_date,
         (hash(district_code || CAST(t.day AS DATE)) % 1000) / 1000.0 AS u,
         (hash('p' || district_code || CAST(t.day AS DATE)) % 1000) / 1000.0 AS u2
  FROM {DISTRICTS}, (SELECT unnest(generate_series(DATE '{FIRST}', DATE '{LAST}', INTERVAL 1 DAY)) AS day) AS t;
CREATE TABLE ads.ads_cockpit__district_day AS
  SELECT part_date, district_code, district_name,
    CAST(population_count * 0.0004 * (0.8 + 0.4 * u) * CASE WHEN isodow(part_date) > 5 THEN 1.6 ELSE 1 END AS BIGINT) AS visit_count,
    CAST(population_count * 0.00034 * (0.8 + 0.4 * u) * CASE WHEN isodow(part_date) > 5 THEN 1.6 ELSE 1 END AS BIGINT) AS entry_count,
    CAST(population_count * 0.00012 * (0.7 + 0.6 * u) AS BIGINT) AS booking_count,
    CAST(population_count * 0.0001 * (0.7 + 0.6 * u2) AS BIGINT) AS checkin_count,
    100 - 4.0 * u2 AS water_compliant_pct,
    visit_count / population_count * 10000 AS visit_per_10k
  FROM dd;
CREATE TABLE ads.ads_cockpit__sport_day AS
  SELECT v.part_date, v.district_code, s.sport_code, s.sport_name, CAST(v.visit_count * s.weight / 100.0 AS BIGINT) AS visit_count
  FROM ads.ads_cockpit__district_day AS v, {SPORTS};
CREATE TABLE ads.ads_cockpit__venue_day AS
  SELECT dd.part_date, 'V' || district_code || '-' || lpad(n::VARCHAR, 3, '0') AS venue_id,
    replace(district_name, '区', '') || ['体育中心','游泳馆','市民健身中心','全民健身馆'][n] AS venue_name, district_code, district_name,
    CAST(300 + 900 * u AS BIGINT) AS visit_count,
    CAST((200 * n) * (0.35 + 0.68 * ((hash(venue_id || dd.part_date) % 1000) / 1000.0) ** 2) AS BIGINT) AS peak_concurrent_count,
    CAST(200 * n AS BIGINT) AS capacity_count, 100.0 * peak_concurrent_count / capacity_count AS load_pct
  FROM dd, (SELECT unnest(range(1, 5)) AS n);
CREATE TEMP TABLE parts AS
  SELECT 'V-04' kpi_code, 'day' period_type, part_date period_start_date, part_date period_end_date, district_code, district_name,
         '' variant_code, CAST(booking_count * (0.86 + 0.1 * u) AS BIGINT) numerator, booking_count denominator
    FROM ads.ads_cockpit__district_day JOIN (SELECT district_code dc, part_date pd, u FROM dd) ON dc = district_code AND pd = part_date
  UNION ALL SELECT 'V-05', 'day', part_date, part_date, district_code, district_name, '', CAST(booking_count * (0.03 + 0.05 * u2) AS BIGINT), booking_count
    FROM ads.ads_cockpit__district_day JOIN (SELECT district_code dc, part_date pd, u2 FROM dd) ON dc = district_code AND pd = part_date
  UNION ALL SELECT 'V-06', 'day', part_date, part_date, district_code, district_name, 'entries', entry_count, NULL FROM ads.ads_cockpit__district_day
  UNION ALL SELECT 'V-06', 'day', part_date, part_date, district_code, any_value(district_name), 'peak', max(peak_concurrent_count), NULL FROM ads.ads_cockpit__venue_day GROUP BY part_date, district_code
  UNION ALL SELECT 'V-07', 'day', part_date, part_date, district_code, district_name, '', arg_max(peak_concurrent_count, load_pct), arg_max(capacity_count, load_pct) FROM ads.ads_cockpit__venue_day GROUP BY ALL
  UNION ALL SELECT 'R-03', 'day', part_date, part_date, district_code, district_name, '', CAST(240 - 12 * u2 * u AS BIGINT), 240 FROM dd WHERE district_code <> '310151'
  UNION ALL SELECT 'F-01', 'month', date_trunc('month', part_date)::DATE, least(last_day(part_date), DATE '{LAST}'), district_code, any_value(district_name), '', CAST(sum(checkin_count) * 0.3 AS BIGINT), NULL
    FROM ads.ads_cockpit__district_day GROUP BY ALL
  UNION ALL SELECT 'E-03', 'month', date_trunc('month', part_date)::DATE, least(last_day(part_date), DATE '{LAST}'), district_code, any_value(district_name), '', CAST(6 + 6 * min(u) AS BIGINT), 14
    FROM dd GROUP BY ALL;
CREATE TEMP TABLE city AS
  SELECT kpi_code, period_type, period_start_date, max(period_end_date) period_end_date, '310000' district_code, '上海市' district_name, variant_code,
    CASE WHEN kpi_code = 'V-07' THEN arg_max(numerator, numerator / denominator) WHEN variant_code = 'peak' THEN max(numerator) ELSE sum(numerator) END AS numerator,
    CASE WHEN kpi_code = 'V-07' THEN arg_max(denominator, numerator / denominator) ELSE sum(denominator) END AS denominator
  FROM parts GROUP BY kpi_code, period_type, period_start_date, variant_code
  UNION ALL SELECT 'E-01', 'year', DATE '2026-01-01', DATE '2026-12-31', '310000', '上海市', * FROM (VALUES ('platform', 612, NULL), ('department', 205, NULL), ('assessed', 11, NULL))
  UNION ALL SELECT 'D-02', 'day', DATE '2026-11-20', DATE '2026-11-20', '310000', '上海市', '', 6, 7
  UNION ALL SELECT 'D-06', 'day', DATE '2026-11-20', DATE '2026-11-20', '310000', '上海市', '', 412, 412;
CREATE TABLE ads.ads_cockpit__kpi AS
  WITH names (kpi_code, variant_code, kpi_name, variant_name, unit, is_ratio) AS (VALUES
    ('V-04','','预订履约率','','%',true),('V-05','','爽约率','','%',true),('V-06','entries','客流','入场人次','人次',false),
    ('V-06','peak','客流','高峰在场人数','人',false),('V-07','','承载率','','%',true),('R-03','','水质合格率','','%',true),
    ('F-01','','一码健身活跃人数','','人',false),('E-03','','填报及时率','','%',true),
    ('E-01','platform','赛事活动场次','平台服务场次','场次',false),('E-01','department','赛事活动场次','体育部门主办','场次',false),
    ('E-01','assessed','赛事活动场次','评估的国际全国赛事','项',false),('D-02','','数据更新及时率','','%',true),('D-06','','分级覆盖率','','%',true))
  SELECT k.kpi_code, n.kpi_name, k.variant_code, n.variant_name, k.period_type, k.period_start_date, k.period_end_date, k.district_code,
    k.district_name, CAST(k.numerator AS DOUBLE) AS numerator, CAST(k.denominator AS DOUBLE) AS denominator,
    CASE WHEN n.is_ratio THEN 100.0 * k.numerator / k.denominator ELSE k.numerator END AS value, n.unit,
    CASE WHEN k.kpi_code = 'D-02' THEN 100.0 WHEN k.variant_code = 'platform' THEN 150.0 END AS target,
    CASE WHEN k.kpi_code = 'D-02' THEN '上海市公共数据管理要求' WHEN k.variant_code = 'platform' THEN '上海市体育数字化转型“十四五”规划' END AS target_document,
    CASE WHEN k.variant_code = 'platform' THEN '2021–2025' WHEN k.kpi_code = 'D-02' THEN '长期' END AS target_period,
    coalesce(k.variant_code = 'platform', false) AS is_target_expired, TIMESTAMP '{AS_OF}' AS as_of_at,
    CASE WHEN k.kpi_code = 'R-03' THEN 92.0 ELSE 100.0 END AS coverage_pct, CASE WHEN k.kpi_code = 'R-03' THEN 'partial' ELSE 'ok' END AS quality,
    NULL::VARCHAR AS quality_note, '{{"ods_venue__booking": 12}}' AS input_versions, k.period_start_date AS part_date
  FROM (SELECT kpi_code, period_type, period_start_date, period_end_date, district_code, district_name, variant_code, numerator, denominator FROM parts
        UNION ALL BY NAME SELECT * FROM city) AS k JOIN names AS n USING (kpi_code, variant_code);
-- The running day and the days ahead hold bookings only; no chart may show them as days without visitors.
INSERT INTO ads.ads_cockpit__district_day
  SELECT DATE '2026-11-20' + CAST(n AS INTEGER), district_code, district_name, 0, 0, 7, 0, NULL, 0
  FROM {DISTRICTS}, (SELECT unnest(range(0, 7)) AS n);
CREATE TABLE ads.ads_cockpit__headline AS SELECT p.district_code, t.*, TIMESTAMP '{AS_OF}' AS as_of_at, DATE '2026-11-20' AS part_date
  FROM (SELECT district_code, district_name AS place, district_name AS owner FROM {DISTRICTS} UNION ALL SELECT '310000', '全市', '徐汇区') AS p,
  LATERAL (VALUES
  (1, '昨日概况', '昨日' || p.place || '场馆客流 10,236 人次，较上周同日增长 4.1%；预订履约率 91.3%，泳池水质合格率 98.7%。'),
  (2, '最大变化', CASE WHEN p.place = '全市' THEN '闵行区客流较上周同日增长 18.6%，增幅全市最大，主要来自羽毛球与游泳。'
                       ELSE p.place || '体育中心客流较上周同日增长 18.6%，为区内场馆变化最大。' END),
  (3, '需要关注', replace(p.owner, '区', '') || '游泳馆余氯连续两次超限，请' || p.owner || '体育局于 11 月 20 日 18:00 前处置。')) AS t(position, kind, sentence);
CREATE TABLE ads.ads_supervision__alert AS
  SELECT 'A' || lpad(n::VARCHAR, 4, '0') AS alert_id, ['AL-03','AL-10','AL-19','QG-01'][1 + n % 4] AS rule_code, '1' AS rule_version,
    ['red','orange','yellow','info'][1 + (n * 7) % 4] AS severity, 'venue' AS subject_type, 'V' || district_code || '-002' AS subject_id,
    replace(district_name, '区', '') || '游泳馆' AS subject_name, district_code, district_name, 1.6 AS observed_value,
    '余氯 1.6 mg/L' AS observed_text, '不低于 0.3，不高于 1.0' AS threshold_text, 'GB 19079.1-2013 体育场所开放条件 游泳' AS basis_text,
    'V2' AS provenance, n % 4 = 0 AS is_law, TIMESTAMP '{AS_OF}' - to_hours(n * 3) AS opened_at, district_name || '体育局' AS owner_name,
    TIMESTAMP '{AS_OF}' + to_hours(24 - n * 3) AS deadline_at, CASE WHEN n % 5 = 4 THEN 'closed' ELSE 'open' END AS status,
    'dwd_supervision__water_reading' AS evidence, DATE '2026-11-19' AS part_date
  FROM (SELECT unnest(range(0, 16)) AS n) JOIN (SELECT *, row_number() OVER () - 1 AS i FROM {DISTRICTS}) ON i = n;
CREATE TABLE ads.ads_cockpit__freshness AS
  SELECT resource, title, update_cycle, state, CASE state WHEN 'late' THEN '应于 11-20 10:00 前更新，数据只到 2026-11-19' END AS reason,
    DATE '{LAST}' AS latest_data_date, TIMESTAMP '{AS_OF}' AS last_success_at,
    CAST(n AS BIGINT) AS received_count, CAST(n - 30 AS BIGINT) AS accepted_count, CAST(20 AS BIGINT) AS quarantined_count, CAST(10 AS BIGINT) AS duplicate_count
  FROM (VALUES ('venue.register','场馆登记','weekly','fresh',1200),('venue.booking','场馆预订','daily','fresh',81234),('venue.entry','场馆出入','hourly','fresh',402311),
   ('event.filing','赛事填报','weekly','fresh',318),('training.activity','训练记录','daily','fresh',2210),('fitness.checkin','一码健身','daily','fresh',200145),
   ('supervision.water_reading','泳池水质','hourly','late',90412)) AS t(resource, title, update_cycle, state, n);
CREATE TABLE ads.ads_cockpit__official_figure AS
  SELECT *, DATE '2026-03-01' AS list_date FROM (VALUES
    ('department_events', '体育部门主办的赛事活动场次', 2022, 15013.0, '场次', '测试公告', '部门口径', 'V2', 'E-01', 'department'),
    ('department_events', '体育部门主办的赛事活动场次', 2023, 18754.0, '场次', '测试公告', '部门口径', 'V2', 'E-01', 'department'),
    ('area_per_person', '人均体育场地面积', 2023, 2.6, '平方米', '测试公报', '调查口径', 'V2', NULL, NULL))
    AS t(indicator_code, indicator_name, figure_year, value, unit, document, method_note, provenance, kpi_code, variant_code);
CREATE TABLE catalog_notice AS SELECT * FROM (VALUES (1, '数据声明', '{NOTICE}'), (2, '受众', '驾驶舱')) AS t(position, name, text);
CREATE TABLE kpi_definitions AS SELECT DISTINCT kpi_code, variant_code, kpi_name, variant_name, '测试定义：' || kpi_name || variant_name AS definition,
   '分子说明' AS numerator_text, CASE WHEN unit = '%' THEN '分母说明' END AS denominator_text, period_type, '一个区（或全市）一天' AS grain, unit,
   'higher' AS better, max(target) OVER (PARTITION BY kpi_code, variant_code) AS target, max(target_document) OVER (PARTITION BY kpi_code, variant_code) AS target_document,
   max(target_period) OVER (PARTITION BY kpi_code, variant_code) AS target_period, NULL::DATE AS target_end_date, '群众体育处' AS owner_name, 'DESIGN' AS provenance,
   '["venue.booking"]' AS sources FROM ads.ads_cockpit__kpi WHERE district_code = '310000';
CREATE TABLE catalog_scope AS SELECT '310000' AS scope_code, '上海市' AS scope_name;
CREATE TABLE catalog_tables AS SELECT 'ads_cockpit__kpi' AS table_name, '指标' AS title_zh;
"""


CITY_ROWS = ("ads_cockpit__kpi",)
"""Tables in which a district's file keeps the rows of the whole city too."""


def districts() -> dict[str, str]:
    """The sixteen districts: code → name."""
    with duckdb.connect() as connection:
        return dict(connection.execute(f"SELECT district_code, district_name FROM {DISTRICTS} ORDER BY 1").fetchall())


def build(folder: Path, *, scoped: bool = False) -> Path:
    """Write ``cockpit.duckdb``, ``analyst.duckdb``, ``science.duckdb`` and, with ``scoped``, a ``district_<code>.duckdb`` for each district
    and a ``coach_<code>.duckdb`` for each squad into ``folder``; each aside first, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    scopes: dict[str, tuple[str, str] | None] = {"cockpit": None, "analyst": None, "science": None}
    if scoped:
        scopes |= {f"district_{code}": (code, name) for code, name in districts().items()}
        squad_data.build(folder)
    whole = folder / "whole.duckdb.tmp"
    whole.unlink(missing_ok=True)
    with duckdb.connect(str(whole)) as connection:
        connection.execute(SCRIPT)
    for file, scope in scopes.items():
        partial = folder / f"{file}.duckdb.tmp"
        shutil.copyfile(whole, partial)
        with duckdb.connect(str(partial)) as connection:
            if scope is not None:
                _cut(connection, *scope)
            stamp(connection, file.partition("_")[0])
        os.replace(partial, folder / f"{file}.duckdb")
    whole.unlink()
    return folder


def stamp(connection: duckdb.DuckDBPyConnection, audience: str) -> None:
    """Say that the file was cut for this audience under the policy in force."""
    connection.execute("DELETE FROM main.catalog_notice WHERE name = '构建指纹'")
    text = f"invented.{access.policy_digest(audience)}"
    connection.execute("INSERT INTO main.catalog_notice VALUES (9, '构建指纹', ?)", [text])


def _cut(connection: duckdb.DuckDBPyConnection, code: str, name: str) -> None:
    """Keep one district's rows."""
    found = connection.execute(
        "SELECT table_name FROM duckdb_columns() WHERE schema_name = 'ads' AND column_name = 'district_code'"
    ).fetchall()
    for (table,) in found:
        kept = [code, *(["310000"] if table in CITY_ROWS else [])]
        connection.execute(f"DELETE FROM ads.{table} WHERE NOT list_contains(?, coalesce(district_code, ''))", [kept])
    connection.execute("UPDATE catalog_scope SET scope_code = ?, scope_name = ?", [code, name])


if __name__ == "__main__":
    import sys

    print(build(Path(sys.argv[1])))
