-- Latest value of each core indicator for the scope of the file (the city or one district), with everything its tile must admit:
-- period, as-of, coverage, quality, numerator and denominator, target and whether the target's period has ended.
-- Times in the serving file are Shanghai local time.
WITH wanted (position, kpi_code, variant_code) AS (
    VALUES (1, 'V-06', 'entries'), (2, 'V-06', 'peak'), (3, 'V-07', NULL), (4, 'V-04', NULL), (5, 'V-05', NULL),
           (6, 'F-01', NULL), (7, 'R-03', NULL), (8, 'E-01', 'platform'), (9, 'E-03', NULL), (10, 'D-02', NULL),
           (11, 'D-06', NULL)
),
chosen AS (
    SELECT
        w.position,
        k.*,
        CASE WHEN k.unit = '%' THEN 100.0 * k.numerator / nullif(k.denominator, 0) ELSE k.value END AS shown
    FROM ads.ads_cockpit__kpi AS k
    INNER JOIN wanted AS w
        ON k.kpi_code = w.kpi_code AND (w.variant_code IS NULL OR k.variant_code = w.variant_code)
    WHERE k.district_code IN ('310000', (SELECT scope_code FROM catalog_scope))
),
own AS (
    SELECT * FROM chosen WHERE district_code = (SELECT scope_code FROM catalog_scope)
),
latest AS (
    SELECT * FROM own
    QUALIFY row_number() OVER (PARTITION BY position ORDER BY period_start_date DESC) = 1
),
recent AS (
    SELECT c.position, c.period_start_date, c.shown,
           min(c.shown) OVER (PARTITION BY c.position) AS low, max(c.shown) OVER (PARTITION BY c.position) AS high
    FROM own AS c
    INNER JOIN latest AS l USING (position)
    WHERE c.period_type = 'day' AND c.period_start_date > l.period_start_date - 30
),
spark AS (
    SELECT position,
           string_agg(
               '<i class="k' || CAST(CAST(round(3 + 17 * (shown - low) / CASE WHEN high > low THEN high - low ELSE 1 END)
                                          AS INTEGER) AS VARCHAR) || '"></i>', '' ORDER BY period_start_date) AS bars
    FROM recent WHERE shown IS NOT NULL GROUP BY position HAVING count(*) > 2
),
-- Which of an indicator's sources is missing something, and why; 数据更新及时率 names every one of them.
missing AS (
    SELECT l.position, '缺：' || string_agg(f.title || '（' || f.reason || '）', '；' ORDER BY f.resource) AS missing_text
    FROM latest AS l
    INNER JOIN kpi_definitions AS d
        ON l.kpi_code = d.kpi_code AND coalesce(l.variant_code, '') = coalesce(d.variant_code, '')
    INNER JOIN ads.ads_cockpit__freshness AS f
        ON f.reason IS NOT NULL AND (l.kpi_code = 'D-02' OR contains(d.sources, '"' || f.resource || '"'))
    GROUP BY l.position
),
joined AS (
    SELECT l.*, s.bars, m.missing_text, p.shown AS before,
        CASE WHEN l.district_code <> '310000' THEN w.shown END AS city_shown
    FROM latest AS l
    LEFT JOIN missing AS m USING (position)
    LEFT JOIN spark AS s USING (position)
    LEFT JOIN own AS p
        ON l.position = p.position AND l.period_type = 'day' AND p.period_type = 'day'
        AND p.period_start_date = l.period_start_date - 7
    LEFT JOIN chosen AS w
        ON w.district_code = '310000' AND l.position = w.position AND l.period_start_date = w.period_start_date
)
SELECT
    position,
    district_code,
    kpi_code,
    CASE WHEN coalesce(variant_name, '') = '' OR variant_code IN ('', 'all') THEN coalesce(kpi_name, kpi_code) ELSE variant_name END AS title,
    shown,
    CASE
        WHEN shown IS NULL THEN '—'
        WHEN unit = '%' THEN format('{:.1f}', shown)
        WHEN abs(shown) >= 1e8 THEN format('{:,.2f}', shown / 1e8)
        WHEN abs(shown) >= 1e5 THEN format('{:,.1f}', shown / 1e4)
        ELSE format('{:,}', CAST(round(shown) AS BIGINT))
    END AS value_text,
    CASE
        WHEN unit = '%' THEN '%'
        WHEN abs(shown) >= 1e8 THEN '亿' || coalesce(unit, '')
        WHEN abs(shown) >= 1e5 THEN '万' || coalesce(unit, '')
        ELSE coalesce(unit, '')
    END AS unit_text,
    CASE period_type
        WHEN 'day' THEN strftime(period_start_date, '%-m月%-d日')
        WHEN 'month' THEN strftime(period_start_date, '%Y年%-m月') || '累计'
        ELSE strftime(period_start_date, '%Y年') || '累计'
    END AS period_text,
    strftime(as_of_at, '%-m月%-d日 %H:%M') AS as_of_text,
    CASE
        WHEN unit = '%' AND denominator IS NOT NULL
            THEN format('{:,}', CAST(numerator AS BIGINT)) || ' ÷ ' || format('{:,}', CAST(denominator AS BIGINT))
        ELSE ''
    END AS fraction_text,
    CASE
        WHEN shown IS NULL OR before IS NULL THEN ''
        WHEN unit = '%' AND abs(shown - before) < 0.05 THEN '与上周同日持平'
        WHEN unit = '%' THEN '较上周同日 ' || format('{:+.1f}', shown - before) || ' 个百分点'
        WHEN before = 0 THEN ''
        WHEN shown = before THEN '与上周同日持平'
        ELSE '较上周同日 ' || format('{:+.1f}', 100.0 * (shown - before) / before) || '%'
    END AS change_text,
    CASE WHEN coverage_pct IS NULL THEN '覆盖 —' ELSE '覆盖 ' || format('{:.0f}', coverage_pct) || '%' END AS coverage_text,
    CASE
        WHEN target IS NULL THEN ''
        ELSE '目标 '
            || CASE WHEN unit = '%' THEN format('{:g}', CASE WHEN target <= 1 THEN 100 * target ELSE target END) || '%'
                    ELSE format('{:,}', CAST(target AS BIGINT)) || ' ' || coalesce(unit, '') END
            || CASE WHEN coalesce(target_period, '') = '' THEN '' ELSE '（' || target_period || '）' END
    END AS target_text,
    coalesce(target_document, '') AS target_document,
    CASE WHEN is_target_expired THEN '目标期已结束' ELSE '' END AS expired_text,
    CASE quality WHEN 'partial' THEN '数据不全' WHEN 'missing' THEN '数据缺失' ELSE '' END AS quality_text,
    coalesce(quality, 'missing') AS quality,
    coalesce(quality_note, '') AS quality_note,
    coalesce(missing_text, '') AS missing_text,
    coalesce(bars, '') AS bars,
    CASE
        WHEN city_shown IS NULL THEN ''
        WHEN unit = '%' THEN '全市 ' || format('{:.1f}', city_shown) || '%'
        WHEN abs(city_shown) >= 1e5 THEN '全市 ' || format('{:,.1f}', city_shown / 1e4) || ' 万' || coalesce(unit, '')
        ELSE '全市 ' || format('{:,}', CAST(round(city_shown) AS BIGINT)) || ' ' || coalesce(unit, '')
    END AS city_text
FROM joined
