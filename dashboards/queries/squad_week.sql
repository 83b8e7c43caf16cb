-- Load of every member by week.
SELECT
    squad_code, week_start_date, member_no || ' 号 ' || athlete_name AS member_text, session_count, duration_h,
    zone1_min, zone2_min, zone3_min, zone4_min, zone5_min, edwards_load, hr_coverage_pct
FROM ads.ads_training__squad_week
