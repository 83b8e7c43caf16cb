-- 标题：近八周每人每周的训练负荷
-- 问题：谁的负荷这周比前几周平均高得多？
WITH weeks AS (
    SELECT
        athlete_token, week_start_date, session_count, duration_h, edwards_load, hr_coverage_pct,
        avg(edwards_load) OVER (
            PARTITION BY athlete_token ORDER BY week_start_date ROWS BETWEEN 4 PRECEDING AND 1 PRECEDING
        ) AS before
    FROM dws.dws_training__weekly_load
)
SELECT
    athlete_token AS 人员标记,
    week_start_date AS 周一,
    session_count AS 训练次数,
    round(duration_h, 1) AS 训练时长_小时,
    round(edwards_load) AS 爱德华兹负荷,
    round(edwards_load / nullif(before, 0), 2) AS 与前四周平均之比,
    round(hr_coverage_pct, 1) AS 心率覆盖率_百分比
FROM weeks
WHERE week_start_date >= (SELECT max(week_start_date) FROM weeks) - 49
ORDER BY 周一 DESC, 与前四周平均之比 DESC NULLS LAST, 人员标记
