{{ config(meta={'build': {'strategy': 'replace_window', 'partition_by': ['part_date']}}) }}

select
    cast(concat(entry.device_id, '-', cast(entry.seq_no as varchar)) as varchar) as passage_id,
    cast(entry.device_id as varchar) as device_id,
    cast(entry.seq_no as bigint) as seq_no,
    cast(entry.venue_id as varchar) as venue_id,
    cast(entry.unit_id as varchar) as unit_id,
    cast(venue.district_code as varchar) as district_code,
    cast(entry.direction as varchar) as direction,
    cast(entry."method" as varchar) as method_code,
    cast(entry.passed_at as timestamptz) as passed_at,
    cast(entry.checkin_id as varchar) as checkin_id,
    cast(entry.part_date as date) as part_date
from {{ source('ods', 'ods_venue__entry') }} as entry
left join {{ ref('dim_venue') }} as venue on entry.venue_id = venue.venue_id
where entry.part_date between {{ window_from() }} and {{ window_to() }}
