-- The newest three sentences, with the demonstration notice when the data asks for one.
SELECT
    h.position,
    h.kind,
    h.sentence,
    strftime(h.as_of_at AT TIME ZONE 'Asia/Shanghai', '%Y-%m-%d %H:%M') AS as_of_text,
    h.part_date,
    coalesce((SELECT max(notice) FROM catalog_notice), '') AS notice
FROM ads.ads_cockpit__headline AS h
WHERE h.part_date = (SELECT max(part_date) FROM ads.ads_cockpit__headline)
