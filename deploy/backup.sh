#!/bin/bash
# Backup and restore under compose: deploy/backup.sh save FILE, deploy/backup.sh restore FILE. It speaks to
# the project of this directory; to another by compose's own COMPOSE_PROJECT_NAME, COMPOSE_FILE and so on, and
# on AWS by COMPOSE=/opt/docker-job/current/deploy/instance/compose.sh. docs/operations.md tells the rest.
set -euo pipefail

usage() { echo "usage: deploy/backup.sh save|restore FILE" >&2; exit 2; }
[[ $# == 2 ]] || usage
file=$2
[[ $file == /* ]] || file=$PWD/$file
read -ra compose <<<"${COMPOSE:-docker compose}"
[[ -n ${COMPOSE:-}${COMPOSE_FILE:-} ]] || cd "$(dirname "${BASH_SOURCE[0]}")/.."
services=(api scheduler launcher reaper)

in_postgres() { "${compose[@]}" exec -T postgres "$@"; }
sql() { in_postgres psql -XqtA -v ON_ERROR_STOP=1 -U postgres -d template1 -c "$1" </dev/null; }

# Whole or not at all, and for its owner alone: the jobs' env_vars are in it.
save() {
  umask 077
  in_postgres pg_dump -U postgres --format=custom --no-owner --no-privileges docker_job </dev/null >"$file.part" ||
    { rm -f "$file.part"; exit 1; }
  mv "$file.part" "$file"
  echo "saved to $file"
}

restore() {
  [[ -s $file ]] || { echo "backup: $file is not there, or empty" >&2; exit 1; }
  echo "stopping the services"
  "${compose[@]}" stop "${services[@]}"
  "${compose[@]}" up -d --wait postgres rabbitmq
  echo "loading $file"
  sql 'DROP DATABASE IF EXISTS docker_job_incoming WITH (FORCE)'
  sql 'CREATE DATABASE docker_job_incoming TEMPLATE template0'
  in_postgres pg_restore -U postgres --exit-on-error --no-owner --no-privileges -d docker_job_incoming <"$file"
  # The former one stays until the next restore. Both renames or none.
  sql 'DROP DATABASE IF EXISTS docker_job_former WITH (FORCE)'
  sql 'ALTER DATABASE docker_job RENAME TO docker_job_former; ALTER DATABASE docker_job_incoming RENAME TO docker_job'
  # The broker's events are of jobs that this database may not know: what it has told itself and nobody has
  # heard is sent again.
  "${compose[@]}" run --rm -T migrate </dev/null
  for service in "${services[@]}"; do
    "${compose[@]}" exec -T rabbitmq rabbitmqctl -q purge_queue "$service" </dev/null
  done
  "${compose[@]}" run --rm -T migrate services.restored </dev/null
  echo "starting the services"
  "${compose[@]}" up -d --wait "${services[@]}"
  echo "restored"
}

case $1 in
save) save ;;
restore) restore ;;
*) usage ;;
esac
