{{ config(meta={'build': {'strategy': 'replace_window', 'partition_by': ['part_date']}}) }}

select
    cast(checkin.checkin_id as varchar) as checkin_id,
    cast(checkin.venue_id as varchar) as venue_id,
    cast(checkin.unit_id as varchar) as unit_id,
    cast(checkin.sport_code as varchar) as sport_code,
    cast(venue.district_code as varchar) as district_code,
    cast(checkin.scanned_at as timestamptz) as scanned_at,
    cast(checkin.purpose as varchar) as purpose,
    cast(checkin.channel as varchar) as channel,
    cast(checkin.id_type as varchar) as id_type,
    cast(checkin.person_token as varchar) as person_token,
    cast(checkin.birth_year as integer) as birth_year,
    cast(checkin.is_minor as boolean) as is_minor,
    cast(checkin.part_date as date) as part_date
from {{ source('ods', 'ods_fitness__checkin') }} as checkin
left join {{ ref('dim_venue') }} as venue on checkin.venue_id = venue.venue_id
where checkin.part_date between {{ window_from() }} and {{ window_to() }}
