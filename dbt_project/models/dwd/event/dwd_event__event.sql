{{ config(meta={'build': {'strategy': 'table', 'unbounded': true}}) }}
-- A later filing may move the event to any other date, so the whole (small) table is computed again.

with versions as (
    select
        *,
        min(filed_date) over (partition by filing_id) as first_filed_date,
        row_number() over (
            partition by filing_id
            order by updated_at desc nulls last, _ingested_at desc nulls last, _record_no desc nulls last
        ) as recency
    from {{ source('ods', 'ods_event__filing') }}
)

select
    cast(filing_id as varchar) as filing_id,
    cast(event_name as varchar) as event_name,
    cast(organizer_name as varchar) as organizer_name,
    cast(organizer_uscc as varchar) as organizer_uscc,
    cast(organizer_type as varchar) as organizer_type,
    cast(sport_code as varchar) as sport_code,
    cast(event_level as varchar) as event_level,
    cast(event_type as varchar) as event_type,
    cast(is_assessed as boolean) as is_assessed,
    cast(district_code as varchar) as district_code,
    cast(venue_id as varchar) as venue_id,
    cast(place_name as varchar) as place_name,
    cast(start_date as date) as start_date,
    cast(end_date as date) as end_date,
    cast(expected_count as bigint) as expected_count,
    cast(participant_count as bigint) as participant_count,
    cast(is_high_risk as boolean) as is_high_risk,
    cast(police_permit_no is not null as boolean) as has_police_permit,
    cast(status as varchar) as status,
    cast(first_filed_date as date) as filed_date,
    cast({{ days_between('first_filed_date', 'start_date') }} as bigint) as lead_days,
    cast({{ days_between('start_date', 'end_date') }} + 1 as bigint) as event_day_count,
    cast(status = 'held' as boolean) as is_held,
    cast(updated_at as timestamptz) as updated_at,
    cast(start_date as date) as part_date
from versions
where recency = 1
