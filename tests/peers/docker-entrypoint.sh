#!/bin/bash
# docker-entrypoint.sh COMMAND...: what that of the image "postgres" does with the settings of etc/cluster.
# In an empty directory it makes the database with a server that no network reaches, and runs the files
# of /docker-entrypoint-initdb.d; then it becomes COMMAND.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --no-sync >/dev/null
    pg_ctl -w start -o "$(printf '%q ' "${@:2}" -c listen_addresses=)" </dev/null
    do=(psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username=postgres)
    "${do[@]}" --command="CREATE DATABASE $POSTGRES_DB"
    for file in /docker-entrypoint-initdb.d/*.sql; do
        "${do[@]}" --dbname="$POSTGRES_DB" --file="$file"
    done
    pg_ctl -m fast -w stop
fi
exec "$@"
