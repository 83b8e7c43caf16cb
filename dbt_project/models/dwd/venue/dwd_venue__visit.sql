{{ config(meta={'build': {
    'strategy': 'replace_window', 'partition_by': ['part_date'], 'lookback_days': 1, 'lookahead_days': 1
}}) }}
-- A visit is counted once: a check-in together with every turnstile entry it opened is one visit; a check-in without an
-- entry is one; an entry without a check-in is one. One day of reach: a scan and its passage may lie around midnight.

with scans as (
    select *
    from {{ ref('dwd_fitness__checkin') }}
    where part_date between {{ window_from(-1) }} and {{ window_to(1) }}
),

entries as (
    select *
    from {{ ref('dwd_venue__passage') }}
    where
        part_date between {{ window_from(-1) }} and {{ window_to(1) }}
        and direction = 'in'
),

opened as (
    select
        entries.checkin_id,
        min(entries.passed_at) as first_passed_at,
        min(entries.unit_id) as unit_id
    from entries
    where entries.checkin_id is not null
    group by entries.checkin_id
),

visits as (
    select
        concat('c-', scans.checkin_id) as visit_id,
        scans.venue_id,
        coalesce(scans.unit_id, opened.unit_id) as unit_id,
        scans.sport_code,
        case when opened.first_passed_at < scans.scanned_at then opened.first_passed_at else scans.scanned_at end
            as visit_at,
        case when opened.checkin_id is null then 'checkin' else 'both' end as source_type,
        scans.person_token,
        scans.is_minor,
        scans.part_date
    from scans
    left join opened on scans.checkin_id = opened.checkin_id
    where scans.part_date between {{ window_from() }} and {{ window_to() }}

    union all

    select
        concat('e-', entries.passage_id) as visit_id,
        entries.venue_id,
        entries.unit_id,
        cast(null as varchar) as sport_code,
        entries.passed_at as visit_at,
        'entry' as source_type,
        cast(null as varchar) as person_token,
        cast(null as boolean) as is_minor,
        entries.part_date
    from entries
    left join scans on entries.checkin_id = scans.checkin_id
    where
        scans.checkin_id is null
        and entries.part_date between {{ window_from() }} and {{ window_to() }}
)

select
    cast(visits.visit_id as varchar) as visit_id,
    cast(visits.venue_id as varchar) as venue_id,
    cast(visits.unit_id as varchar) as unit_id,
    cast(coalesce(visits.sport_code, unit.sport_code, venue.main_sport_code) as varchar) as sport_code,
    cast(venue.district_code as varchar) as district_code,
    cast(visits.visit_at as timestamptz) as visit_at,
    cast(visits.source_type as varchar) as source_type,
    cast(visits.person_token as varchar) as person_token,
    cast(visits.is_minor as boolean) as is_minor,
    cast(visits.part_date as date) as part_date
from visits
left join {{ ref('dim_venue') }} as venue on visits.venue_id = venue.venue_id
left join {{ ref('dim_venue_unit') }} as unit on visits.unit_id = unit.unit_id
