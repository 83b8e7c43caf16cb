-- 标题：各项目的心率区间
-- 问题：各运动项目的训练时间落在哪个心率区间？
SELECT
    coalesce(p.sport_name, s.sport_code) AS 运动项目,
    count(*) AS 训练段数,
    count(DISTINCT s.athlete_token) AS 人数,
    round(sum(s.zone1_min) / 60, 1) AS 一区_小时,
    round(sum(s.zone2_min) / 60, 1) AS 二区_小时,
    round(sum(s.zone3_min) / 60, 1) AS 三区_小时,
    round(sum(s.zone4_min) / 60, 1) AS 四区_小时,
    round(sum(s.zone5_min) / 60, 1) AS 五区_小时
FROM dwd.dwd_training__session AS s
LEFT JOIN dim.dim_sport AS p ON s.sport_code = p.sport_code
GROUP BY ALL
ORDER BY 训练段数 DESC, 运动项目
