select
    cast(calendar_date as date) as calendar_date,
    cast(extract(year from calendar_date) as integer) as year_no,
    cast(extract(month from calendar_date) as integer) as month_no,
    cast({{ month_start('calendar_date') }} as date) as month_start_date,
    cast({{ iso_year_no('calendar_date') }} as integer) as iso_year_no,
    cast({{ iso_week_no('calendar_date') }} as integer) as iso_week_no,
    cast({{ week_start('calendar_date') }} as date) as week_start_date,
    cast({{ iso_weekday_no('calendar_date') }} as integer) as iso_weekday_no,
    cast({{ iso_weekday_no('calendar_date') }} >= 6 as boolean) as is_weekend
from ({{ date_series(var('calendar_from'), var('calendar_to')) }}) as calendar
