{{ config(meta={'build': {'strategy': 'table', 'unbounded': true}}) }}
-- The newest list is the whole truth: a figure that is no longer in it was withdrawn. What stands beside a KPI is
-- declared with the KPI (catalog/kpis, `published`); the methods differ, so nothing is computed from the two.

with newest as (
    select max(list_date) as list_date
    from {{ source('ods', 'ods_reference__official_figure') }}
),

figures as (
    select
        figure.*,
        row_number() over (
            partition by figure.indicator_code, figure.figure_year
            order by figure._ingested_at desc nulls last, figure._record_no desc nulls last
        ) as recency
    from {{ source('ods', 'ods_reference__official_figure') }} as figure
    inner join newest on figure.list_date = newest.list_date
),

beside as (
    select
        published_indicator,
        min(kpi_code) as kpi_code,
        min(variant_code) as variant_code
    from {{ source('ods', 'ods_reference__kpi') }}
    where published_indicator is not null
    group by published_indicator
)

select
    cast(figures.indicator_code as varchar) as indicator_code,
    cast(figures.indicator_name as varchar) as indicator_name,
    cast(figures.figure_year as integer) as figure_year,
    cast(figures.value as double) as value,
    cast(figures.unit as varchar) as unit,
    cast(figures.document as varchar) as document,
    cast(figures.method_note as varchar) as method_note,
    cast(figures.provenance as varchar) as provenance,
    cast(beside.kpi_code as varchar) as kpi_code,
    cast(beside.variant_code as varchar) as variant_code,
    cast(figures.list_date as date) as list_date
from figures
left join beside on figures.indicator_code = beside.published_indicator
where figures.recency = 1
