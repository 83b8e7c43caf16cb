-- Where the figures and the drawing come from.
SELECT
    strftime(max(as_of_at) AT TIME ZONE 'Asia/Shanghai', '%Y年%-m月%-d日 %H:%M') AS as_of_text,
    coalesce((SELECT max(notice) FROM catalog_notice), '') AS notice
FROM ads.ads_cockpit__kpi
