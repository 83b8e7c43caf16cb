#!/bin/sh
# NAME_FILE=/run/secrets/x becomes NAME=<content of the file>; then the command runs as process 1.
# Secrets stay out of the compose file, the image and `docker inspect`.
set -eu
for variable in $(env | sed -n 's/^\([A-Z][A-Z0-9_]*\)_FILE=.*/\1/p'); do
    path=$(printenv "${variable}_FILE")
    case "$path" in
        /run/secrets/*)
            if [ ! -s "$path" ]; then
                echo "secret $path of $variable is missing or empty" >&2
                exit 2
            fi
            export "$variable=$(cat "$path")"
            ;;
    esac
done
# Airflow's simple auth manager opens its password file for writing; secrets are read only.
if [ -s /run/secrets/airflow_passwords ]; then
    umask 077
    cp /run/secrets/airflow_passwords /tmp/airflow_passwords.json
fi
exec "$@"
