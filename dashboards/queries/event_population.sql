-- E-01 in its three populations side by side: they count different things and must never be added or mixed.
SELECT
    CASE variant_code WHEN 'platform' THEN 1 WHEN 'department' THEN 2 ELSE 3 END AS position,
    district_code,
    variant_code,
    variant_name,
    value,
    format('{:,}', CAST(coalesce(value, 0) AS BIGINT)) AS value_text,
    coalesce(unit, '') AS unit,
    coalesce((SELECT max(d.definition) FROM kpi_definitions AS d WHERE d.kpi_code = k.kpi_code AND d.variant_code = k.variant_code), '') AS definition,
    strftime(period_start_date, '%Y年%-m月%-d日') || '至' || strftime(least(period_end_date, CAST(as_of_at AS DATE) - 1), '%-m月%-d日') AS period_text,
    strftime(as_of_at, '%-m月%-d日 %H:%M') AS as_of_text,
    CASE WHEN target IS NULL THEN '未设目标'
         ELSE '目标 ' || format('{:,}', CAST(target AS BIGINT)) || ' ' || coalesce(unit, '') || '／年（' || coalesce(target_period, '') || '）'
    END AS target_text,
    coalesce(target_document, '') AS target_document,
    coalesce((
        SELECT '已公布：' || string_agg(f.figure_year || ' 年 ' || format('{:,}', CAST(f.value AS BIGINT)) || ' ' || f.unit, '，' ORDER BY f.figure_year DESC)
            || '（' || max(f.document) || '；' || max(f.method_note) || '）'
        FROM ads.ads_cockpit__official_figure AS f
        WHERE f.kpi_code = k.kpi_code AND f.variant_code = k.variant_code
            AND f.figure_year > (SELECT max(n.figure_year) FROM ads.ads_cockpit__official_figure AS n WHERE n.indicator_code = f.indicator_code) - 3
    ), '') AS published_text,
    CASE WHEN is_target_expired THEN '目标期已结束，仅供参照' ELSE '' END AS expired_text
FROM ads.ads_cockpit__kpi AS k
WHERE kpi_code = 'E-01' AND district_code = (SELECT scope_code FROM catalog_scope)
QUALIFY row_number() OVER (PARTITION BY variant_code ORDER BY period_start_date DESC) = 1
