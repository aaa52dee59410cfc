#!/bin/bash
# Backup and restore under compose: deploy/backup.sh save FILE, deploy/backup.sh restore FILE. It acts on the
# project of this directory; compose's own COMPOSE_PROJECT_NAME, COMPOSE_FILE and so on select another, and on
# AWS COMPOSE=/opt/docker-job/current/deploy/instance/compose.sh. With DOCKER_JOB_BACKUP_KEY_FILE, a file of
# `age-keygen`, a backup is encrypted. Details: docs/how-to/back-up-and-restore.md.
set -euo pipefail
umask 077 # all that this writes is for its owner alone

usage() { echo "usage: deploy/backup.sh save|restore FILE" >&2; exit 2; }
[[ $# == 2 && $2 == *[![:space:]]* ]] || usage
file=$2
[[ $file == /* ]] || file=$PWD/$file
key_file=${DOCKER_JOB_BACKUP_KEY_FILE:-}
[[ -z $key_file || $key_file == /* ]] || key_file=$PWD/$key_file
for name in COMPOSE COMPOSE_FILE COMPOSE_PROJECT_NAME; do # an empty setting is its default
  [[ ${!name:-} == *[![:space:]]* ]] || unset "$name"
done
read -ra compose <<<"${COMPOSE:-docker compose}"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[[ -n ${COMPOSE:-}${COMPOSE_FILE:-} ]] || cd "$root"
services=(api scheduler launcher reaper)
part=
plain=

fail() { echo "backup: $*" >&2; exit 1; }
in_postgres() { "${compose[@]}" exec -T postgres "$@"; }
sql() { in_postgres psql -XqtA -v ON_ERROR_STOP=1 -U postgres -d "${2:-template1}" -c "$1" </dev/null; }

# Print the first of the tables $1 that is not among those of $2; fail if there is none. Each is a line `schema table`.
missing_of() { grep -vxF -f <(echo "$2") <<<"$1" | sed -n '1s/ /./p' | grep .; }

# The tables of every release.
needed=
for service in "${services[@]}"; do
  for table in outbox inbox parked; do needed+="$service $table"$'\n'; done
done
needed+="migrations applied"

# The last line of a backup is the SHA-256 of what is above it, as in embedded/backup_file.py. pg_restore ignores that
# line, and notices a truncation, but not every altered byte.
mark=$'\ndocker-job sha256 '
line_bytes=84
checksum() { head -c "$2" "$1" | in_postgres sha256sum | cut -d ' ' -f 1; }
verify_checksum() {
  local LC_ALL=C line size
  size=$(wc -c <"$1")
  line=$(tail -c "$line_bytes" "$1" | tr '\0' x)
  # Saved by a release before, unless the lines with the contents are cut off.
  [[ $line == *"$mark"* ||
    $(tail -c 1024 "$1" | tr '\0\n' 'x|') == *"|docker-job backup: "*[!\|] ]] || return 0
  [[ $line == "$mark"* && ${#line} == $((line_bytes - 1)) ]] || fail "$1 is not complete: its checksum is cut off"
  [[ ${line#"$mark"} == "$(checksum "$1" $((size - line_bytes)))" ]] ||
    fail "$1 was altered since it was saved: its checksum does not fit"
}

# Check that the dump $1 is complete and has the tables $2. Its list is at its head, so only reading all of it shows a
# truncation.
verify() {
  local list missing
  list=$(in_postgres pg_restore --list <"$1") || fail "$1 is not a backup"
  list=$(sed -nE 's/^[0-9]+; [0-9]+ [0-9]+ TABLE DATA ([^ ]+) ([^ ]+).*/\1 \2/p' <<<"$list")
  ! missing=$(missing_of "$2" "$list") || fail "$1 is not a backup of docker-job: $missing is missing"
  in_postgres pg_restore --file=/dev/null <"$1" || fail "$1 is not complete"
}

# Refuse a dump with a migration that this release does not have.
refuse_newer() {
  local rows schema source directory
  rows=$(in_postgres pg_restore --data-only --schema=migrations --table=applied --file=- <"$1" |
    sed -n '/^COPY migrations\.applied (schema, source, /,/^\\\.$/{/^COPY /d;/^\\\.$/d;p;}')
  [[ -n $rows ]] || fail "$1 is not a backup of docker-job: it does not list its migrations"
  while IFS=$'\t' read -r schema source _; do
    directory=services/$schema
    [[ $source != shared/* ]] || directory=shared/messaging
    [[ -f $root/$directory/sql/${source#*/} ]] ||
      fail "$1 was saved by a newer release of docker-job (migration $source): update docker-job, then restore it"
  done <<<"$rows"
}

# Encrypt or decrypt standard input, in the format of `age`, in a container without a network (operations/age.py).
age() {
  { base64 <"$key_file" | tr -d '\n'; echo; cat; } | "${compose[@]}" run --rm -T --no-deps secrets operations.age "$1"
}
is_encrypted() { [[ $(head -c 22 "$1" | tr '\0' x) == age-encryption.org/v1 ]]; }

# Replace the encrypted $file by a decrypted one, which is removed at the end: a wrong key, and a file that was altered
# or is not complete, are refused before anything is touched.
decrypt() {
  [[ -n $key_file ]] || fail "$file is encrypted: set DOCKER_JOB_BACKUP_KEY_FILE to the file with its key"
  plain=$(mktemp "${TMPDIR:-/tmp}/docker-job-restore.XXXXXX")
  age decrypt <"$file" >"$plain" || fail "$file cannot be decrypted; nothing was touched"
  file=$plain
}

which_project="is it this compose project (COMPOSE_PROJECT_NAME, COMPOSE_FILE), and has it been started once?"

# A save that was killed leaves a file with its process's number.
remove_leftovers() {
  local each process
  for each in "$file.part.${HOSTNAME:-here}".*.*; do
    process=${each#"$file.part.${HOSTNAME:-here}."}
    process=${process%.*}
    [[ ! -f $each || ! $process =~ ^[0-9]+$ ]] || kill -0 "$process" 2>/dev/null || rm -f "$each"
  done
}

# Write to a temporary file, verify, then move it: complete or not at all, and readable by its owner alone, since
# it contains the jobs' env_vars.
save() {
  [[ ! -L $file ]] || file=$(readlink -f "$file") # what a link leads to is replaced, and the link stays
  [[ ! -d $file ]] || fail "$file is a directory: name a file in it"
  [[ ! -e $file || -f $file ]] || fail "$file is not a regular file: name another one"
  [[ -n $("${compose[@]}" ps --quiet --status running postgres) ]] ||
    fail "no database is running here: $which_project"
  local tables missing
  tables=$(sql "SELECT schemaname || ' ' || tablename FROM pg_tables" docker_job) ||
    fail "there is no database docker_job: $which_project"
  ! missing=$(missing_of "$needed" "$tables") ||
    fail "the database docker_job has no table $missing: has the migration run (docker compose up)?"
  tables=$(grep -E "^($(IFS='|'; echo "${services[*]}")|migrations) " <<<"$tables")
  remove_leftovers
  part=$(mktemp "$file.part.${HOSTNAME:-here}.$$.XXXXXX") || fail "cannot write $file"
  trap 'rm -f "$part" ${plain:+"$plain"}' EXIT
  trap 'exit 130' INT TERM HUP
  in_postgres pg_dump -U postgres --format=custom --no-owner --no-privileges docker_job </dev/null >"$part" ||
    fail "cannot save the database; $file is unchanged"
  verify "$part" "$tables"
  { echo; cat "$root/embedded/backup_contents.txt"; } >>"$part" || fail "cannot write $file"
  printf '%s%s\n' "$mark" "$(checksum "$part" "$(wc -c <"$part")")" >>"$part" || fail "cannot write $file"
  verify_checksum "$part"
  if [[ -n $key_file ]]; then
    plain=$part
    part=$(mktemp "$file.part.${HOSTNAME:-here}.$$.XXXXXX") || fail "cannot write $file"
    age encrypt <"$plain" >"$part" || fail "cannot encrypt the backup; $file is unchanged"
    rm -f "$plain"
  fi
  sync "$part"
  mv "$part" "$file"
  sync "$(dirname "$file")"
  cat "$root/embedded/backup_contents.txt" >&2
  echo "saved${key_file:+, encrypted,} to $file"
}

exists() { [[ $(sql "SELECT 1 FROM pg_database WHERE datname = '$1'") == 1 ]]; }

# Give the loaded database the name of the present one, which is kept as the former one until the next restore: all
# renames are in one transaction, so that a failure changes nothing.
swap() {
  local renames='ALTER DATABASE docker_job RENAME TO docker_job_former;
    ALTER DATABASE docker_job_incoming RENAME TO docker_job'
  sql 'DROP DATABASE IF EXISTS docker_job_obsolete WITH (FORCE)' || return
  ! exists docker_job_former || renames="ALTER DATABASE docker_job_former RENAME TO docker_job_obsolete; $renames"
  sql "$renames" || return
  sql 'DROP DATABASE IF EXISTS docker_job_obsolete WITH (FORCE)' || true # the next restore drops it
}

restore() {
  [[ -f $file && -s $file ]] || fail "$file does not exist, or is empty"
  trap 'rm -f ${plain:+"$plain"}' EXIT
  [[ -n $("${compose[@]}" ps --all --quiet postgres) ]] || fail "there is no database here: $which_project"
  ! is_encrypted "$file" || decrypt
  "${compose[@]}" up -d --wait postgres rabbitmq
  exists docker_job || fail "there is no database docker_job: $which_project"
  echo "loading $file" # the services still run: they are stopped only for a complete dump
  verify_checksum "$file"
  verify "$file" "$needed"
  refuse_newer "$file"
  sql 'DROP DATABASE IF EXISTS docker_job_incoming WITH (FORCE)'
  sql 'CREATE DATABASE docker_job_incoming TEMPLATE template0'
  in_postgres pg_restore -U postgres --exit-on-error --no-owner --no-privileges -d docker_job_incoming <"$file" || {
    sql 'DROP DATABASE IF EXISTS docker_job_incoming WITH (FORCE)'
    fail "cannot load $file; nothing was replaced"
  }
  trap 'status=$?; rm -f ${plain:+"$plain"}
    ((status == 0)) || echo "backup: not finished, and the services may be stopped: restore again" >&2' EXIT
  trap 'exit 130' INT TERM HUP
  echo "stopping the services"
  "${compose[@]}" stop "${services[@]}"
  swap || {
    sql 'DROP DATABASE IF EXISTS docker_job_incoming WITH (FORCE)'
    "${compose[@]}" up -d --wait "${services[@]}"
    trap 'rm -f ${plain:+"$plain"}' EXIT
    fail "cannot replace the database docker_job (does another program use it?); nothing was replaced"
  }
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

[[ -z $key_file || -r $key_file ]] || fail "DOCKER_JOB_BACKUP_KEY_FILE names $key_file, which cannot be read"
case $1 in
save) save ;;
restore) restore ;;
*) usage ;;
esac
