-- 标题：近七天徐汇区游泳人次
-- 问题：最近七个有数据的日子里，徐汇区有多少人次游泳？（改区名与项目名即可问别的区、别的项目）
SELECT
    d.district_name AS 区,
    s.sport_name AS 项目,
    sum(s.visit_count) AS 到馆人次
FROM ads.ads_cockpit__sport_day AS s
JOIN dim.dim_district AS d ON d.district_code = s.district_code
WHERE s.part_date BETWEEN (SELECT max(period_start_date) FROM ads.ads_cockpit__kpi WHERE period_type = 'day' AND kpi_code = 'V-06') - 6
    AND (SELECT max(period_start_date) FROM ads.ads_cockpit__kpi WHERE period_type = 'day' AND kpi_code = 'V-06')
    AND d.district_name = '徐汇区'
    AND s.sport_name = '游泳'
GROUP BY d.district_name, s.sport_name
