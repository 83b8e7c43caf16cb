{{ config(meta={'build': {'strategy': 'replace_window', 'lookahead_days': 6}}) }}
-- part_date is the Monday of the ISO week: a row reads the six days after it.

with sessions as (
    select
        *,
        {{ week_start('part_date') }} as week_start_date
    from {{ ref('dwd_training__session') }}
    where
        part_date between {{ window_from() }} and {{ window_to(6) }}
        and athlete_token is not null
),

weeks as (
    select
        athlete_token,
        week_start_date,
        {{ load_sums() }}
    from sessions
    where week_start_date between {{ window_from() }} and {{ window_to() }}
    group by athlete_token, week_start_date
)

select
    cast(athlete_token as varchar) as athlete_token,
    cast({{ iso_year_no('week_start_date') }} as integer) as iso_year_no,
    cast({{ iso_week_no('week_start_date') }} as integer) as iso_week_no,
    cast(week_start_date as date) as week_start_date,
    {{ load_columns() }},
    cast(week_start_date as date) as part_date
from weeks
