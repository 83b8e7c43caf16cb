{{ config(meta={'build': {'strategy': 'table', 'unbounded': true}}) }}
-- The newest roster is the whole truth: who is no longer in it is nobody's member, whatever an older one said.

with newest as (
    select max(roster_date) as roster_date
    from {{ source('ods', 'ods_training__athlete') }}
),

members as (
    select
        athlete.*,
        row_number() over (
            partition by athlete.athlete_token, athlete.squad_code, athlete.joined_date
            order by athlete._ingested_at desc nulls last, athlete._record_no desc nulls last
        ) as recency
    from {{ source('ods', 'ods_training__athlete') }} as athlete
    inner join newest on athlete.roster_date = newest.roster_date
),

squad as (
    select
        code,
        name
    from {{ source('ods', 'ods_reference__code') }}
    where list_name = 'squad'
)

select
    cast(members.athlete_token as varchar) as athlete_token,
    cast(members.squad_code as varchar) as squad_code,
    cast(coalesce(squad.name, members.squad_code) as varchar) as squad_name,
    cast(members.member_no as integer) as member_no,
    cast(members.athlete_name as varchar) as athlete_name,
    cast(members.sport_code as varchar) as sport_code,
    cast(members.joined_date as date) as joined_date,
    cast(members.left_date as date) as left_date,
    cast(members.left_date is null or members.left_date >= members.roster_date as boolean) as is_current,
    cast(members.roster_date as date) as roster_date
from members
left join squad on members.squad_code = squad.code
where members.recency = 1
