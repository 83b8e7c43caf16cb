{# The project's own materialization: the rows of a model become a Delta table, stored by modeling/store.py as the
   planner decided (whole table, literal windows, or nothing). The view dbt sees is that table at its new version. #}
{% materialization delta, adapter='duckdb', supported_languages=['sql'] %}
  {%- set target_relation = this.incorporate(type='view') -%}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}
  {% do get_assert_columns_equivalent(compiled_code) %}
  {% do adapter.commit() %}
  {% do adapter.store_relation('tiyu_lake', target_relation, [], this.identifier, 'delta', {'sql': compiled_code}) %}
  {% call statement('main') -%}
    select 1 as stored
  {%- endcall %}
  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {% do adapter.commit() %}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ custom_schema_name or target.schema }}
{%- endmacro %}
