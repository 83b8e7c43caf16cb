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
        count(*) as session_count,
        sum({{ exact('duration_s') }}) / 3600.0 as duration_h,
        sum({{ exact('zone1_min') }}) as zone1_min,
        sum({{ exact('zone2_min') }}) as zone2_min,
        sum({{ exact('zone3_min') }}) as zone3_min,
        sum({{ exact('zone4_min') }}) as zone4_min,
        sum({{ exact('zone5_min') }}) as zone5_min,
        sum({{ exact('case when zone1_min is not null then hr_covered_s else 0 end') }}) as hr_covered_s,
        sum({{ exact('duration_s') }}) as duration_s
    from sessions
    where week_start_date between {{ window_from() }} and {{ window_to() }}
    group by athlete_token, week_start_date
)

select
    cast(athlete_token as varchar) as athlete_token,
    cast({{ iso_year_no('week_start_date') }} as integer) as iso_year_no,
    cast({{ iso_week_no('week_start_date') }} as integer) as iso_week_no,
    cast(week_start_date as date) as week_start_date,
    cast(session_count as bigint) as session_count,
    cast(duration_h as double) as duration_h,
    cast(zone1_min as double) as zone1_min,
    cast(zone2_min as double) as zone2_min,
    cast(zone3_min as double) as zone3_min,
    cast(zone4_min as double) as zone4_min,
    cast(zone5_min as double) as zone5_min,
    cast({{ edwards_load() }} as double) as edwards_load,
    cast(least({{ percent('hr_covered_s', 'duration_s') }}, 100.0) as double) as hr_coverage_pct,
    cast(week_start_date as date) as part_date
from weeks
