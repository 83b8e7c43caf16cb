{{ config(meta={'build': {
    'strategy': 'replace_window', 'partition_by': ['part_date'],
    'lookback_days': 14, 'lookahead_days': 14, 'reads_clock': 'window'
}}) }}
-- A rescheduled booking moves by at most 14 days; a longer move leaves two rows and fails the uniqueness test, which a
-- full refresh repairs.

with versions as (
    select
        *,
        row_number() over (
            partition by booking_id
            order by updated_at desc nulls last, _ingested_at desc nulls last, _record_no desc nulls last
        ) as recency
    from {{ source('ods', 'ods_venue__booking') }}
    where part_date between {{ window_from(-14) }} and {{ window_to(14) }}
),

latest as (
    select
        *,
        coalesce(
            status = 'cancelled'
            and cancelled_at <= {{ add_hours('slot_start_at', '-1 * ' ~ rule_value('booking.cancel_lead', 'min')) }},
            false
        ) as is_cancelled_in_time
    from versions
    where
        recency = 1
        and part_date between {{ window_from() }} and {{ window_to() }}
)

select
    cast(latest.booking_id as varchar) as booking_id,
    cast(latest.venue_id as varchar) as venue_id,
    cast(latest.unit_id as varchar) as unit_id,
    cast(latest.sport_code as varchar) as sport_code,
    cast(venue.district_code as varchar) as district_code,
    cast(latest.channel as varchar) as channel,
    cast(latest.slot_start_at as timestamptz) as slot_start_at,
    cast(latest.slot_end_at as timestamptz) as slot_end_at,
    cast(latest.person_phone_token as varchar) as person_phone_token,
    cast(latest.amount_cny as decimal(12, 2)) as amount_cny,
    cast(latest.status as varchar) as status,
    cast(latest.created_at as timestamptz) as created_at,
    cast(latest.updated_at as timestamptz) as updated_at,
    cast(latest.cancelled_at as timestamptz) as cancelled_at,
    cast(latest.checked_in_at as timestamptz) as checked_in_at,
    cast(latest.is_cancelled_in_time as boolean) as is_cancelled_in_time,
    cast(latest.status = 'checked_in' as boolean) as is_checked_in,
    cast(latest.part_date < {{ business_date() }} and not latest.is_cancelled_in_time as boolean) as is_due,
    cast(latest.part_date < {{ business_date() }} and not latest.is_cancelled_in_time and latest.status <> 'checked_in' as boolean) as is_no_show,
    cast(latest.part_date as date) as part_date
from latest
left join {{ ref('dim_venue') }} as venue on latest.venue_id = venue.venue_id
