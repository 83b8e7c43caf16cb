{{ config(meta={'build': {'strategy': 'replace_window', 'partition_by': ['part_date']}}) }}

select
    cast(reading_id as varchar) as reading_id,
    cast(pool_id as varchar) as pool_id,
    cast(device_id as varchar) as device_id,
    cast(sampled_at as timestamptz) as sampled_at,
    cast(item as varchar) as item,
    cast(reading_value as double) as "value",
    cast(unit as varchar) as unit,
    cast(method_code as varchar) as "method",
    -- The source never changes a reading, it sends another one: the reading changed last when it was taken.
    cast(sampled_at as timestamptz) as updated_at,
    cast(part_date as date) as part_date
from {{ ref('dwd_supervision__water_reading') }}
where part_date between {{ window_from() }} and {{ window_to() }}
