{{ config(meta={'build': {'strategy': 'replace_window'}}) }}
-- One row per venue and day with any booking, passage or visit. Concurrency is ins minus outs since midnight, looked at
-- when each five-minute bucket ends, never below zero.

with bookings as (
    select
        venue_id,
        part_date,
        count(*) as booking_count,
        sum(case when is_cancelled_in_time then 1 else 0 end) as cancelled_in_time_count,
        sum(case when is_due then 1 else 0 end) as due_booking_count,
        sum(case when is_due and is_checked_in then 1 else 0 end) as checked_in_count,
        sum(case when is_no_show then 1 else 0 end) as no_show_count
    from {{ ref('dwd_venue__booking') }}
    where part_date between {{ window_from() }} and {{ window_to() }}
    group by venue_id, part_date
),

buckets as (
    select
        venue_id,
        part_date,
        {{ bucket_start('passed_at', 300) }} as bucket_at,
        sum(case when direction = 'in' then 1 else -1 end) as net_count
    from {{ ref('dwd_venue__passage') }}
    where part_date between {{ window_from() }} and {{ window_to() }}
    group by venue_id, part_date, {{ bucket_start('passed_at', 300) }}
),

levels as (
    select
        venue_id,
        part_date,
        bucket_at,
        greatest(
            sum(net_count) over (
                partition by venue_id, part_date
                order by bucket_at asc nulls last
                rows between unbounded preceding and current row
            ),
            0
        ) as concurrent_count
    from buckets
),

ranked as (
    select
        *,
        row_number() over (
            partition by venue_id, part_date
            order by concurrent_count desc nulls last, bucket_at asc nulls last
        ) as peak_no
    from levels
),

-- Counted apart from the peak: a day's passages are public, the five minutes in which they happened are not.
passages as (
    select
        venue_id,
        part_date,
        count(*) as passage_count,
        sum(case when direction = 'in' then 1 else 0 end) as entry_count
    from {{ ref('dwd_venue__passage') }}
    where part_date between {{ window_from() }} and {{ window_to() }}
    group by venue_id, part_date
),

peaks as (
    select
        venue_id,
        part_date,
        max(concurrent_count) as peak_concurrent_count,
        max(case when peak_no = 1 then {{ add_hours('bucket_at', '5.0 / 60') }} end) as peak_at
    from ranked
    group by venue_id, part_date
),

visits as (
    select
        venue_id,
        part_date,
        count(*) as visit_count
    from {{ ref('dwd_venue__visit') }}
    where part_date between {{ window_from() }} and {{ window_to() }}
    group by venue_id, part_date
),

keys as (
    select
        venue_id,
        part_date
    from bookings
    union
    select
        venue_id,
        part_date
    from passages
    union
    select
        venue_id,
        part_date
    from visits
)

select
    cast(keys.venue_id as varchar) as venue_id,
    cast(venue.district_code as varchar) as district_code,
    cast(keys.part_date as date) as part_date,
    cast(coalesce(bookings.booking_count, 0) as bigint) as booking_count,
    cast(coalesce(bookings.cancelled_in_time_count, 0) as bigint) as cancelled_in_time_count,
    cast(coalesce(bookings.due_booking_count, 0) as bigint) as due_booking_count,
    cast(coalesce(bookings.checked_in_count, 0) as bigint) as checked_in_count,
    cast(coalesce(bookings.no_show_count, 0) as bigint) as no_show_count,
    cast(coalesce(passages.passage_count, 0) as bigint) as passage_count,
    cast(coalesce(passages.entry_count, 0) as bigint) as entry_count,
    cast(coalesce(visits.visit_count, 0) as bigint) as visit_count,
    cast(peaks.peak_concurrent_count as bigint) as peak_concurrent_count,
    cast(peaks.peak_at as timestamptz) as peak_at,
    cast(venue.capacity_count as bigint) as capacity_count,
    cast({{ percent('peaks.peak_concurrent_count', 'venue.capacity_count') }} as double) as load_pct
from keys
left join bookings on keys.venue_id = bookings.venue_id and keys.part_date = bookings.part_date
left join passages on keys.venue_id = passages.venue_id and keys.part_date = passages.part_date
left join peaks on keys.venue_id = peaks.venue_id and keys.part_date = peaks.part_date
left join visits on keys.venue_id = visits.venue_id and keys.part_date = visits.part_date
left join {{ ref('dim_venue') }} as venue on keys.venue_id = venue.venue_id
