select
    cast(sport_code as varchar) as sport_code,
    cast(sport_name as varchar) as sport_name
from {{ source('ods', 'ods_reference__sport') }}
