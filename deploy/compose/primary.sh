#!/bin/bash
# Run once by the image in a new cluster: a database for each shard and one for the federation, and the right to replicate.
set -euo pipefail
for database in eu_0 eu_1 federation; do
    createdb --username "$POSTGRES_USER" "$database"
done
for database in eu_0 eu_1; do
    psql --username "$POSTGRES_USER" --dbname "$database" --command 'CREATE EXTENSION vector'
done
echo 'host replication constellation all scram-sha-256' >> "$PGDATA/pg_hba.conf"
