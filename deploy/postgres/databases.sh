#!/bin/sh
# The roles and databases of a new Postgres: RAT owns its own, Nessie its own, nobody is superuser.
set -eu

psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set rat_password="$RAT_POSTGRES_PASSWORD" --set nessie_password="$NESSIE_POSTGRES_PASSWORD" <<'SQL'
CREATE ROLE rat LOGIN PASSWORD :'rat_password';
CREATE DATABASE rat OWNER rat;
REVOKE ALL ON DATABASE rat FROM PUBLIC;
CREATE ROLE nessie LOGIN PASSWORD :'nessie_password';
CREATE DATABASE nessie OWNER nessie;
REVOKE ALL ON DATABASE nessie FROM PUBLIC;
SQL
