#!/bin/bash
# A copy of the primary at the first start, then its standby. The slot keeps what the standby has not read yet.
set -euo pipefail
export PGPASSWORD=$POSTGRES_PASSWORD
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    rm -rf "$PGDATA"
    until pg_basebackup --host primary --username "$POSTGRES_USER" --pgdata "$PGDATA" \
        --write-recovery-conf --create-slot --slot standby; do
        rm -rf "$PGDATA"
        sleep 2
    done
fi
exec postgres -D "$PGDATA"
