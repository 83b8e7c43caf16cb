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
        {{ load_sums() }}
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
    {{ load_columns() }},
    cast(week_start_date as date) as part_date
from weeks
