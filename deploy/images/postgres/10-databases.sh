#!/bin/sh
# First start of an empty cluster: one database per service. The role is the one of POSTGRES_USER; splitting roles is an operator's choice.
set -eu
for database in airflow superset ledger; do
    psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" -c "CREATE DATABASE $database"
done
