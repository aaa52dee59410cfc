#!/bin/bash
# Backup and restore under compose: deploy/backup.sh save FILE, deploy/backup.sh restore FILE. It speaks to
# the project of this directory; to another by compose's own COMPOSE_PROJECT_NAME, COMPOSE_FILE and so on, and
# on AWS by COMPOSE=/opt/docker-job/current/deploy/instance/compose.sh. docs/operations.md tells the rest.
set -euo pipefail

usage() { echo "usage: deploy/backup.sh save|restore FILE" >&2; exit 2; }
[[ $# == 2 && -n $2 ]] || usage
file=$2
[[ $file == /* ]] || file=$PWD/$file
read -ra compose <<<"${COMPOSE:-docker compose}"
[[ -n ${COMPOSE:-}${COMPOSE_FILE:-} ]] || cd "$(dirname "${BASH_SOURCE[0]}")/.."
services=(api scheduler launcher reaper)
part=

fail() { echo "backup: $*" >&2; exit 1; }
in_postgres() { "${compose[@]}" exec -T postgres "$@"; }
sql() { in_postgres psql -XqtA -v ON_ERROR_STOP=1 -U postgres -d "${2:-template1}" -c "$1" </dev/null; }

# Whether each table that every release has had is among the lines `schema table` of $1; else names one missing.
has_our_tables() {
  local service table
  for service in "${services[@]}"; do
    for table in outbox inbox parked; do
      grep -qxF "$service $table" <<<"$1" || { echo "$service.$table"; return 1; }
    done
  done
}

# A dump is whole and ours. Its list is at its head, so that only reading all of it shows that nothing is cut off.
verify() {
  local list missing
  list=$(in_postgres pg_restore --list <"$1") || fail "$1 is not a backup"
  list=$(sed -nE 's/^[0-9]+; [0-9]+ [0-9]+ TABLE DATA ([^ ]+) ([^ ]+).*/\1 \2/p' <<<"$list")
  missing=$(has_our_tables "$list") || fail "$1 is not a backup of docker-job: $missing is not in it"
  in_postgres pg_restore --file=/dev/null <"$1" || fail "$1 is not whole"
}

which_project="is it this compose project (COMPOSE_PROJECT_NAME, COMPOSE_FILE), and has it been started once?"

# Written beside, verified, then moved: whole or not at all, and for its owner alone, since the jobs' env_vars are
# in it. What a kill leaves beside it is named FILE.part.…
save() {
  [[ ! -d $file ]] || fail "$file is a directory: name a file in it"
  [[ ! -e $file || -f $file ]] || fail "$file is not a regular file: name another one"
  [[ -n $("${compose[@]}" ps --quiet --status running postgres) ]] ||
    fail "no database is running here: $which_project"
  local tables missing
  tables=$(sql "SELECT schemaname || ' ' || tablename FROM pg_tables" docker_job) ||
    fail "there is no database docker_job: $which_project"
  missing=$(has_our_tables "$tables") ||
    fail "the database docker_job has no table $missing: has the migration run (docker compose up)?"
  part=$(mktemp "$file.part.XXXXXX") || fail "$file cannot be written"
  trap 'rm -f "$part"' EXIT
  in_postgres pg_dump -U postgres --format=custom --no-owner --no-privileges docker_job </dev/null >"$part" ||
    fail "it could not be saved; $file is as it was"
  verify "$part"
  sync "$part"
  mv "$part" "$file"
  echo "saved to $file"
}

restore() {
  [[ -f $file && -s $file ]] || fail "$file is not there, or empty"
  [[ -n $("${compose[@]}" ps --all --quiet postgres) ]] || fail "there is no database here: $which_project"
  "${compose[@]}" up -d --wait postgres rabbitmq
  [[ $(sql "SELECT 1 FROM pg_database WHERE datname = 'docker_job'") == 1 ]] ||
    fail "there is no database docker_job: $which_project"
  echo "loading $file" # while the services go on: they are stopped only for a dump that is whole
  verify "$file"
  sql 'DROP DATABASE IF EXISTS docker_job_incoming WITH (FORCE)'
  sql 'CREATE DATABASE docker_job_incoming TEMPLATE template0'
  in_postgres pg_restore -U postgres --exit-on-error --no-owner --no-privileges -d docker_job_incoming <"$file" || {
    sql 'DROP DATABASE IF EXISTS docker_job_incoming WITH (FORCE)'
    fail "$file could not be loaded; nothing was replaced"
  }
  echo "stopping the services"
  "${compose[@]}" stop "${services[@]}"
  # The former one stays until the next restore. Both renames or none.
  sql 'DROP DATABASE IF EXISTS docker_job_former WITH (FORCE)'
  sql 'ALTER DATABASE docker_job RENAME TO docker_job_former; ALTER DATABASE docker_job_incoming RENAME TO docker_job'
  # The broker's events are of jobs that this database may not know: what it has told itself and nobody has
  # heard is sent again.
  "${compose[@]}" run --rm -T migrate </dev/null
  for service in "${services[@]}"; do
    "${compose[@]}" exec -T rabbitmq rabbitmqctl -q purge_queue "$service" </dev/null
  done
  "${compose[@]}" run --rm -T migrate operations.resend </dev/null
  echo "starting the services"
  "${compose[@]}" up -d --wait "${services[@]}"
  echo "restored"
}

case $1 in
save) save ;;
restore) restore ;;
*) usage ;;
esac
