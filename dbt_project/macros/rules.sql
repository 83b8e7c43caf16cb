{# Thresholds are rows of the rules table, never literals in a model. tiyu build refuses to start when a rule named
   here does not exist. #}

{# One bound ('min' or 'max') of a rule as a scalar. #}
{% macro rule_value(rule_id, bound) -%}
  (
    select max(rule_row.value_{{ bound }})
    from {{ source('ods', 'ods_reference__rule') }} as rule_row
    where rule_row.rule_id = '{{ rule_id }}'
  )
{%- endmacro %}

{# Share in percent; null when there is nothing to divide by. #}
{% macro percent(part, whole) -%}
  case when {{ whole }} > 0 then 100.0 * {{ part }} / {{ whole }} end
{%- endmacro %}

{# Ratio; null when there is nothing to divide by. #}
{% macro ratio(part, whole) -%}
  case when {{ whole }} > 0 then cast({{ part }} as double) / {{ whole }} end
{%- endmacro %}

{# Edwards (1993): minutes in zone k count k times; the weights are the definition, not a threshold. #}
{% macro edwards_load() -%}
  zone1_min + 2 * zone2_min + 3 * zone3_min + 4 * zone4_min + 5 * zone5_min
{%- endmacro %}

{# What one week of training sessions adds up to, in a select that groups them; `load_columns` gives it its types. #}
{% macro load_sums() -%}
  count(*) as session_count,
  sum({{ exact('duration_s') }}) as duration_s,
  {% for zone in range(1, 6) -%}
  sum({{ exact('zone' ~ zone ~ '_min') }}) as zone{{ zone }}_min,
  {% endfor -%}
  sum({{ exact('case when zone1_min is not null then hr_covered_s else 0 end') }}) as hr_covered_s
{%- endmacro %}

{# The columns of a table of weekly loads, from `load_sums`. #}
{% macro load_columns() -%}
  cast(session_count as bigint) as session_count,
  cast(duration_s / 3600.0 as double) as duration_h,
  {% for zone in range(1, 6) -%}
  cast(zone{{ zone }}_min as double) as zone{{ zone }}_min,
  {% endfor -%}
  cast({{ edwards_load() }} as double) as edwards_load,
  cast(least({{ percent('hr_covered_s', 'duration_s') }}, 100.0) as double) as hr_coverage_pct
{%- endmacro %}

{# Code of the whole city in district columns. #}
{% macro city_code() -%} '310000' {%- endmacro %}

{# A measured number as an exact one: sums of floating point depend on the order of the rows, and two runs over the same
   data must give the same table. #}
{% macro exact(number) -%}
  cast({{ number }} as decimal(18, 6))
{%- endmacro %}
