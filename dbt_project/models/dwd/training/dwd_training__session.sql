{{ config(meta={'build': {
    'strategy': 'replace_window', 'partition_by': ['part_date'], 'lookback_days': 1, 'lookahead_days': 1
}}) }}
-- Minutes per Edwards zone: the time to the next sample counts in the zone of the sample, unless the gap is longer than
-- the rule allows (no data is not rest). A transition between two sports and a recording of beats at rest end the session
-- before them, but are no training of their own. Without the athlete's maximal heart rate the zones stay null.

with limits as (
    select
        {{ rule_value('training.sample_gap', 'max') }} as gap_max_s,
        {{ rule_value('training.edwards_zone.1', 'min') }} as zone1_min_pct,
        {{ rule_value('training.edwards_zone.2', 'min') }} as zone2_min_pct,
        {{ rule_value('training.edwards_zone.3', 'min') }} as zone3_min_pct,
        {{ rule_value('training.edwards_zone.4', 'min') }} as zone4_min_pct,
        {{ rule_value('training.edwards_zone.5', 'min') }} as zone5_min_pct
),

activities as (
    select *
    from {{ source('ods', 'ods_training__activity') }}
    where part_date between {{ window_from() }} and {{ window_to() }}
),

sessions as (
    select
        session.*,
        lead(session.started_at) over (
            partition by session.activity_id
            order by session.started_at asc nulls last, session.session_no asc nulls last
        ) as next_started_at,
        row_number() over (
            partition by session.activity_id
            order by session.started_at asc nulls last, session.session_no asc nulls last
        ) as session_order
    from {{ source('ods', 'ods_training__activity_session') }} as session
    where session.part_date between {{ window_from(-1) }} and {{ window_to(1) }}
),

samples as (
    select
        sample.activity_id,
        sample.sampled_at,
        sample.heart_rate_bpm,
        {{ exact(seconds_between(
            'sample.sampled_at',
            'lead(sample.sampled_at) over (partition by sample.activity_id order by sample.sampled_at asc nulls last, sample.sample_no asc nulls last)'
        )) }} as interval_s
    from {{ source('ods', 'ods_training__activity_sample') }} as sample
    where sample.part_date between {{ window_from(-1) }} and {{ window_to(1) }}
),

measured as (
    select
        samples.activity_id,
        samples.sampled_at,
        samples.interval_s,
        100.0 * samples.heart_rate_bpm / activities.max_hr_bpm as hr_pct
    from samples
    inner join activities on samples.activity_id = activities.activity_id
    cross join limits
    where
        samples.heart_rate_bpm is not null
        and samples.interval_s > 0
        and samples.interval_s <= limits.gap_max_s
),

zones as (
    select
        sessions.activity_id,
        sessions.session_no,
        sum(measured.interval_s) as hr_covered_s,
        sum(
            case
                when measured.hr_pct >= limits.zone1_min_pct and measured.hr_pct < limits.zone2_min_pct
                    then measured.interval_s
                else 0
            end
        ) / 60.0 as zone1_min,
        sum(
            case
                when measured.hr_pct >= limits.zone2_min_pct and measured.hr_pct < limits.zone3_min_pct
                    then measured.interval_s
                else 0
            end
        ) / 60.0 as zone2_min,
        sum(
            case
                when measured.hr_pct >= limits.zone3_min_pct and measured.hr_pct < limits.zone4_min_pct
                    then measured.interval_s
                else 0
            end
        ) / 60.0 as zone3_min,
        sum(
            case
                when measured.hr_pct >= limits.zone4_min_pct and measured.hr_pct < limits.zone5_min_pct
                    then measured.interval_s
                else 0
            end
        ) / 60.0 as zone4_min,
        sum(case when measured.hr_pct >= limits.zone5_min_pct then measured.interval_s else 0 end) / 60.0 as zone5_min
    from sessions
    inner join measured
        on
            sessions.activity_id = measured.activity_id
            and (sessions.session_order = 1 or sessions.started_at <= measured.sampled_at)
            and (sessions.next_started_at is null or sessions.next_started_at > measured.sampled_at)
    cross join limits
    group by sessions.activity_id, sessions.session_no
)

select
    cast(concat(activities.activity_id, '-', cast(sessions.session_no as varchar)) as varchar) as session_id,
    cast(activities.activity_id as varchar) as activity_id,
    cast(sessions.session_no as integer) as session_no,
    cast(activities.athlete_token as varchar) as athlete_token,
    cast(coalesce(sessions.sport_code, activities.sport_code) as varchar) as sport_code,
    cast(sessions.started_at as timestamptz) as started_at,
    cast(coalesce(sessions.timer_s, sessions.elapsed_s) as double) as duration_s,
    cast(sessions.distance_m as double) as distance_m,
    cast(sessions.avg_hr_bpm as integer) as avg_hr_bpm,
    cast(activities.max_hr_bpm as integer) as athlete_max_hr_bpm,
    cast(case when activities.max_hr_bpm is not null then 'device_profile' end as varchar) as max_hr_source_type,
    cast(case when activities.max_hr_bpm is not null then zones.zone1_min end as double) as zone1_min,
    cast(case when activities.max_hr_bpm is not null then zones.zone2_min end as double) as zone2_min,
    cast(case when activities.max_hr_bpm is not null then zones.zone3_min end as double) as zone3_min,
    cast(case when activities.max_hr_bpm is not null then zones.zone4_min end as double) as zone4_min,
    cast(case when activities.max_hr_bpm is not null then zones.zone5_min end as double) as zone5_min,
    cast(coalesce(zones.hr_covered_s, 0) as double) as hr_covered_s,
    cast(activities.part_date as date) as part_date
from activities
inner join sessions on activities.activity_id = sessions.activity_id
left join zones on sessions.activity_id = zones.activity_id and sessions.session_no = zones.session_no
where coalesce(sessions.is_training, true)
