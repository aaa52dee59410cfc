#!/bin/bash
# Backup and restore under compose: deploy/backup.sh save FILE, deploy/backup.sh restore FILE. It acts on the
# project of this directory; compose's own COMPOSE_PROJECT_NAME, COMPOSE_FILE and so on select another, and on
# AWS COMPOSE=/opt/docker-job/current/deploy/instance/compose.sh. Details: docs/operations.md.
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

# Succeed if the tables of every release are among the lines `schema table` of $1; else print one that is missing.
has_our_tables() {
  local service table
  for service in "${services[@]}"; do
    for table in outbox inbox parked; do
      grep -qxF "$service $table" <<<"$1" || { echo "$service.$table"; return 1; }
    done
  done
}

# Check that a dump is complete and ours. Its list is at its head, so only reading all of it shows a truncation.
verify() {
  local list missing
  list=$(in_postgres pg_restore --list <"$1") || fail "$1 is not a backup"
  list=$(sed -nE 's/^[0-9]+; [0-9]+ [0-9]+ TABLE DATA ([^ ]+) ([^ ]+).*/\1 \2/p' <<<"$list")
  missing=$(has_our_tables "$list") || fail "$1 is not a backup of docker-job: $missing is missing"
  in_postgres pg_restore --file=/dev/null <"$1" || fail "$1 is not complete"
}

which_project="is it this compose project (COMPOSE_PROJECT_NAME, COMPOSE_FILE), and has it been started once?"

# Write to a temporary file, verify, then move it: complete or not at all, and readable by its owner alone, since
# it contains the jobs' env_vars. A kill may leave FILE.part.… behind.
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
  part=$(mktemp "$file.part.XXXXXX") || fail "cannot write $file"
  trap 'rm -f "$part"' EXIT
  in_postgres pg_dump -U postgres --format=custom --no-owner --no-privileges docker_job </dev/null >"$part" ||
    fail "cannot save the database; $file is unchanged"
  verify "$part"
  sync "$part"
  mv "$part" "$file"
  echo "saved to $file"
}

restore() {
  [[ -f $file && -s $file ]] || fail "$file does not exist, or is empty"
  [[ -n $("${compose[@]}" ps --all --quiet postgres) ]] || fail "there is no database here: $which_project"
  "${compose[@]}" up -d --wait postgres rabbitmq
  [[ $(sql "SELECT 1 FROM pg_database WHERE datname = 'docker_job'") == 1 ]] ||
    fail "there is no database docker_job: $which_project"
  echo "loading $file" # the services still run: they are stopped only for a complete dump
  verify "$file"
  sql 'DROP DATABASE IF EXISTS docker_job_incoming WITH (FORCE)'
  sql 'CREATE DATABASE docker_job_incoming TEMPLATE template0'
  in_postgres pg_restore -U postgres --exit-on-error --no-owner --no-privileges -d docker_job_incoming <"$file" || {
    sql 'DROP DATABASE IF EXISTS docker_job_incoming WITH (FORCE)'
    fail "cannot load $file; nothing was replaced"
  }
  echo "stopping the services"
  "${compose[@]}" stop "${services[@]}"
  # The former database is kept until the next restore. Both renames are in one transaction.
  sql 'DROP DATABASE IF EXISTS docker_job_former WITH (FORCE)'
  sql 'ALTER DATABASE docker_job RENAME TO docker_job_former; ALTER DATABASE docker_job_incoming RENAME TO docker_job'
  # The broker's events may be of jobs that are not in this database: purge them, then resend the events that this
  # database has published.
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
