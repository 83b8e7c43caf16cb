-- Indicator values of the districts (not the city row), for trends and rankings that follow the district filter.
SELECT
    kpi_code, kpi_name, coalesce(variant_code, '') AS variant_code, period_type,
    period_start_date, district_code, district_name, numerator, denominator, value
FROM ads.ads_cockpit__kpi
WHERE district_code <> '310000'
