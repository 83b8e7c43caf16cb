{{ config(meta={'build': {'strategy': 'table', 'unbounded': true, 'reads_clock': 'full'}}) }}
-- Three sentences for the top of the cockpit of the city and of each district, made only from figures that the same
-- cockpit also shows. What a sentence compares or names lies inside its own scope.

with scopes as (
    select
        district_code,
        district_name,
        district_name as place_name
    from {{ ref('dim_district') }}
    union all
    select
        {{ city_code() }} as district_code,
        '上海市' as district_name,
        '全市' as place_name
),

yesterday_districts as (
    select
        district_code,
        visit_count,
        entry_count,
        booking_count
    from {{ ref('ads_cockpit__district_day') }}
    where part_date = {{ business_date(-1) }}
),

yesterday as (
    select
        district_code,
        visit_count,
        entry_count,
        booking_count
    from yesterday_districts
    union all
    select
        {{ city_code() }} as district_code,
        sum(visit_count) as visit_count,
        sum(entry_count) as entry_count,
        sum(booking_count) as booking_count
    from yesterday_districts
),

-- Sources of which yesterday is not all here: their figures are too low and must not be compared.
missing as (
    select
        {{ joined_text('title', '、', 'resource') }} as all_titles,
        {{ joined_text('title', '、', 'resource') }}
        filter (where resource in ('fitness.checkin', 'venue.entry')) as visit_titles
    from {{ source('ops', 'ops_ingest__freshness') }}
    where
        resource in ('fitness.checkin', 'venue.entry', 'venue.booking', 'supervision.water_reading')
        and is_missing
),

water as (
    select
        district_code,
        max("value") as compliant_pct
    from {{ ref('ads_cockpit__kpi') }}
    where
        kpi_code = 'R-03'
        and period_start_date = {{ business_date(-1) }}
    group by district_code
),

overview as (
    select
        scopes.district_code,
        1 as position,
        '昨日概况' as kind,
        case
            when yesterday.visit_count is null then concat(cast({{ business_date(-1) }} as varchar), ' 没有可用数据')
            else concat(
                    cast({{ business_date(-1) }} as varchar), ' ', scopes.place_name, '到访 ', {{ text_int('yesterday.visit_count') }},
                    ' 人次，闸机入场 ', {{ text_int('yesterday.entry_count') }},
                    ' 人次，场地预订 ', {{ text_int('yesterday.booking_count') }}, ' 单，泳池水质合格率 ',
                    case
                        when water.compliant_pct is null then '暂无数据'
                        else concat({{ text_number('water.compliant_pct', 1) }}, '%')
                    end,
                    '（数据截至 ', {{ shanghai_text(as_of()) }},
                    case when missing.all_titles is null then '' else concat('；缺', missing.all_titles, '，数字不完整') end,
                    '）'
                )
        end as sentence
    from scopes
    cross join missing
    left join yesterday on scopes.district_code = yesterday.district_code
    left join water on scopes.district_code = water.district_code
),

-- The city compares its districts, a district its venues.
parts as (
    select
        {{ city_code() }} as district_code,
        district_code as part_code,
        district_name as part_name,
        part_date,
        visit_count
    from {{ ref('ads_cockpit__district_day') }}
    where part_date = {{ business_date(-1) }} or part_date = {{ business_date(-8) }}
    union all
    select
        district_code,
        venue_id as part_code,
        coalesce(venue_name, venue_id) as part_name,
        part_date,
        visit_count
    from {{ ref('ads_cockpit__venue_day') }}
    where part_date = {{ business_date(-1) }} or part_date = {{ business_date(-8) }}
),

changes as (
    select
        today.district_code,
        today.part_name,
        today.visit_count,
        before.visit_count as previous_count,
        row_number() over (
            partition by today.district_code
            order by
                abs(today.visit_count - before.visit_count) * 1.0 / before.visit_count desc nulls last,
                today.part_code asc nulls last
        ) as change_no
    from parts as today
    inner join parts as before
        on
            today.district_code = before.district_code
            and today.part_code = before.part_code
            and before.part_date = {{ business_date(-8) }}
    where today.part_date = {{ business_date(-1) }} and before.visit_count > 0
),

change as (
    select
        scopes.district_code,
        2 as position,
        '最大变化' as kind,
        case
            when missing.visit_titles is not null then concat('缺', missing.visit_titles, '，昨日到访不完整，暂不与上周同日比较')
            when changes.part_name is null then '缺少上周同日数据，无法比较'
            else concat(
                    changes.part_name, '昨日到访 ', {{ text_int('changes.visit_count') }}, ' 人次，比上周同日的 ',
                    {{ text_int('changes.previous_count') }}, ' 人次',
                    case when changes.visit_count >= changes.previous_count then '增加 ' else '减少 ' end,
                    {{ text_number('100.0 * abs(changes.visit_count - changes.previous_count) / changes.previous_count', 1) }},
                    case
                        when scopes.district_code = {{ city_code() }} then '%，为各区变化最大' else '%，为区内场馆变化最大'
                    end
                )
        end as sentence
    from scopes
    cross join missing
    left join changes on scopes.district_code = changes.district_code and changes.change_no = 1
),

scoped_alerts as (
    select
        {{ city_code() }} as scope_code,
        alert.*
    from {{ ref('ads_supervision__alert') }} as alert
    where alert.status = 'open'
    union all
    select
        alert.district_code as scope_code,
        alert.*
    from {{ ref('ads_supervision__alert') }} as alert
    where alert.status = 'open' and alert.district_code <> {{ city_code() }}
),

open_alerts as (
    select
        *,
        row_number() over (
            partition by scope_code
            order by
                case severity when 'red' then 1 when 'orange' then 2 when 'yellow' then 3 else 4 end asc nulls last,
                opened_at desc nulls last,
                alert_id asc nulls last
        ) as alert_no,
        count(*) over (partition by scope_code) as open_count
    from scoped_alerts
),

attention as (
    select
        scopes.district_code,
        3 as position,
        '需要关注' as kind,
        case
            when open_alerts.alert_id is null then '当前没有未关闭的预警'
            else concat(
                    open_alerts.subject_name, '：', open_alerts.observed_text, '（', open_alerts.threshold_text, '），责任单位 ',
                    open_alerts.owner_name,
                    case
                        when open_alerts.deadline_at < {{ as_of() }}
                            then concat('，应于 ', {{ shanghai_text('open_alerts.deadline_at') }}, ' 前处置，已超期')
                        else concat('，请于 ', {{ shanghai_text('open_alerts.deadline_at') }}, ' 前处置')
                    end,
                    '；另有 ',
                    {{ text_int('open_alerts.open_count - 1') }}, ' 条未关闭预警'
                )
        end as sentence
    from scopes
    left join open_alerts on scopes.district_code = open_alerts.scope_code and open_alerts.alert_no = 1
)

select
    cast(headline.district_code as varchar) as district_code,
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
