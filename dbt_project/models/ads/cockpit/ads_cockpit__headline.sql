{{ config(meta={'build': {'strategy': 'table', 'unbounded': true, 'reads_clock': 'full'}}) }}
-- Three sentences for the top of the cockpit, made only from figures that the cockpit also shows.

with yesterday as (
    select
        sum(visit_count) as visit_count,
        sum(entry_count) as entry_count,
        sum(booking_count) as booking_count
    from {{ ref('ads_cockpit__district_day') }}
    where part_date = {{ business_date(-1) }}
),

water as (
    select max("value") as compliant_pct
    from {{ ref('ads_cockpit__kpi') }}
    where
        kpi_code = 'R-03'
        and district_code = {{ city_code() }}
        and period_start_date = {{ business_date(-1) }}
),

overview as (
    select
        1 as position,
        '昨日概况' as kind,
        case
            when yesterday.visit_count is null then concat(cast({{ business_date(-1) }} as varchar), ' 没有可用数据')
            else concat(
                    cast({{ business_date(-1) }} as varchar), ' 全市到访 ', {{ text_int('yesterday.visit_count') }},
                    ' 人次，闸机入场 ', {{ text_int('yesterday.entry_count') }},
                    ' 人次，场地预订 ', {{ text_int('yesterday.booking_count') }}, ' 单，泳池水质合格率 ',
                    case
                        when water.compliant_pct is null then '暂无数据'
                        else concat({{ text_number('water.compliant_pct', 1) }}, '%')
                    end,
                    '（数据截至 ', {{ shanghai_text(as_of()) }}, '）'
                )
        end as sentence
    from yesterday
    cross join water
),

changes as (
    select
        today.district_name,
        today.visit_count,
        before.visit_count as previous_count,
        row_number() over (
            order by
                abs(today.visit_count - before.visit_count) * 1.0 / before.visit_count desc nulls last,
                today.district_code asc nulls last
        ) as change_no
    from {{ ref('ads_cockpit__district_day') }} as today
    inner join {{ ref('ads_cockpit__district_day') }} as before
        on today.district_code = before.district_code and before.part_date = {{ business_date(-8) }}
    where today.part_date = {{ business_date(-1) }} and before.visit_count > 0
),

change as (
    select
        2 as position,
        '最大变化' as kind,
        coalesce(
            max(
                concat(
                    district_name, '昨日到访 ', {{ text_int('visit_count') }}, ' 人次，比上周同日的 ',
                    {{ text_int('previous_count') }}, ' 人次',
                    case when visit_count >= previous_count then '增加 ' else '减少 ' end,
                    {{ text_number('100.0 * abs(visit_count - previous_count) / previous_count', 1) }},
                    '%，为各区变化最大'
                )
            ),
            '缺少上周同日数据，无法比较'
        ) as sentence
    from changes
    where change_no = 1
),

open_alerts as (
    select
        *,
        row_number() over (
            order by
                case severity when 'red' then 1 when 'orange' then 2 when 'yellow' then 3 else 4 end asc nulls last,
                opened_at desc nulls last,
                alert_id asc nulls last
        ) as alert_no,
        count(*) over () as open_count
    from {{ ref('ads_supervision__alert') }}
    where status = 'open'
),

attention as (
    select
        3 as position,
        '需要关注' as kind,
        coalesce(
            max(
                concat(
                    subject_name, '：', observed_text, '（', threshold_text, '），责任单位 ', owner_name, '，请于 ',
                    {{ shanghai_text('deadline_at') }}, ' 前处置；另有 ', {{ text_int('open_count - 1') }}, ' 条未关闭预警'
                )
            ),
            '当前没有未关闭的预警'
        ) as sentence
    from open_alerts
    where alert_no = 1
)

select
    cast(headline.position as bigint) as position,
    cast(headline.kind as varchar) as kind,
    cast(headline.sentence as varchar) as sentence,
    cast({{ as_of() }} as timestamptz) as as_of_at,
    cast({{ business_date(-1) }} as date) as part_date
from (
    select * from overview
    union all
    select * from change
    union all
    select * from attention
) as headline
