-- Visits, bookings and scans of each district and day. Only complete days: today is still running, and later days hold
-- nothing but bookings.
SELECT part_date, district_code, district_name, visit_count, entry_count, booking_count, checkin_count, visit_per_10k
FROM ads.ads_cockpit__district_day
WHERE part_date < CAST((SELECT max(as_of_at) FROM ads.ads_cockpit__kpi) AS DATE)
