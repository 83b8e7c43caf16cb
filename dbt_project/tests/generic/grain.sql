{# The grain of a model: no two rows agree on all these columns. Returns one row per repeated key. #}
{% test unique_grain(model, columns) %}
select
    {{ columns | join(', ') }},
    count(*) as row_count
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}

{# Columns that must always hold a value. Returns the rows that lack one. #}
{% test no_nulls(model, columns) %}
select {{ columns | join(', ') }}
from {{ model }}
where {% for column in columns %}{{ column }} is null{{ ' or ' if not loop.last }}{% endfor %}
{% endtest %}

{# Every value is found in the other model (null allowed). Returns the unknown values. #}
{% test known_reference(model, column, to, field) %}
select distinct child.{{ column }}
from {{ model }} as child
left join {{ to }} as parent on child.{{ column }} = parent.{{ field }}
where child.{{ column }} is not null and parent.{{ field }} is null
{% endtest %}
