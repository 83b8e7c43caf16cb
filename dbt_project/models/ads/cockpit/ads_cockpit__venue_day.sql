{{ config(meta={'build': {'strategy': 'replace_window'}}) }}

select
    cast(daily_use.part_date as date) as part_date,
    cast(daily_use.venue_id as varchar) as venue_id,
    cast(venue.venue_name as varchar) as venue_name,
    cast(daily_use.district_code as varchar) as district_code,
    cast(venue.district_name as varchar) as district_name,
    cast(daily_use.visit_count as bigint) as visit_count,
    cast(daily_use.peak_concurrent_count as bigint) as peak_concurrent_count,
    cast(daily_use.capacity_count as bigint) as capacity_count,
    cast(daily_use.load_pct as double) as load_pct
from {{ ref('dws_venue__daily_use') }} as daily_use
left join {{ ref('dim_venue') }} as venue on daily_use.venue_id = venue.venue_id
where daily_use.part_date between {{ window_from() }} and {{ window_to() }}
