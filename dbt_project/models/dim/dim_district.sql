select
    cast(district_code as varchar) as district_code,
    cast(district_name as varchar) as district_name,
    cast(population_count as bigint) as population_count,
    cast(street_count as bigint) as street_count
from {{ source('ods', 'ods_reference__district') }}
where district_code <> {{ city_code() }}
