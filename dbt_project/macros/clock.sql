{# Placeholders that modeling/literals.py replaces by literals just before a model runs. Left as they are, they mean
   "everything", so the compiled SQL is valid by itself. Offsets are in days. #}

{% macro _shifted(year, days) -%}
  {{ (modules.datetime.date(year, 7, 1) + modules.datetime.timedelta(days=days)).isoformat() }}
{%- endmacro %}

{# First date of the window being built, plus an offset: a model with lookback_days 3 reads from window_from(-3). #}
{% macro window_from(days=0) -%}
  date '{{ _shifted(1000, days) }}'
{%- endmacro %}

{# Last date of the window being built, plus an offset. #}
{% macro window_to(days=0) -%}
  date '{{ _shifted(9000, days) }}'
{%- endmacro %}

{# The business date (TIYU_TODAY), plus an offset. #}
{% macro business_date(days=0) -%}
  date '{{ _shifted(2999, days) }}'
{%- endmacro %}

{# The instant up to which business facts are known. #}
{% macro as_of() -%}
  timestamptz '2999-07-01 00:00:00+00'
{%- endmacro %}

{# JSON text: the named tables and everything behind them, each with the version read. #}
{% macro input_versions(tables) -%}
  '@versions:{{ tables | join(",") }}@'
{%- endmacro %}
