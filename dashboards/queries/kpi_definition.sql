-- What each indicator means, as published with the data.
SELECT
    kpi_code,
    CASE WHEN coalesce(variant_name, '') = '' THEN kpi_name ELSE kpi_name || '：' || variant_name END AS title,
    definition,
    numerator_text,
    coalesce(denominator_text, '—') AS denominator_text,
    grain,
    CASE WHEN target IS NULL THEN '未设'
         ELSE format('{:,}', CAST(target AS BIGINT)) || ' ' || unit || '（' || coalesce(target_period, '') || '）' END AS target_text,
    coalesce(target_document, '—') AS target_document,
    CASE WHEN sources IS NULL THEN '—' ELSE regexp_replace(sources, '[\[\]"]', '', 'g') END AS sources,
    owner_name,
    provenance
FROM kpi_definitions
