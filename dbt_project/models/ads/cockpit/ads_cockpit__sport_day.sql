{{ config(meta={'build': {'strategy': 'replace_window'}}) }}

with visits as (
    select
        part_date,
        district_code,
        coalesce(sport_code, 'other') as sport_code,
        count(*) as visit_count
    from {{ ref('dwd_venue__visit') }}
    where
        part_date between {{ window_from() }} and {{ window_to() }}
        and district_code is not null
    group by part_date, district_code, coalesce(sport_code, 'other')
)

select
    cast(visits.part_date as date) as part_date,
    cast(visits.district_code as varchar) as district_code,
    cast(visits.sport_code as varchar) as sport_code,
    cast(coalesce(sport.sport_name, visits.sport_code) as varchar) as sport_name,
    cast(visits.visit_count as bigint) as visit_count
from visits
left join {{ ref('dim_sport') }} as sport on visits.sport_code = sport.sport_code
