{{ config(meta={'build': {'strategy': 'replace_window', 'partition_by': ['part_date']}}) }}

select
    cast(reading_id as varchar) as reading_id,
    cast(pool_id as varchar) as pool_id,
    cast(venue_id as varchar) as venue_id,
    cast(district_code as varchar) as district_code,
    cast(device_id as varchar) as device_id,
    cast(sampled_at as timestamptz) as sampled_at,
    cast(item as varchar) as item,
    cast(reading_value as double) as reading_value,
    cast(unit as varchar) as unit,
    cast(method_code as varchar) as method_code,
    cast(limit_min as double) as limit_min,
    cast(limit_max as double) as limit_max,
    cast(is_compliant as boolean) as is_compliant,
    cast(rule_id as varchar) as rule_id,
    -- The source never changes a reading; it sends another one. So the reading changed last when it was taken.
    cast(sampled_at as timestamptz) as updated_at,
    cast(part_date as date) as part_date
from {{ ref('dwd_supervision__water_reading') }}
where part_date between {{ window_from() }} and {{ window_to() }}
