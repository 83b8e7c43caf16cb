{{ config(meta={'build': {'strategy': 'table', 'unbounded': true}}) }}

select
    cast(unit.unit_id as varchar) as unit_id,
    cast(unit.unit_name as varchar) as unit_name,
    cast(unit.unit_type as varchar) as unit_type,
    cast(unit.sport_code as varchar) as sport_code,
    cast(unit.area_m2 as double) as area_m2,
    cast(unit.capacity_count as bigint) as capacity_count,
    cast(unit.is_indoor as boolean) as is_indoor,
    cast(unit.depth_min_m as double) as depth_min_m,
    cast(unit.depth_max_m as double) as depth_max_m,
    cast(venue.venue_id as varchar) as venue_id,
    cast(venue.venue_name as varchar) as venue_name,
    cast(venue.venue_type as varchar) as venue_type,
    cast(venue.ownership_type as varchar) as ownership_type,
    cast(venue.operator_uscc as varchar) as operator_uscc,
    cast(venue.district_code as varchar) as district_code,
    cast(venue.street_name as varchar) as street_name,
    cast(venue.address as varchar) as address,
    cast(venue.lng as double) as lng,
    cast(venue.lat as double) as lat,
    cast(venue.crs as varchar) as crs,
    cast(venue.is_public as boolean) as is_public,
    cast(venue.open_time as varchar) as open_time,
    cast(venue.close_time as varchar) as close_time,
    cast(unit.last_seen_date as date) as register_date
from {{ ref('dim_venue_unit') }} as unit
inner join {{ ref('dim_venue') }} as venue on unit.venue_id = venue.venue_id
where unit.is_active
