-- E-01 in its three populations side by side: they count different things and must never be added or mixed.
SELECT
    CASE variant_code WHEN 'platform' THEN 1 WHEN 'department' THEN 2 ELSE 3 END AS position,
    variant_code,
    variant_name,
    value,
    format('{:,}', CAST(coalesce(value, 0) AS BIGINT)) AS value_text,
    coalesce(unit, '') AS unit,
    CASE variant_code
        WHEN 'platform' THEN '经本平台填报并已举办的赛事活动。一项赛事在一个场地举办一天计一场次。'
        WHEN 'department' THEN '其中由体育部门主办、已举办的场次。计数方法同左。'
        WHEN 'assessed' THEN '纳入赛事评估的国际、全国级赛事。按赛事项数计，不按场次计。'
        ELSE ''
    END AS definition,
    strftime(period_start_date, '%Y年') || '1月1日至' || strftime(least(period_end_date, CAST(as_of_at AT TIME ZONE 'Asia/Shanghai' AS DATE) - 1), '%-m月%-d日')
        AS period_text,
    strftime(as_of_at AT TIME ZONE 'Asia/Shanghai', '%-m月%-d日 %H:%M') AS as_of_text,
    CASE WHEN target IS NULL THEN '未设目标'
         ELSE '目标 ' || format('{:,}', CAST(target AS BIGINT)) || ' ' || coalesce(unit, '') || '／年（' || coalesce(target_period, '') || '）'
    END AS target_text,
    coalesce(target_document, '') AS target_document,
    CASE WHEN is_target_expired THEN '目标期已结束，仅供参照' ELSE '' END AS expired_text
FROM ads.ads_cockpit__kpi
WHERE kpi_code = 'E-01' AND district_code = '310000'
QUALIFY row_number() OVER (PARTITION BY variant_code ORDER BY period_start_date DESC) = 1
