-- Visits and load of each venue and day, complete days only.
SELECT part_date, venue_id, coalesce(venue_name, venue_id) AS venue_name, district_code, district_name, visit_count,
    peak_concurrent_count, capacity_count
FROM ads.ads_cockpit__venue_day
WHERE part_date < CAST((SELECT max(as_of_at) FROM ads.ads_cockpit__kpi) AS DATE)
