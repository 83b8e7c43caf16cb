{{ config(meta={'build': {'strategy': 'replace_window', 'partition_by': ['part_date']}}) }}
-- The limit in force on the day of the sample decides; the limits themselves are compliant values.

with limits as (
    select
        item,
        rule_id,
        value_min,
        value_max,
        coalesce(effective_from, date '1900-01-01') as effective_from,
        coalesce(effective_to, date '9999-12-31') as effective_to
    from {{ source('ods', 'ods_reference__rule') }}
    where subject = 'water_reading'
)

select
    cast({{ digest(["reading.pool_id", "reading.item", "cast(reading.sampled_at as varchar)"]) }} as varchar)
        as reading_id,
    cast(reading.pool_id as varchar) as pool_id,
    cast(unit.venue_id as varchar) as venue_id,
    cast(venue.district_code as varchar) as district_code,
    cast(reading.device_id as varchar) as device_id,
    cast(reading.sampled_at as timestamptz) as sampled_at,
    cast(reading.item as varchar) as item,
    cast(reading.value as double) as reading_value,
    cast(reading.unit as varchar) as unit,
    cast(reading."method" as varchar) as method_code,
    cast(limits.value_min as double) as limit_min,
    cast(limits.value_max as double) as limit_max,
    cast(
        case
            when limits.rule_id is null then null
            else
                (limits.value_min is null or reading.value >= limits.value_min)
                and (limits.value_max is null or reading.value <= limits.value_max)
        end as boolean
    ) as is_compliant,
    cast(limits.rule_id as varchar) as rule_id,
    cast(reading.part_date as date) as part_date
from {{ source('ods', 'ods_supervision__water_reading') }} as reading
left join limits
    on
        reading.item = limits.item
        and reading.part_date >= limits.effective_from
        and reading.part_date <= limits.effective_to
left join {{ ref('dim_venue_unit') }} as unit on reading.pool_id = unit.unit_id
left join {{ ref('dim_venue') }} as venue on unit.venue_id = venue.venue_id
where reading.part_date between {{ window_from() }} and {{ window_to() }}
