-- Where the figures and the drawing come from.
SELECT
    strftime(max(as_of_at), '%Y年%-m月%-d日 %H:%M') AS as_of_text,
    coalesce((SELECT max(text) FROM catalog_notice WHERE name = '数据声明' AND text <> '正式数据'), '') AS notice
FROM ads.ads_cockpit__kpi
