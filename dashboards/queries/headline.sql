-- The newest three sentences, with the demonstration notice when the data asks for one.
SELECT
    h.district_code,
    h.position,
    h.kind,
    h.sentence,
    strftime(h.as_of_at, '%Y-%m-%d %H:%M') AS as_of_text,
    h.part_date,
    coalesce((SELECT max(text) FROM catalog_notice WHERE name = '数据声明' AND text <> '正式数据'), '') AS notice
FROM ads.ads_cockpit__headline AS h
WHERE h.part_date = (SELECT max(part_date) FROM ads.ads_cockpit__headline)
    AND h.district_code = (SELECT scope_code FROM catalog_scope)
