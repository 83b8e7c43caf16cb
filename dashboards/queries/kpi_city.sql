-- Indicator values of the whole city.
SELECT
    kpi_code, kpi_name, coalesce(variant_code, '') AS variant_code, coalesce(variant_name, '') AS variant_name,
    period_type, period_start_date, numerator, denominator, value
FROM ads.ads_cockpit__kpi
WHERE district_code = '310000'
