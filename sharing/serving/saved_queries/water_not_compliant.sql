-- 标题：近七天不合格的水质读数
-- 问题：哪些泳池的哪个项目超出限值，超了几次，最近一次是什么时候？
SELECT
    v.venue_name AS 场馆,
    w.pool_id AS 泳池编码,
    coalesce(c.name, w.item) AS 检测项目,
    count(*) AS 不合格次数,
    max(w.sampled_at) AS 最近一次_上海时间,
    any_value(w.limit_min) AS 下限,
    any_value(w.limit_max) AS 上限
FROM dwd.dwd_supervision__water_reading AS w
LEFT JOIN dim.dim_venue_unit AS u ON w.pool_id = u.unit_id
LEFT JOIN dim.dim_venue AS v ON u.venue_id = v.venue_id
LEFT JOIN ods.ods_reference__code AS c ON c.list_name = 'water_item' AND c.code = w.item
WHERE w.is_compliant = false
    AND w.part_date > (SELECT max(part_date) FROM dwd.dwd_supervision__water_reading) - 7
GROUP BY ALL
ORDER BY 不合格次数 DESC, 场馆, 检测项目
