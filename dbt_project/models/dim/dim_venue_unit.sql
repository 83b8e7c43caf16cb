{{ config(meta={'build': {'strategy': 'table', 'unbounded': true}}) }}

with ranked as (
    select
        *,
        row_number() over (
            partition by unit_id
            order by register_date desc nulls last, _ingested_at desc nulls last, _record_no desc nulls last
        ) as recency
    from {{ source('ods', 'ods_venue__register') }}
),

seen as (
    select
        unit_id,
        max(register_date) as last_seen_date
    from {{ source('ods', 'ods_venue__register') }}
    group by unit_id
),

newest as (
    select max(register_date) as snapshot_date
    from {{ source('ods', 'ods_venue__register') }}
)

select
    cast(ranked.unit_id as varchar) as unit_id,
    cast(ranked.venue_id as varchar) as venue_id,
    cast(ranked.unit_name as varchar) as unit_name,
    cast(ranked.unit_type as varchar) as unit_type,
    cast(ranked.sport_code as varchar) as sport_code,
    cast(ranked.area_m2 as double) as area_m2,
    cast(ranked.capacity_count as bigint) as capacity_count,
    cast(ranked.is_indoor as boolean) as is_indoor,
    cast(ranked.depth_min_m as double) as depth_min_m,
    cast(ranked.depth_max_m as double) as depth_max_m,
    cast(seen.last_seen_date as date) as last_seen_date,
    cast(seen.last_seen_date = newest.snapshot_date as boolean) as is_active
from ranked
inner join seen on ranked.unit_id = seen.unit_id
cross join newest
where ranked.recency = 1
