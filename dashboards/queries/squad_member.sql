-- The squad today: what everybody did in the newest week with sessions, compared with the own four weeks before.
WITH newest AS (
    SELECT max(week_start_date) AS week FROM ads.ads_training__squad_week
),

weeks AS (
    SELECT
        squad_code, athlete_token, member_no, week_start_date, session_count, duration_h, edwards_load, hr_coverage_pct,
        avg(edwards_load) OVER (
            PARTITION BY squad_code, athlete_token ORDER BY week_start_date RANGE BETWEEN INTERVAL 28 DAYS PRECEDING AND INTERVAL 7 DAYS PRECEDING
        ) AS before
    FROM ads.ads_training__squad_week
)

SELECT
    m.squad_code,
    m.member_no,
    m.athlete_name,
    m.member_no || ' 号 ' || m.athlete_name AS member_text,
    s.sport_name,
    m.joined_date,
    coalesce(w.session_count, 0) AS session_count,
    round(w.duration_h, 1) AS duration_h,
    round(w.edwards_load, 0) AS edwards_load,
    CASE WHEN w.before > 0 THEN round(w.edwards_load / w.before, 2) END AS load_ratio,
    round(w.hr_coverage_pct, 0) AS hr_coverage_pct,
    strftime(last.started_at, '%m-%d %H:%M') AS last_session_text
FROM dim.dim_squad_member AS m
LEFT JOIN dim.dim_sport AS s ON m.sport_code = s.sport_code
LEFT JOIN weeks AS w
    ON m.athlete_token = w.athlete_token AND m.squad_code = w.squad_code AND w.week_start_date = (SELECT week FROM newest)
LEFT JOIN (
    SELECT squad_code, athlete_token, max(started_at) AS started_at FROM ads.ads_training__squad_session GROUP BY ALL
) AS last ON m.athlete_token = last.athlete_token AND m.squad_code = last.squad_code
WHERE m.is_current
