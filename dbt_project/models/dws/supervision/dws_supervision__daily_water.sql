{{ config(meta={'build': {'strategy': 'replace_window'}}) }}

select
    cast(pool_id as varchar) as pool_id,
    cast(max(venue_id) as varchar) as venue_id,
    cast(max(district_code) as varchar) as district_code,
    cast(part_date as date) as part_date,
    cast(item as varchar) as item,
    cast(count(*) as bigint) as sample_count,
    cast(count(is_compliant) as bigint) as limited_count,
    cast(sum(case when is_compliant then 1 else 0 end) as bigint) as compliant_count
from {{ ref('dwd_supervision__water_reading') }}
where part_date between {{ window_from() }} and {{ window_to() }}
group by pool_id, part_date, item
