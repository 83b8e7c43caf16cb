select
    cast(resource as varchar) as resource,
    cast(title as varchar) as title,
    cast(update_cycle as varchar) as update_cycle,
    cast(state as varchar) as state,
    cast(reason as varchar) as reason,
    cast(latest_data_date as date) as latest_data_date,
    cast(last_success_at as timestamptz) as last_success_at,
    cast(received_count as bigint) as received_count,
    cast(accepted_count as bigint) as accepted_count,
    cast(quarantined_count as bigint) as quarantined_count,
    cast(duplicate_count as bigint) as duplicate_count
from {{ source('ops', 'ops_ingest__freshness') }}
