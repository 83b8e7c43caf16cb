{{ config(meta={'build': {'strategy': 'table', 'unbounded': true}}) }}

with snapshots as (
    select
        venue_id,
        min(register_date) as first_seen_date,
        max(register_date) as last_seen_date
    from {{ source('ods', 'ods_venue__register') }}
    group by venue_id
),

newest as (
    select max(register_date) as snapshot_date
    from {{ source('ods', 'ods_venue__register') }}
),

-- The venue as its last snapshot describes it: one register row per unit.
units as (
    select
        register.*,
        snapshots.first_seen_date,
        snapshots.last_seen_date,
        row_number() over (
            partition by register.venue_id, register.unit_id
            order by register._ingested_at desc nulls last, register._record_no desc nulls last
        ) as recency
    from {{ source('ods', 'ods_venue__register') }} as register
    inner join snapshots
        on
            register.venue_id = snapshots.venue_id
            and register.register_date = snapshots.last_seen_date
),

current_units as (
    select
        *,
        row_number() over (partition by venue_id order by unit_id asc nulls last) as unit_no
    from units
    where recency = 1
),

sport_rank as (
    select
        venue_id,
        sport_code,
        row_number() over (
            partition by venue_id
            order by sum({{ exact('area_m2') }}) desc nulls last, count(*) desc nulls last, sport_code asc nulls last
        ) as sport_no
    from current_units
    group by venue_id, sport_code
),

totals as (
    select
        venue_id,
        count(*) as unit_count,
        sum(case when unit_type = 'pool' then 1 else 0 end) as pool_count,
        sum({{ exact('area_m2') }}) as area_m2,
        sum(capacity_count) as capacity_count
    from current_units
    group by venue_id
),

venue_type as (
    select
        code,
        name
    from {{ source('ods', 'ods_reference__code') }}
    where list_name = 'venue_type'
)

select
    cast(venue.venue_id as varchar) as venue_id,
    cast(venue.venue_name as varchar) as venue_name,
    cast(venue.venue_type as varchar) as venue_type,
    cast(coalesce(venue_type.name, venue.venue_type) as varchar) as venue_type_name,
    cast(venue.ownership_type as varchar) as ownership_type,
    cast(venue.operator_uscc as varchar) as operator_uscc,
    cast(venue.district_code as varchar) as district_code,
    cast(district.district_name as varchar) as district_name,
    cast(venue.street_name as varchar) as street_name,
    cast(venue.address as varchar) as address,
    cast(venue.lng as double) as lng,
    cast(venue.lat as double) as lat,
    cast(venue.crs as varchar) as crs,
    cast(venue.is_public as boolean) as is_public,
    cast(venue.open_time as varchar) as open_time,
    cast(venue.close_time as varchar) as close_time,
    cast(totals.unit_count as bigint) as unit_count,
    cast(totals.pool_count as bigint) as pool_count,
    cast(totals.area_m2 as double) as area_m2,
    cast(totals.capacity_count as bigint) as capacity_count,
    cast(sport_rank.sport_code as varchar) as main_sport_code,
    cast(venue.is_location_consistent as boolean) as is_location_consistent,
    cast(venue.first_seen_date as date) as first_seen_date,
    cast(venue.last_seen_date as date) as last_seen_date,
    cast(venue.last_seen_date = newest.snapshot_date as boolean) as is_active
from current_units as venue
inner join totals on venue.venue_id = totals.venue_id
inner join sport_rank on venue.venue_id = sport_rank.venue_id and sport_rank.sport_no = 1
left join {{ ref('dim_district') }} as district on venue.district_code = district.district_code
left join venue_type on venue.venue_type = venue_type.code
cross join newest
where venue.unit_no = 1
