-- 标题：近七天各区到馆人次
-- 问题：最近七个有数据的日子里，哪个区到馆的人最多，按常住人口平均又是多少？
SELECT
    district_name AS 区,
    sum(visit_count) AS 到馆人次,
    sum(entry_count) AS 闸机入场人次,
    round(sum(visit_per_10k), 1) AS 每万人到馆人次
FROM ads.ads_cockpit__district_day
-- 驾驶舱的每日指标只算到昨天：取到昨天为止的七天
WHERE part_date BETWEEN (SELECT max(period_start_date) FROM ads.ads_cockpit__kpi WHERE period_type = 'day' AND kpi_code = 'V-06') - 6
    AND (SELECT max(period_start_date) FROM ads.ads_cockpit__kpi WHERE period_type = 'day' AND kpi_code = 'V-06')
GROUP BY district_name
ORDER BY 到馆人次 DESC, 区
