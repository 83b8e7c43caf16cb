{{ config(meta={'build': {'strategy': 'table', 'unbounded': true, 'reads_clock': 'full'}}) }}
-- AL-03 one alert per episode of a pool and item: opened by two consecutive readings outside the limits or by one that
-- is far outside, closed by two consecutive compliant readings. AL-10 one per venue and day. AL-19 one per late
-- resource. IN-01 one per source whose newest delivery holds files that had to be refused whole.
-- QG-01 one per failed rule of the newest run of a quality gate.

with rule_table as (
    select *
    from {{ source('ods', 'ods_reference__rule') }}
),

factors as (
    select
        {{ rule_value('AL-03.factor', 'min') }} as severe_factor,
        {{ rule_value('AL-03.consecutive', 'min') }} as consecutive_count
),

-- Only limits that are law open an alert; recommended ranges (water temperature) do not.
readings as (
    select
        reading.*,
        factors.consecutive_count,
        row_number() over (
            partition by reading.pool_id, reading.item order by reading.sampled_at asc nulls last
        ) as reading_no,
        not reading.is_compliant and (
            coalesce(reading.reading_value >= reading.limit_max * factors.severe_factor, false)
            or coalesce(reading.reading_value <= reading.limit_min / factors.severe_factor, false)
        ) as is_severe,
        case
            when reading.reading_value > reading.limit_max then reading.reading_value / reading.limit_max
            when reading.reading_value < reading.limit_min and reading.reading_value > 0
                then reading.limit_min / reading.reading_value
            when reading.reading_value < reading.limit_min then 1000000.0
        end as excess
    from {{ ref('dwd_supervision__water_reading') }} as reading
    inner join rule_table on reading.rule_id = rule_table.rule_id and rule_table.is_law
    cross join factors
),

streaks as (
    select
        *,
        reading_no - coalesce(max(case when is_compliant then reading_no end) over (
            partition by pool_id, item order by reading_no asc nulls last
            rows between unbounded preceding and current row
        ), 0) as breach_streak,
        reading_no - coalesce(max(case when not is_compliant then reading_no end) over (
            partition by pool_id, item order by reading_no asc nulls last
            rows between unbounded preceding and current row
        ), 0) as compliant_streak
    from readings
),

marked as (
    select
        *,
        is_severe or breach_streak >= consecutive_count as is_trigger,
        compliant_streak >= consecutive_count as is_release
    from streaks
),

history as (
    select
        *,
        max(case when is_trigger then reading_no end) over (
            partition by pool_id, item order by reading_no asc nulls last
            rows between unbounded preceding and 1 preceding
        ) as last_trigger_no,
        max(case when is_release then reading_no end) over (
            partition by pool_id, item order by reading_no asc nulls last
            rows between unbounded preceding and 1 preceding
        ) as last_release_no
    from marked
),

episode_rows as (
    select
        *,
        sum(
            case when is_trigger and coalesce(last_trigger_no, 0) <= coalesce(last_release_no, 0) then 1 else 0 end
        ) over (
            partition by pool_id, item order by reading_no asc nulls last
            rows between unbounded preceding and current row
        ) as episode_no
    from history
),

episode_ends as (
    select
        pool_id,
        item,
        episode_no,
        min(case when is_trigger then reading_no end) as first_no,
        min(case when is_trigger then sampled_at end) as opened_at,
        min(case when is_release then reading_no end) as release_no,
        min(case when is_release then sampled_at end) as closed_at
    from episode_rows
    where episode_no > 0
    group by pool_id, item, episode_no
),

episode_body as (
    select
        episode_rows.*,
        episode_ends.opened_at,
        episode_ends.closed_at,
        row_number() over (
            partition by episode_rows.pool_id, episode_rows.item, episode_rows.episode_no
            order by episode_rows.excess desc nulls last, episode_rows.reading_no asc nulls last
        ) as worst_no
    from episode_rows
    inner join episode_ends
        on
            episode_rows.pool_id = episode_ends.pool_id
            and episode_rows.item = episode_ends.item
            and episode_rows.episode_no = episode_ends.episode_no
            and (episode_ends.release_no is null or episode_rows.reading_no < episode_ends.release_no)
    where not episode_rows.is_compliant
),

episodes as (
    select
        pool_id,
        item,
        episode_no,
        opened_at,
        closed_at,
        max(case when worst_no = 1 then venue_id end) as venue_id,
        max(case when worst_no = 1 then reading_value end) as worst_value,
        max(case when worst_no = 1 then unit end) as unit,
        max(case when worst_no = 1 then rule_id end) as rule_id,
        count(*) as breach_count,
        sum(case when is_severe then 1 else 0 end) as severe_count
    from episode_body
    group by pool_id, item, episode_no, opened_at, closed_at
),

item_names as (
    select
        code,
        name
    from {{ source('ods', 'ods_reference__code') }}
    where list_name = 'water_item'
),

water as (
    select
        concat(
            'AL-03:', episodes.pool_id, ':', episodes.item, ':', {{ shanghai_text('episodes.opened_at', '%Y%m%d%H%M') }}
        ) as alert_id,
        'AL-03' as rule_code,
        rule_table.effective_from as rule_version,
        case when episodes.severe_count > 0 then 'red' else 'orange' end as severity,
        'pool' as subject_type,
        episodes.pool_id as subject_id,
        concat(venue.venue_name, ' ', unit.unit_name) as subject_name,
        venue.district_code,
        venue.district_name,
        episodes.worst_value as observed_value,
        concat(
            coalesce(item_names.name, episodes.item), ' ', {{ text_number('episodes.worst_value', 2) }}, ' ',
            case when episodes.unit = '1' then '' else coalesce(episodes.unit, '') end
        ) as observed_text,
        concat(
            coalesce(concat('不低于 ', {{ text_number('rule_table.value_min', 1) }}), ''),
            case when rule_table.value_min is not null and rule_table.value_max is not null then '，' else '' end,
            coalesce(concat('不高于 ', {{ text_number('rule_table.value_max', 1) }}), '')
        ) as threshold_text,
        concat_ws(' ', coalesce(rule_table.standard, '平台规则'), rule_table.clause, rule_table.note) as basis_text,
        rule_table.provenance,
        rule_table.is_law,
        episodes.opened_at,
        case when episodes.closed_at is null then 'open' else 'closed' end as status,
        concat(
            '连续或严重超限读数 ', {{ text_int('episodes.breach_count') }}, ' 条',
            case
                when episodes.closed_at is null then ''
                else concat('；', {{ shanghai_text('episodes.closed_at') }}, ' 起恢复合格')
            end
        ) as evidence
    from episodes
    left join rule_table on episodes.rule_id = rule_table.rule_id
    left join item_names on episodes.item = item_names.code
    left join {{ ref('dim_venue_unit') }} as unit on episodes.pool_id = unit.unit_id
    left join {{ ref('dim_venue') }} as venue on episodes.venue_id = venue.venue_id
),

load_levels as (
    select
        {{ rule_value('venue.load.yellow', 'min') }} as yellow_pct,
        {{ rule_value('venue.load.orange', 'min') }} as orange_pct,
        {{ rule_value('venue.load.red', 'min') }} as red_pct
),

load_days as (
    select
        daily_use.*,
        case
            when daily_use.load_pct > load_levels.red_pct then 'red'
            when daily_use.load_pct > load_levels.orange_pct then 'orange'
            when daily_use.load_pct > load_levels.yellow_pct then 'yellow'
        end as severity,
        min(case when daily_use.load_pct <= load_levels.yellow_pct and daily_use.part_date < {{ business_date() }} then daily_use.part_date end)
            over (
                partition by daily_use.venue_id order by daily_use.part_date asc nulls last
                rows between 1 following and unbounded following
            ) as relieved_date
    from {{ ref('dws_venue__daily_use') }} as daily_use
    cross join load_levels
    where daily_use.load_pct is not null
),

loads as (
    select
        concat('AL-10:', load_days.venue_id, ':', {{ shanghai_text('load_days.peak_at', '%Y%m%d') }}) as alert_id,
        'AL-10' as rule_code,
        rule_table.effective_from as rule_version,
        load_days.severity,
        'venue' as subject_type,
        load_days.venue_id as subject_id,
        venue.venue_name as subject_name,
        venue.district_code,
        venue.district_name,
        load_days.load_pct as observed_value,
        concat(
            '在场 ', {{ text_int('load_days.peak_concurrent_count') }}, ' 人，核定 ',
            {{ text_int('load_days.capacity_count') }}, ' 人，承载率 ', {{ text_number('load_days.load_pct', 1) }}, '%'
        ) as observed_text,
        concat('承载率不超过 ', {{ text_number('rule_table.value_min', 0) }}, '%') as threshold_text,
        concat_ws(' ', coalesce(rule_table.standard, '平台规则'), rule_table.clause, rule_table.note) as basis_text,
        rule_table.provenance,
        rule_table.is_law,
        load_days.peak_at as opened_at,
        case when load_days.relieved_date is null then 'open' else 'closed' end as status,
        concat(
            {{ shanghai_text('load_days.peak_at') }}, ' 达到当日峰值',
            case when load_days.relieved_date is null then '' else concat('；', cast(load_days.relieved_date as varchar), ' 全天已回落') end
        ) as evidence
    from load_days
    left join rule_table on rule_table.rule_id = concat('venue.load.', load_days.severity)
    left join {{ ref('dim_venue') }} as venue on load_days.venue_id = venue.venue_id
    where load_days.severity is not null
),

late_resources as (
    select
        concat('AL-19:', freshness.resource) as alert_id,
        'AL-19' as rule_code,
        rule_table.effective_from as rule_version,
        'yellow' as severity,
        'resource' as subject_type,
        freshness.resource as subject_id,
        freshness.title as subject_name,
        {{ city_code() }} as district_code,
        '上海市' as district_name,
        cast(null as double) as observed_value,
        concat('最新数据日期 ', coalesce(cast(freshness.latest_data_date as varchar), '无')) as observed_text,
        concat('应于 ', coalesce({{ shanghai_text('freshness.due_at') }}, '—'), ' 前更新') as threshold_text,
        concat_ws(' ', coalesce(rule_table.standard, '平台规则'), rule_table.clause, rule_table.note) as basis_text,
        rule_table.provenance,
        rule_table.is_law,
        coalesce(freshness.due_at, {{ as_of() }}) as opened_at,
        'open' as status,
        case freshness.state
            when 'failed' then concat('最近一次汇聚失败：', coalesce(freshness.reason, '原因不明'))
            when 'never' then '从未收到数据'
            else '超过更新周期未收到数据'
        end as evidence
    from {{ source('ops', 'ops_ingest__freshness') }} as freshness
    left join rule_table on rule_table.rule_id = 'AL-19'
    where freshness.state <> 'fresh'
),

refused_files as (
    select
        concat('IN-01:', freshness.resource, ':', {{ shanghai_text('freshness.refused_at', '%Y%m%d%H%M') }}) as alert_id,
        'IN-01' as rule_code,
        rule_table.effective_from as rule_version,
        'yellow' as severity,
        'resource' as subject_type,
        freshness.resource as subject_id,
        freshness.title as subject_name,
        {{ city_code() }} as district_code,
        '上海市' as district_name,
        cast(freshness.refused_count as double) as observed_value,
        concat('整体拒收 ', {{ text_int('freshness.refused_count') }}, ' 个文件') as observed_text,
        '按接口规范报送' as threshold_text,
        concat_ws(' ', coalesce(rule_table.standard, '平台规则'), rule_table.clause, rule_table.note) as basis_text,
        rule_table.provenance,
        rule_table.is_law,
        freshness.refused_at as opened_at,
        'open' as status,
        coalesce(freshness.reason, '') as evidence
    from {{ source('ops', 'ops_ingest__freshness') }} as freshness
    left join rule_table on rule_table.rule_id = 'IN-01'
    where freshness.refused_count > 0
),

gate_results as (
    select
        *,
        row_number() over (
            partition by table_name, rule_id order by checked_at desc nulls last, run_id desc nulls last
        ) as recency
    from {{ source('ops', 'ops_quality__result') }}
),

gates as (
    select
        concat('QG-01:', gate.table_name, ':', gate.rule_id) as alert_id,
        'QG-01' as rule_code,
        rule_table.effective_from as rule_version,
        'orange' as severity,
        'table' as subject_type,
        gate.table_name as subject_id,
        gate.table_name as subject_name,
        {{ city_code() }} as district_code,
        '上海市' as district_name,
        cast(gate.failed_count as double) as observed_value,
        concat(
            '检查 ', {{ text_int('gate.examined_count') }}, ' 行，不合格 ', {{ text_int('gate.failed_count') }}, ' 行'
        ) as observed_text,
        concat('规则 ', gate.rule_id) as threshold_text,
        concat_ws(' ', coalesce(rule_table.standard, '平台规则'), rule_table.clause, rule_table.note) as basis_text,
        rule_table.provenance,
        rule_table.is_law,
        gate.checked_at as opened_at,
        'open' as status,
        case when gate.outcome = 'error' then '检查未能执行，已检版本未移动' else '未通过质量闸门，已检版本未移动' end as evidence
    from gate_results as gate
    left join rule_table on rule_table.rule_id = 'QG-01'
    where gate.recency = 1 and gate.outcome in ('fail', 'error')
),

alerts as (
    select * from water
    union all
    select * from loads
    union all
    select * from late_resources
    union all
    select * from refused_files
    union all
    select * from gates
)

select
    cast(alerts.alert_id as varchar) as alert_id,
    cast(alerts.rule_code as varchar) as rule_code,
    cast(coalesce(cast(alerts.rule_version as varchar), '1') as varchar) as rule_version,
    cast(alerts.severity as varchar) as severity,
    cast(alerts.subject_type as varchar) as subject_type,
    cast(alerts.subject_id as varchar) as subject_id,
    cast(alerts.subject_name as varchar) as subject_name,
    cast(alerts.district_code as varchar) as district_code,
    cast(alerts.district_name as varchar) as district_name,
    cast(alerts.observed_value as double) as observed_value,
    cast(trim(alerts.observed_text) as varchar) as observed_text,
    cast(alerts.threshold_text as varchar) as threshold_text,
    cast(trim(alerts.basis_text) as varchar) as basis_text,
    cast(alerts.provenance as varchar) as provenance,
    cast(alerts.is_law as boolean) as is_law,
    cast(alerts.opened_at as timestamptz) as opened_at,
    cast(concat(alerts.district_name, case when alerts.district_code = {{ city_code() }} then '体育局数据管理岗' else '体育局' end) as varchar)
        as owner_name,
    cast({{ add_hours('alerts.opened_at', 'deadline.value_max') }} as timestamptz) as deadline_at,
    cast(alerts.status as varchar) as status,
    cast(alerts.evidence as varchar) as evidence,
    cast({{ shanghai_date('alerts.opened_at') }} as date) as part_date
from alerts
inner join rule_table as deadline on deadline.rule_id = concat(alerts.rule_code, '.deadline')
