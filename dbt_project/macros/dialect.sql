{# Every function whose spelling differs between DuckDB and Spark. Models call these names only; another engine
   needs this one file in its dialect. #}

{# Calendar date in Asia/Shanghai of a UTC timestamp. #}
{% macro shanghai_date(timestamp) -%}
  cast(({{ timestamp }}) at time zone 'Asia/Shanghai' as date)
{%- endmacro %}

{# Shanghai wall clock of a UTC timestamp as text, e.g. 11-19 18:55. #}
{% macro shanghai_text(timestamp, pattern='%m-%d %H:%M') -%}
  strftime(({{ timestamp }}) at time zone 'Asia/Shanghai', '{{ pattern }}')
{%- endmacro %}

{# Seconds from the first timestamp to the second, fractions kept. #}
{% macro seconds_between(first, second) -%}
  (epoch_us({{ second }}) - epoch_us({{ first }})) / 1000000.0
{%- endmacro %}

{# Timestamp moved by a number of hours that may be an expression. #}
{% macro add_hours(timestamp, hours) -%}
  ({{ timestamp }}) + to_seconds(cast(({{ hours }}) * 3600 as bigint))
{%- endmacro %}

{# Start of the fixed bucket of a timestamp (buckets count from the epoch). #}
{% macro bucket_start(timestamp, seconds) -%}
  to_timestamp(cast(floor(epoch({{ timestamp }}) / {{ seconds }}) * {{ seconds }} as bigint))
{%- endmacro %}

{# Whole days from the first date to the second. #}
{% macro days_between(first, second) -%}
  datediff('day', {{ first }}, {{ second }})
{%- endmacro %}

{# Date moved by a literal number of days. #}
{% macro add_days(day, days) -%}
  cast(({{ day }}) + ({{ days }}) as date)
{%- endmacro %}

{# Monday of the ISO week, first day of the month, of the year. #}
{% macro week_start(day) -%} cast(date_trunc('week', {{ day }}) as date) {%- endmacro %}
{% macro month_start(day) -%} cast(date_trunc('month', {{ day }}) as date) {%- endmacro %}
{% macro year_start(day) -%} cast(date_trunc('year', {{ day }}) as date) {%- endmacro %}
{% macro month_end(day) -%} cast(last_day({{ day }}) as date) {%- endmacro %}
{% macro iso_week_no(day) -%} extract(week from {{ day }}) {%- endmacro %}
{% macro iso_year_no(day) -%} extract(isoyear from {{ day }}) {%- endmacro %}
{% macro iso_weekday_no(day) -%} extract(isodow from {{ day }}) {%- endmacro %}

{# One row per day, column calendar_date. #}
{% macro date_series(first, last) -%}
  select cast(day_at as date) as calendar_date
  from (select unnest(generate_series(cast('{{ first }}' as timestamp), cast('{{ last }}' as timestamp), interval 1 day)) as day_at)
{%- endmacro %}

{# Texts of a group joined by a separator, in an order. #}
{% macro joined_text(text, separator, order) -%}
  string_agg({{ text }}, '{{ separator }}' order by {{ order }} asc nulls last)
{%- endmacro %}

{# Text of a whole number with thousands separators; of a number with fixed decimals. #}
{% macro text_int(number) -%} format('{:,}', cast({{ number }} as bigint)) {%- endmacro %}
{% macro text_number(number, digits=2) -%} printf('%.{{ digits }}f', cast({{ number }} as double)) {%- endmacro %}

{# Short stable identifier from text parts. #}
{% macro digest(parts) -%} md5(concat_ws('|', {{ parts | join(', ') }})) {%- endmacro %}
