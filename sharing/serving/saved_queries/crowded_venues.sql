-- 标题：近七天最拥挤的十个场馆
-- 问题：哪些场馆的最高同时在馆人数最接近（或超过）核定容量，发生在哪一天？
SELECT
    venue_name AS 场馆,
    district_name AS 区,
    part_date AS 日期,
    peak_concurrent_count AS 最高同时在馆人数,
    capacity_count AS 核定容量,
    round(load_pct, 1) AS 负荷率_百分比
FROM ads.ads_cockpit__venue_day
WHERE part_date BETWEEN (SELECT max(period_start_date) FROM ads.ads_cockpit__kpi WHERE period_type = 'day' AND kpi_code = 'V-06') - 6
    AND (SELECT max(period_start_date) FROM ads.ads_cockpit__kpi WHERE period_type = 'day' AND kpi_code = 'V-06')
QUALIFY row_number() OVER (PARTITION BY venue_id ORDER BY load_pct DESC NULLS LAST, part_date) = 1
ORDER BY 负荷率_百分比 DESC NULLS LAST, 场馆
LIMIT 10
