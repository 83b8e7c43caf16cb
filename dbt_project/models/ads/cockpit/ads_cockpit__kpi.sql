{{ config(meta={'build': {'strategy': 'table', 'unbounded': true, 'reads_clock': 'full'}}) }}
-- One long table: KPI, variant, period, district. Only complete days count (before the business date). Missing is not
-- zero: a period whose stream reported nothing has no value and says so. A value with unit % is numerator ÷ denominator
-- times 100.

with scopes as (
    select
        district_code,
        district_name
    from {{ ref('dim_district') }}
    union all
    select
        {{ city_code() }} as district_code,
        '上海市' as district_name
),

daily_use as (
    select *
    from {{ ref('dws_venue__daily_use') }}
    where part_date < {{ business_date() }}
),

daily_water as (
    select *
    from {{ ref('dws_supervision__daily_water') }}
    where part_date < {{ business_date() }} and limited_count > 0
),

checkins as (
    select
        part_date,
        venue_id,
        district_code
    from {{ ref('dwd_fitness__checkin') }}
    where part_date < {{ business_date() }}
),

events as (
    select *
    from {{ ref('dwd_event__event') }}
    where start_date < {{ business_date() }}
),

-- ---------------------------------------------------------------- coverage: who reported, of those who lately did
reports as (
    select distinct
        'booking' as stream,
        venue_id as subject_id,
        district_code,
        part_date
    from daily_use
    where booking_count > 0
    union all
    select distinct
        'passage' as stream,
        venue_id as subject_id,
        district_code,
        part_date
    from daily_use
    where passage_count > 0
    union all
    select distinct
        'checkin' as stream,
        venue_id as subject_id,
        district_code,
        part_date
    from checkins
    union all
    select distinct
        'water' as stream,
        pool_id as subject_id,
        district_code,
        part_date
    from daily_water
),

spans as (
    select
        stream,
        min(part_date) as first_date
    from reports
    group by stream
),

stream_days as (
    select
        spans.stream,
        dim_date.calendar_date as part_date,
        dim_date.month_start_date
    from spans
    inner join {{ ref('dim_date') }} as dim_date
        on spans.first_date <= dim_date.calendar_date and dim_date.calendar_date < {{ business_date() }}
),

expected as (
    select
        stream_days.stream,
        stream_days.part_date,
        reports.district_code,
        count(distinct reports.subject_id) as expected_count
    from stream_days
    inner join reports
        on
            stream_days.stream = reports.stream
            and stream_days.part_date >= reports.part_date
            and reports.part_date > {{ add_days(
                'stream_days.part_date', '-cast(' ~ rule_value('coverage.window', 'max') ~ ' as integer)'
            ) }}
    group by stream_days.stream, stream_days.part_date, reports.district_code
),

reporting as (
    select
        stream,
        part_date,
        district_code,
        count(*) as reporting_count
    from reports
    group by stream, part_date, district_code
),

coverage_by_district as (
    select
        expected.stream,
        expected.part_date,
        expected.district_code,
        expected.expected_count,
        coalesce(reporting.reporting_count, 0) as reporting_count
    from expected
    left join reporting
        on
            expected.stream = reporting.stream
            and expected.part_date = reporting.part_date
            and expected.district_code = reporting.district_code
),

coverage_day as (
    select
        stream,
        part_date,
        district_code,
        expected_count,
        reporting_count
    from coverage_by_district
    union all
    select
        stream,
        part_date,
        {{ city_code() }} as district_code,
        sum(expected_count) as expected_count,
        sum(reporting_count) as reporting_count
    from coverage_by_district
    group by stream, part_date
),

-- ---------------------------------------------------------------- every period a KPI has a row for
day_frame as (
    select
        stream_days.stream,
        'day' as period_type,
        stream_days.part_date as period_start_date,
        stream_days.part_date as period_end_date,
        scopes.district_code,
        coalesce(coverage_day.expected_count, 0) as expected_count,
        coalesce(coverage_day.reporting_count, 0) as reporting_count
    from stream_days
    cross join scopes
    left join coverage_day
        on
            stream_days.stream = coverage_day.stream
            and stream_days.part_date = coverage_day.part_date
            and scopes.district_code = coverage_day.district_code
),

month_frame as (
    select
        day_frame.stream,
        'month' as period_type,
        {{ month_start('day_frame.period_start_date') }} as period_start_date,
        least({{ month_end('day_frame.period_start_date') }}, {{ business_date(-1) }}) as period_end_date,
        day_frame.district_code,
        sum(day_frame.expected_count) as expected_count,
        sum(day_frame.reporting_count) as reporting_count
    from day_frame
    group by
        day_frame.stream,
        {{ month_start('day_frame.period_start_date') }},
        least({{ month_end('day_frame.period_start_date') }}, {{ business_date(-1) }}),
        day_frame.district_code
),

-- ---------------------------------------------------------------- venues
scoped_use as (
    select
        district_code as scope_code,
        daily_use.*
    from daily_use
    where district_code is not null
    union all
    select
        {{ city_code() }} as scope_code,
        daily_use.*
    from daily_use
),

use_day as (
    select
        scope_code,
        part_date,
        sum(checked_in_count) as checked_in_count,
        sum(due_booking_count) as due_booking_count,
        sum(no_show_count) as no_show_count,
        sum(booking_count) as booking_count,
        sum(case when passage_count > 0 then entry_count end) as entry_count,
        max(peak_concurrent_count) as peak_concurrent_count
    from scoped_use
    group by scope_code, part_date
),

fullest as (
    select
        scope_code,
        part_date,
        peak_concurrent_count,
        capacity_count,
        row_number() over (
            partition by scope_code, part_date
            order by load_pct desc nulls last, venue_id asc nulls last
        ) as load_no
    from scoped_use
    where load_pct is not null
),

-- ---------------------------------------------------------------- events
event_days as (
    select
        events.filing_id,
        events.district_code,
        events.organizer_type,
        dim_date.calendar_date,
        dim_date.year_no
    from events
    inner join {{ ref('dim_date') }} as dim_date
        on dim_date.calendar_date between events.start_date and events.end_date
    where events.is_held and dim_date.calendar_date < {{ business_date() }}
),

event_population as (
    select
        'platform' as variant_code,
        district_code,
        {{ year_start('calendar_date') }} as period_start_date,
        count(*) as numerator
    from event_days
    group by district_code, {{ year_start('calendar_date') }}
    union all
    select
        'department' as variant_code,
        district_code,
        {{ year_start('calendar_date') }} as period_start_date,
        count(*) as numerator
    from event_days
    where organizer_type = 'sports_department'
    group by district_code, {{ year_start('calendar_date') }}
    union all
    select
        'assessed' as variant_code,
        district_code,
        {{ year_start('start_date') }} as period_start_date,
        count(*) as numerator
    from events
    where is_held and is_assessed and event_level in ('international', 'national')
    group by district_code, {{ year_start('start_date') }}
),

event_scoped as (
    select * from event_population
    union all
    select
        variant_code,
        {{ city_code() }} as district_code,
        period_start_date,
        sum(numerator) as numerator
    from event_population
    group by variant_code, period_start_date
),

event_years as (
    select distinct {{ year_start('start_date') }} as period_start_date
    from events
),

event_variants as (
    select 'platform' as variant_code
    union all
    select 'department' as variant_code
    union all
    select 'assessed' as variant_code
),

filed as (
    select
        district_code,
        {{ month_start('start_date') }} as period_start_date,
        count(*) as event_count,
        sum(case when lead_days >= {{ rule_value('event.filing_lead', 'min') }} then 1 else 0 end)
            as in_time_count
    from events
    where status <> 'cancelled'
    group by district_code, {{ month_start('start_date') }}
),

filed_scoped as (
    select * from filed
    union all
    select
        {{ city_code() }} as district_code,
        period_start_date,
        sum(event_count) as event_count,
        sum(in_time_count) as in_time_count
    from filed
    group by period_start_date
),

filed_months as (
    select distinct period_start_date
    from filed
),

-- ---------------------------------------------------------------- fitness, supervision
water_by_district as (
    select
        district_code,
        part_date,
        sum(limited_count) as limited_count,
        sum(compliant_count) as compliant_count
    from daily_water
    group by district_code, part_date
),

water_day as (
    select * from water_by_district
    union all
    select
        {{ city_code() }} as district_code,
        part_date,
        sum(limited_count) as limited_count,
        sum(compliant_count) as compliant_count
    from water_by_district
    group by part_date
),

-- ---------------------------------------------------------------- the figures
figures as (
    select
        'V-04' as kpi_code,
        '' as variant_code,
        frame.*,
        use_day.checked_in_count as numerator,
        use_day.due_booking_count as denominator,
        {{ ratio('use_day.checked_in_count', 'use_day.due_booking_count') }} as figure,
        {{ input_versions(['dws_venue__daily_use']) }} as versions_read
    from day_frame as frame
    left join use_day
        on frame.district_code = use_day.scope_code and frame.period_start_date = use_day.part_date
    where frame.stream = 'booking'

    union all

    select
        'V-05' as kpi_code,
        '' as variant_code,
        frame.*,
        use_day.no_show_count as numerator,
        use_day.booking_count as denominator,
        {{ ratio('use_day.no_show_count', 'use_day.booking_count') }} as figure,
        {{ input_versions(['dws_venue__daily_use']) }} as versions_read
    from day_frame as frame
    left join use_day
        on frame.district_code = use_day.scope_code and frame.period_start_date = use_day.part_date
    where frame.stream = 'booking'

    union all

    select
        'V-06' as kpi_code,
        'entries' as variant_code,
        frame.*,
        use_day.entry_count as numerator,
        null as denominator,
        use_day.entry_count as figure,
        {{ input_versions(['dws_venue__daily_use']) }} as versions_read
    from day_frame as frame
    left join use_day
        on frame.district_code = use_day.scope_code and frame.period_start_date = use_day.part_date
    where frame.stream = 'passage'

    union all

    select
        'V-06' as kpi_code,
        'peak' as variant_code,
        frame.*,
        use_day.peak_concurrent_count as numerator,
        null as denominator,
        use_day.peak_concurrent_count as figure,
        {{ input_versions(['dws_venue__daily_use']) }} as versions_read
    from day_frame as frame
    left join use_day
        on frame.district_code = use_day.scope_code and frame.period_start_date = use_day.part_date
    where frame.stream = 'passage'

    union all

    select
        'V-07' as kpi_code,
        '' as variant_code,
        frame.*,
        fullest.peak_concurrent_count as numerator,
        fullest.capacity_count as denominator,
        {{ ratio('fullest.peak_concurrent_count', 'fullest.capacity_count') }} as figure,
        {{ input_versions(['dws_venue__daily_use']) }} as versions_read
    from day_frame as frame
    left join fullest
        on
            frame.district_code = fullest.scope_code
            and frame.period_start_date = fullest.part_date
            and fullest.load_no = 1
    where frame.stream = 'passage'

    union all

    select
        'R-03' as kpi_code,
        '' as variant_code,
        frame.*,
        water_day.compliant_count as numerator,
        water_day.limited_count as denominator,
        {{ ratio('water_day.compliant_count', 'water_day.limited_count') }} as figure,
        {{ input_versions(['dws_supervision__daily_water']) }} as versions_read
    from day_frame as frame
    left join water_day
        on frame.district_code = water_day.district_code and frame.period_start_date = water_day.part_date
    where frame.stream = 'water'

    union all

    select
        'F-01' as kpi_code,
        '' as variant_code,
        frame.*,
        active_person.person_count as numerator,
        null as denominator,
        active_person.person_count as figure,
        {{ input_versions(['dws_fitness__active_person']) }} as versions_read
    from month_frame as frame
    left join {{ ref('dws_fitness__active_person') }} as active_person
        on
            frame.district_code = active_person.district_code
            and frame.period_start_date = active_person.month_start_date
    where frame.stream = 'checkin'

    union all

    select
        'E-01' as kpi_code,
        event_variants.variant_code,
        'filing' as stream,
        'year' as period_type,
        event_years.period_start_date,
        least({{ add_days(year_start(add_days('event_years.period_start_date', 366)), -1) }}, {{ business_date(-1) }})
            as period_end_date,
        scopes.district_code,
        1 as expected_count,
        1 as reporting_count,
        coalesce(event_scoped.numerator, 0) as numerator,
        null as denominator,
        coalesce(event_scoped.numerator, 0) as figure,
        {{ input_versions(['dwd_event__event']) }} as versions_read
    from event_years
    cross join event_variants
    cross join scopes
    left join event_scoped
        on
            event_years.period_start_date = event_scoped.period_start_date
            and event_variants.variant_code = event_scoped.variant_code
            and scopes.district_code = event_scoped.district_code

    union all

    select
        'E-03' as kpi_code,
        '' as variant_code,
        'filing' as stream,
        'month' as period_type,
        filed_months.period_start_date,
        least({{ month_end('filed_months.period_start_date') }}, {{ business_date(-1) }}) as period_end_date,
        scopes.district_code,
        1 as expected_count,
        1 as reporting_count,
        coalesce(filed_scoped.in_time_count, 0) as numerator,
        coalesce(filed_scoped.event_count, 0) as denominator,
        {{ ratio('filed_scoped.in_time_count', 'filed_scoped.event_count') }} as figure,
        {{ input_versions(['dwd_event__event']) }} as versions_read
    from filed_months
    cross join scopes
    left join filed_scoped
        on
            filed_months.period_start_date = filed_scoped.period_start_date
            and scopes.district_code = filed_scoped.district_code

    union all

    select
        'D-02' as kpi_code,
        '' as variant_code,
        'platform' as stream,
        'day' as period_type,
        {{ business_date() }} as period_start_date,
        {{ business_date() }} as period_end_date,
        {{ city_code() }} as district_code,
        1 as expected_count,
        1 as reporting_count,
        sum(case when state = 'fresh' then 1 else 0 end) as numerator,
        count(*) as denominator,
        {{ ratio("sum(case when state = 'fresh' then 1 else 0 end)", 'count(*)') }} as figure,
        {{ input_versions(['ops_ingest__freshness']) }} as versions_read
    from {{ source('ops', 'ops_ingest__freshness') }}
    having count(*) > 0

    union all

    select
        'D-06' as kpi_code,
        '' as variant_code,
        'platform' as stream,
        'day' as period_type,
        {{ business_date() }} as period_start_date,
        {{ business_date() }} as period_end_date,
        {{ city_code() }} as district_code,
        1 as expected_count,
        1 as reporting_count,
        sum(graded_count) as numerator,
        sum(column_count) as denominator,
        {{ ratio('sum(graded_count)', 'sum(column_count)') }} as figure,
        {{ input_versions(['ops_quality__grading']) }} as versions_read
    from {{ source('ops', 'ops_quality__grading') }}
    having count(*) > 0
),

judged as (
    select
        figures.*,
        {{ percent('figures.reporting_count', 'figures.expected_count') }} as coverage_pct,
        case
            when figures.figure is null then 'missing'
            when figures.reporting_count * 100.0 < figures.expected_count * {{ rule_value('coverage.ok', 'min') }}
                then 'partial'
            else 'ok'
        end as quality,
        case
            when figures.figure is null and figures.expected_count = 0 then '本区无该类数据来源'
            when figures.figure is null and figures.reporting_count = 0 then '应报单位均未上报'
            when figures.figure is null and figures.kpi_code = 'F-01'
                then concat('人数少于 ', {{ text_int(rule_value('disclosure.k_internal', 'min')) }}, '，不显示')
            when figures.figure is null then '分母为零，无法计算'
            when figures.reporting_count < figures.expected_count
                then concat(
                        '有 ', {{ text_int('figures.expected_count - figures.reporting_count') }}, ' 个单位·日未上报'
                    )
        end as quality_note
    from figures
),

definitions as (
    select *
    from {{ source('ods', 'ods_reference__kpi') }}
)

select
    cast(judged.kpi_code as varchar) as kpi_code,
    cast(definitions.kpi_name as varchar) as kpi_name,
    cast(judged.variant_code as varchar) as variant_code,
    cast(definitions.variant_name as varchar) as variant_name,
    cast(judged.period_type as varchar) as period_type,
    cast(judged.period_start_date as date) as period_start_date,
    cast(judged.period_end_date as date) as period_end_date,
    cast(judged.district_code as varchar) as district_code,
    cast(scopes.district_name as varchar) as district_name,
    cast(judged.numerator as double) as numerator,
    cast(judged.denominator as double) as denominator,
    cast(case when definitions.unit = '%' then 100.0 * judged.figure else judged.figure end as double) as "value",
    cast(definitions.unit as varchar) as unit,
    cast(case when judged.district_code = {{ city_code() }} then definitions.target end as double) as target,
    cast(case when judged.district_code = {{ city_code() }} then definitions.target_document end as varchar)
        as target_document,
    cast(case when judged.district_code = {{ city_code() }} then definitions.target_period end as varchar)
        as target_period,
    cast(
        case
            when judged.district_code = {{ city_code() }} and definitions.target is not null
                then coalesce(definitions.target_end_date < judged.period_end_date, false)
        end as boolean
    ) as is_target_expired,
    cast({{ as_of() }} as timestamptz) as as_of_at,
    cast(judged.coverage_pct as double) as coverage_pct,
    cast(judged.quality as varchar) as quality,
    cast(judged.quality_note as varchar) as quality_note,
    cast(judged.versions_read as varchar) as input_versions,
    cast(judged.period_start_date as date) as part_date
from judged
inner join scopes on judged.district_code = scopes.district_code
left join definitions
    on judged.kpi_code = definitions.kpi_code and judged.variant_code = definitions.variant_code
