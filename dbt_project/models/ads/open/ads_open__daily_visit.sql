{{ config(meta={'build': {'strategy': 'replace_window', 'reads_clock': 'window'}}) }}
-- Complete days only. A cell with fewer than k distinct persons shows neither number; no city total is published beside
-- suppressed cells.

with visits as (
    select
        part_date,
        district_code,
        count(*) as visit_count,
        count(distinct person_token) as person_count
    from {{ ref('dwd_venue__visit') }}
    where
        part_date between {{ window_from() }} and {{ window_to() }}
        and part_date < {{ business_date() }}
        and district_code is not null
    group by part_date, district_code
),

days as (
    select distinct part_date
    from visits
),

cells as (
    select
        days.part_date,
        district.district_code,
        district.district_name,
        visits.visit_count,
        visits.person_count,
        coalesce(visits.person_count, 0) < {{ rule_value('disclosure.k_open', 'min') }} as is_suppressed
    from days
    cross join {{ ref('dim_district') }} as district
    left join visits on days.part_date = visits.part_date and district.district_code = visits.district_code
)

select
    cast(part_date as date) as part_date,
    cast(district_code as varchar) as district_code,
    cast(district_name as varchar) as district_name,
    cast(case when not is_suppressed then visit_count end as bigint) as visit_count,
    cast(case when not is_suppressed then person_count end as bigint) as person_count,
    cast(is_suppressed as boolean) as is_suppressed
from cells
