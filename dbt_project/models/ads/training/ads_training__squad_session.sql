{{ config(meta={'build': {'strategy': 'replace_window'}}) }}
-- A session belongs to the squad its athlete was in on that day: after a change of squads the old coach keeps the old
-- sessions and sees no new one, and the other way round.

select
    cast(member.squad_code as varchar) as squad_code,
    cast(member.squad_name as varchar) as squad_name,
    cast(session.session_id as varchar) as session_id,
    cast(session.athlete_token as varchar) as athlete_token,
    cast(member.member_no as integer) as member_no,
    cast(member.athlete_name as varchar) as athlete_name,
    cast(session.sport_code as varchar) as sport_code,
    cast(session.started_at as timestamptz) as started_at,
    cast(session.duration_s as double) as duration_s,
    cast(session.distance_m as double) as distance_m,
    cast(session.avg_hr_bpm as integer) as avg_hr_bpm,
    cast(session.zone1_min as double) as zone1_min,
    cast(session.zone2_min as double) as zone2_min,
    cast(session.zone3_min as double) as zone3_min,
    cast(session.zone4_min as double) as zone4_min,
    cast(session.zone5_min as double) as zone5_min,
    cast(session.hr_covered_s as double) as hr_covered_s,
    cast(session.part_date as date) as part_date
from {{ ref('dwd_training__session') }} as session
inner join {{ ref('dim_squad_member') }} as member
    on
        session.athlete_token = member.athlete_token
        and session.part_date >= member.joined_date
        and (member.left_date is null or session.part_date <= member.left_date)
where session.part_date between {{ window_from() }} and {{ window_to() }}
