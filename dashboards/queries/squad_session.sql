-- The sessions of the squad, the newest first.
SELECT
    t.squad_code,
    t.part_date,
    strftime(t.started_at, '%m-%d %H:%M') AS started_text,
    t.member_no || ' 号 ' || t.athlete_name AS member_text,
    s.sport_name,
    round(t.duration_s / 60, 0) AS duration_min,
    round(t.distance_m / 1000, 1) AS distance_km,
    t.avg_hr_bpm,
    round(t.zone4_min + t.zone5_min, 0) AS hard_min,
    t.started_at
FROM ads.ads_training__squad_session AS t
LEFT JOIN dim.dim_sport AS s ON t.sport_code = s.sport_code
