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

{# Code of the whole city in district columns. #}
{% macro city_code() -%} '310000' {%- endmacro %}

{# A measured number as an exact one: sums of floating point depend on the order of the rows, and two runs over the same
   data must give the same table. #}
{% macro exact(number) -%}
  cast({{ number }} as decimal(18, 6))
{%- endmacro %}
