-- What was officially published, beside what the platform counts. The methods differ: nothing is added up, converted or compared in a ratio.
WITH latest AS (
    SELECT kpi_code, variant_code, value, unit, period_start_date, least(period_end_date, CAST(as_of_at AS DATE) - 1) AS last_date
    FROM ads.ads_cockpit__kpi
    WHERE district_code = '310000'
    QUALIFY row_number() OVER (PARTITION BY kpi_code, variant_code ORDER BY period_start_date DESC) = 1
)

SELECT
    dense_rank() OVER (ORDER BY f.kpi_code IS NULL, f.indicator_code) AS position,
    f.indicator_name,
    CAST(f.figure_year AS BIGINT) AS figure_year,
    CASE WHEN f.value = round(f.value) THEN format('{:,}', CAST(f.value AS BIGINT))
         ELSE rtrim(format('{:,.2f}', f.value), '0') END || ' ' || f.unit AS value_text,
    CASE WHEN f.kpi_code IS NULL THEN '平台没有对应指标'
         WHEN k.value IS NULL THEN '平台暂无数值'
         ELSE strftime(k.period_start_date, '%Y年%-m月%-d日') || '至' || strftime(k.last_date, '%-m月%-d日：') || format('{:,}', CAST(k.value AS BIGINT)) || ' ' || coalesce(k.unit, '') END AS own_text,
    f.method_note,
    f.document,
    f.provenance
FROM ads.ads_cockpit__official_figure AS f
LEFT JOIN latest AS k ON k.kpi_code = f.kpi_code AND k.variant_code = f.variant_code
