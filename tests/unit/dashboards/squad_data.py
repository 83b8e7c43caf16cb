"""Coaches' serving files with invented figures, beside those of `cockpit_data`: one a squad, for cockpit tests without the pipeline."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from dashboards import access

TABLES = ("dim.dim_squad_member", "ads.ads_training__squad_session", "ads.ads_training__squad_week")
MEMBERS = 9

#: Every squad's rows; times as Shanghai local time, as in a file. Deterministic by the hash of the keys.
SCRIPT = f"""
CREATE SCHEMA IF NOT EXISTS ads;
CREATE SCHEMA IF NOT EXISTS dim;
CREATE TABLE dim.dim_sport AS SELECT * FROM (VALUES ('running', '跑步'), ('cycling', '骑行')) AS t(sport_code, sport_name);
CREATE TABLE dim.dim_squad_member AS
  SELECT 'token_k1_' || md5(code || n) AS athlete_token, code AS squad_code, name AS squad_name, CAST(n AS INTEGER) AS member_no,
    ['张**', '王*', '李**', '赵**', '钱*', '孙**', '周**', '吴*', '郑**'][n] AS athlete_name, 'running' AS sport_code,
    DATE '2025-01-01' + CAST(n AS INTEGER) AS joined_date, CASE WHEN n = {MEMBERS} THEN DATE '2026-11-14' END AS left_date,
    n < {MEMBERS} AS is_current, DATE '2026-11-20' AS roster_date
  FROM (VALUES {", ".join(f"('{code}', '{name}')" for code, name in access.scopes("coach").items())}) AS s(code, name),
    (SELECT unnest(range(1, {MEMBERS + 1})) AS n);
CREATE TABLE ads.ads_training__squad_session AS
  SELECT m.squad_code, m.squad_name, 'token_k1_' || md5(m.athlete_token || d) AS session_id, m.athlete_token, m.member_no, m.athlete_name,
    m.sport_code, CAST(d AS TIMESTAMP) + to_minutes(CAST(360 + hash(session_id) % 700 AS BIGINT)) AS started_at,
    3000.0 + hash(session_id) % 1800 AS duration_s, 9000.0 + hash(session_id) % 5000 AS distance_m,
    CAST(130 + hash(session_id) % 40 AS INTEGER) AS avg_hr_bpm, 5.0 AS zone1_min, 10.0 + hash(session_id) % 10 AS zone2_min, 20.0 AS zone3_min,
    CAST(hash(session_id) % 12 AS DOUBLE) AS zone4_min, 2.0 AS zone5_min, 2900.0 AS hr_covered_s, CAST(d AS DATE) AS part_date
  FROM dim.dim_squad_member AS m,
    (SELECT unnest(generate_series(DATE '2026-10-05', DATE '2026-11-19', INTERVAL 1 DAY)) AS d)
  WHERE hash(m.athlete_token || d) % 3 = 0 AND (m.left_date IS NULL OR CAST(d AS DATE) <= m.left_date);
CREATE TABLE ads.ads_training__squad_week AS
  SELECT squad_code, squad_name, athlete_token, member_no, athlete_name, CAST(date_trunc('week', part_date) AS DATE) AS week_start_date,
    count(*) AS session_count, sum(duration_s) / 3600 AS duration_h, sum(zone1_min) AS zone1_min, sum(zone2_min) AS zone2_min,
    sum(zone3_min) AS zone3_min, sum(zone4_min) AS zone4_min, sum(zone5_min) AS zone5_min,
    sum(zone1_min + 2 * zone2_min + 3 * zone3_min + 4 * zone4_min + 5 * zone5_min) AS edwards_load, 96.0 AS hr_coverage_pct,
    week_start_date AS part_date
  FROM ads.ads_training__squad_session GROUP BY ALL;
CREATE TABLE IF NOT EXISTS catalog_notice AS SELECT * FROM (VALUES (1, '数据声明', '演示数据，非真实统计'), (2, '受众', '教练员'),
  (3, '业务截至', '2026-11-20 12:00 上海时间')) AS t(position, name, text);
CREATE TABLE IF NOT EXISTS catalog_scope AS SELECT 'SQ01' AS scope_code, '中长跑队' AS scope_name;
"""


def build(folder: Path, *, whole: bool = False) -> Path:
    """Write a ``coach_<code>.duckdb`` for each squad into ``folder``, aside first; ``whole``: each with every squad's rows, as
    if the cut had failed."""
    folder.mkdir(parents=True, exist_ok=True)
    for code, name in access.scopes("coach").items():
        partial = folder / f"coach_{code}.duckdb.tmp"
        partial.unlink(missing_ok=True)
        with duckdb.connect(str(partial)) as connection:
            connection.execute(SCRIPT)
            for table in TABLES if not whole else ():
                connection.execute(f"DELETE FROM {table} WHERE squad_code <> ?", [code])
            connection.execute("UPDATE catalog_scope SET scope_code = ?, scope_name = ?", [code, name])
            text = f"invented.{access.policy_digest('coach')}"
            connection.execute("INSERT INTO catalog_notice VALUES (9, '构建指纹', ?)", [text])
        os.replace(partial, folder / f"coach_{code}.duckdb")
    return folder
