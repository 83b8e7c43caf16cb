{{ config(meta={'build': {'strategy': 'replace_window'}}) }}
-- Every district has a row on every day the city has data, so that a silent district shows as zero and not as a hole.

with venue_use as (
    select
        part_date,
        district_code,
        sum(visit_count) as visit_count,
        sum(entry_count) as entry_count,
        sum(booking_count) as booking_count
    from {{ ref('dws_venue__daily_use') }}
    where part_date between {{ window_from() }} and {{ window_to() }}
    group by part_date, district_code
),

checkins as (
    select
        part_date,
        district_code,
        checkin_count
    from {{ ref('dws_fitness__daily_checkin') }}
    where part_date between {{ window_from() }} and {{ window_to() }}
),

water as (
    select
        part_date,
        district_code,
        sum(limited_count) as limited_count,
        sum(compliant_count) as compliant_count
    from {{ ref('dws_supervision__daily_water') }}
    where part_date between {{ window_from() }} and {{ window_to() }}
    group by part_date, district_code
),

days as (
    select part_date from venue_use
    union
    select part_date from checkins
    union
    select part_date from water
)

select
    cast(days.part_date as date) as part_date,
    cast(district.district_code as varchar) as district_code,
    cast(district.district_name as varchar) as district_name,
    cast(coalesce(venue_use.visit_count, 0) as bigint) as visit_count,
    cast(coalesce(venue_use.entry_count, 0) as bigint) as entry_count,
    cast(coalesce(venue_use.booking_count, 0) as bigint) as booking_count,
    cast(coalesce(checkins.checkin_count, 0) as bigint) as checkin_count,
    cast({{ percent('water.compliant_count', 'water.limited_count') }} as double) as water_compliant_pct,
    cast(10000.0 * coalesce(venue_use.visit_count, 0) / district.population_count as double) as visit_per_10k
from days
cross join {{ ref('dim_district') }} as district
left join venue_use on days.part_date = venue_use.part_date and district.district_code = venue_use.district_code
left join checkins on days.part_date = checkins.part_date and district.district_code = checkins.district_code
left join water on days.part_date = water.part_date and district.district_code = water.district_code
