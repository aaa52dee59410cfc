#!/bin/bash
# Makes new passwords under compose, for the admins of Postgres and RabbitMQ and for each service at both, while
# jobs run: deploy/rotate.sh [--token-key]. With --token-key also the key of instances' bootstrap tokens: an
# instance that has not called yet is then lost, and its job gets a new attempt. Project: see backup.sh.
set -euo pipefail

for name in COMPOSE COMPOSE_FILE COMPOSE_PROJECT_NAME; do # an empty setting is its default
  [[ ${!name:-} == *[![:space:]]* ]] || unset "$name"
done
read -ra compose <<<"${COMPOSE:-docker compose}"
[[ -n ${COMPOSE:-}${COMPOSE_FILE:-} ]] || cd "$(dirname "${BASH_SOURCE[0]}")/.."
forget='rm -f /secrets/*/password /secrets/*/database_password /secrets/*/bus_password'
case ${1:-} in
--token-key) forget+=' /secrets/*/token_key' ;;
'') ;;
*) echo "usage: deploy/rotate.sh [--token-key]" >&2; exit 2 ;;
esac

fail() { echo "rotate: $*" >&2; exit 1; }
which_project="is it this compose project (COMPOSE_PROJECT_NAME, COMPOSE_FILE), and has it been started once?"
one_shot() { "${compose[@]}" run --rm -T "$@" </dev/null; }
inside() { "${compose[@]}" exec -T "$@" </dev/null; }

[[ -n $("${compose[@]}" ps --all --quiet postgres) ]] || fail "there is no database here: $which_project"
"${compose[@]}" up -d --wait postgres rabbitmq
# Before any secret is forgotten: otherwise no one could log in to what is here.
ours=$(inside postgres psql -XqtA -U postgres -d docker_job -c "SELECT to_regclass('migrations.applied')") || ours=
[[ -n $ours ]] || fail "there is no database of docker-job here: $which_project"
echo "making new secrets"
one_shot --no-deps --entrypoint sh secrets -c "$forget"
one_shot --no-deps secrets
# The servers still have the admins' old passwords; these two commands need none. The services' open connections
# stay open, and from the migration on new ones fail until the services restart, a few seconds later.
inside postgres sh -c \
  'printf "ALTER ROLE postgres PASSWORD \047%s\047;" "$(cat /secrets/password)" |
    psql -qX -v ON_ERROR_STOP=1 -U postgres -d docker_job'
inside rabbitmq sh -c 'rabbitmqctl -q change_password docker-job "$(cat /secrets/password)"'
one_shot migrate
"${compose[@]}" up -d --wait --force-recreate --no-deps api scheduler launcher reaper
echo "rotated"
