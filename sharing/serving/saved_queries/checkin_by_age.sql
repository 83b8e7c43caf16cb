-- 标题：近三十天一码健身的人数与年龄段
-- 问题：扫码健身的人以哪个年龄段为多，平均每人来几次？（不足 5 人的单元显示为 <5）
SELECT
    coalesce(age_band, '未登记') AS 年龄段,
    CASE WHEN count(DISTINCT person_token) < 5 THEN '<5' ELSE CAST(count(DISTINCT person_token) AS VARCHAR) END AS 人数,
    CASE WHEN count(DISTINCT person_token) >= 5 THEN count(*) END AS 扫码次数,
    CASE WHEN count(DISTINCT person_token) >= 5 THEN round(count(*) / count(DISTINCT person_token), 2) END AS 人均次数
FROM ods.ods_fitness__checkin
WHERE part_date > (SELECT max(part_date) FROM ods.ods_fitness__checkin) - 30
GROUP BY ALL
ORDER BY 年龄段
