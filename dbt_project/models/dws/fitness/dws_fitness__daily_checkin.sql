{{ config(meta={'build': {'strategy': 'replace_window'}}) }}
-- Persons cannot be added up over districts, so the city has its own row.

with scoped as (
    select
        part_date,
        district_code,
        person_token
    from {{ ref('dwd_fitness__checkin') }}
    where
        part_date between {{ window_from() }} and {{ window_to() }}
        and district_code is not null

    union all

    select
        part_date,
        {{ city_code() }} as district_code,
        person_token
    from {{ ref('dwd_fitness__checkin') }}
    where part_date between {{ window_from() }} and {{ window_to() }}
)

select
    cast(part_date as date) as part_date,
    cast(district_code as varchar) as district_code,
    cast(count(*) as bigint) as checkin_count,
    cast(count(distinct person_token) as bigint) as person_count
from scoped
group by part_date, district_code
