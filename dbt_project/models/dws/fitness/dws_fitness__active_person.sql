{{ config(meta={'build': {'strategy': 'table', 'unbounded': true, 'reads_clock': 'full'}}) }}
-- Complete days only. Persons cannot be added up over districts, so the city has its own row. A cell of fewer than k
-- distinct persons shows no number: the breaker of person_count rests on that, and its certificate is computed from it.

with scoped as (
    select
        district_code,
        {{ month_start('part_date') }} as month_start_date,
        person_token
    from {{ ref('dwd_fitness__checkin') }}
    where part_date < {{ business_date() }} and district_code is not null

    union all

    select
        {{ city_code() }} as district_code,
        {{ month_start('part_date') }} as month_start_date,
        person_token
    from {{ ref('dwd_fitness__checkin') }}
    where part_date < {{ business_date() }}
),

months as (
    select
        district_code,
        month_start_date,
        count(distinct person_token) as person_count
    from scoped
    group by district_code, month_start_date
)

select
    cast(district_code as varchar) as district_code,
    cast(month_start_date as date) as month_start_date,
    cast(case when person_count >= {{ rule_value('disclosure.k_internal', 'min') }} then person_count end as bigint)
        as person_count,
    cast(person_count < {{ rule_value('disclosure.k_internal', 'min') }} as boolean) as is_suppressed,
    cast(month_start_date as date) as part_date
from months
