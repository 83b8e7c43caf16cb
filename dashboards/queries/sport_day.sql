-- Daily visits by sport with the district's name, so that the district filter reaches it; complete days only.
SELECT s.part_date, s.district_code, d.district_name, s.sport_code, s.sport_name, s.visit_count
FROM ads.ads_cockpit__sport_day AS s
LEFT JOIN (SELECT DISTINCT district_code, district_name FROM ads.ads_cockpit__district_day) AS d USING (district_code)
WHERE s.part_date < CAST((SELECT max(as_of_at) FROM ads.ads_cockpit__kpi) AS DATE)
