{{ config(meta={'build': {'strategy': 'table', 'unbounded': true}}) }}

select
    cast(venue_id as varchar) as venue_id,
    cast(venue_name as varchar) as venue_name,
    cast(venue_type as varchar) as venue_type,
    cast(venue_type_name as varchar) as venue_type_name,
    cast(district_code as varchar) as district_code,
    cast(district_name as varchar) as district_name,
    cast(street_name as varchar) as street_name,
    cast(address as varchar) as address,
    cast(lng as double) as lng,
    cast(lat as double) as lat,
    cast(crs as varchar) as crs,
    cast(is_public as boolean) as is_public,
    cast(open_time as varchar) as open_time,
    cast(close_time as varchar) as close_time,
    cast(unit_count as bigint) as unit_count,
    cast(pool_count as bigint) as pool_count,
    cast(area_m2 as double) as area_m2,
    cast(capacity_count as bigint) as capacity_count,
    cast(main_sport_code as varchar) as main_sport_code
from {{ ref('dim_venue') }}
where is_active and is_public
