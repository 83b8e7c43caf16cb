-- 标题：近三十天各项目的预约与爽约
-- 问题：哪个项目的预约最多，订了不来的比例最高的是哪个？
SELECT
    coalesce(s.sport_name, b.sport_code) AS 运动项目,
    count(*) AS 预约数,
    count(*) FILTER (WHERE b.is_checked_in) AS 签到数,
    count(*) FILTER (WHERE b.is_no_show) AS 爽约数,
    round(100.0 * count(*) FILTER (WHERE b.is_no_show) / count(*), 1) AS 爽约率_百分比
FROM dwd.dwd_venue__booking AS b
LEFT JOIN dim.dim_sport AS s ON b.sport_code = s.sport_code
WHERE b.part_date BETWEEN (SELECT max(period_start_date) FROM ads.ads_cockpit__kpi WHERE period_type = 'day' AND kpi_code = 'V-06') - 29
    AND (SELECT max(period_start_date) FROM ads.ads_cockpit__kpi WHERE period_type = 'day' AND kpi_code = 'V-06')
GROUP BY ALL
ORDER BY 预约数 DESC, 运动项目
