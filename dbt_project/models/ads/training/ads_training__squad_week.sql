{{ config(meta={'build': {'strategy': 'replace_window', 'lookahead_days': 6}}) }}
-- part_date is the Monday of the ISO week: a row reads the six days after it. Counted from the squad's own sessions, so
-- that a week in which somebody changed squads shows each coach only the own part.

with sessions as (
    select
        *,
        {{ week_start('part_date') }} as week_start_date
    from {{ ref('ads_training__squad_session') }}
    where part_date between {{ window_from() }} and {{ window_to(6) }}
),

weeks as (
    select
        squad_code,
        squad_name,
        athlete_token,
        member_no,
        athlete_name,
        week_start_date,
        count(*) as session_count,
        sum({{ exact('duration_s') }}) as duration_s,
        sum({{ exact('zone1_min') }}) as zone1_min,
        sum({{ exact('zone2_min') }}) as zone2_min,
        sum({{ exact('zone3_min') }}) as zone3_min,
        sum({{ exact('zone4_min') }}) as zone4_min,
        sum({{ exact('zone5_min') }}) as zone5_min,
        sum({{ exact('case when zone1_min is not null then hr_covered_s else 0 end') }}) as hr_covered_s
    from sessions
    where week_start_date between {{ window_from() }} and {{ window_to() }}
    group by squad_code, squad_name, athlete_token, member_no, athlete_name, week_start_date
)

select
    cast(squad_code as varchar) as squad_code,
    cast(squad_name as varchar) as squad_name,
    cast(athlete_token as varchar) as athlete_token,
    cast(member_no as integer) as member_no,
    cast(athlete_name as varchar) as athlete_name,
    cast(week_start_date as date) as week_start_date,
    cast(session_count as bigint) as session_count,
    cast(duration_s / 3600.0 as double) as duration_h,
    cast(zone1_min as double) as zone1_min,
    cast(zone2_min as double) as zone2_min,
    cast(zone3_min as double) as zone3_min,
    cast(zone4_min as double) as zone4_min,
    cast(zone5_min as double) as zone5_min,
    cast({{ edwards_load() }} as double) as edwards_load,
    cast(least({{ percent('hr_covered_s', 'duration_s') }}, 100.0) as double) as hr_coverage_pct,
    cast(week_start_date as date) as part_date
from weeks
