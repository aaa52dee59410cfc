#!/bin/bash
# Starts the services on this instance: the user data runs it at the first boot, systemd at every later one.
# Each step is idempotent. Settings: /etc/docker-job/instance.env, written by the user data.
set -euo pipefail

release_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
ready_seconds=600

say() { printf 'start: %s\n' "$*"; }
cloud() { python3 "$release_dir/deploy/instance/cloud.py" "$@"; }
authority() { PYTHONPATH=$release_dir:${PYTHONPATH:-} python3 -m deploy.instance.authority "$@"; }

# again SECONDS STEP COMMAND…: repeat a command until it succeeds, for that long at most, with growing pauses.
again() {
  local seconds=$1 step=$2 pause=1 deadline=$((SECONDS + $1)) status
  shift 2
  while status=0; "$@" || status=$?; ((status != 0)); do
    if ((SECONDS + pause >= deadline)); then
      say "$step: status $status, at each try in $seconds s" >&2
      return "$status"
    fi
    say "$step: status $status; again in $pause s" >&2
    sleep "$pause.$((RANDOM % 10))"
    pause=$((pause < 16 ? 2 * pause : 30))
  done
}

# What `deploy.sh --set` has chosen. A value is never evaluated, whatever it contains.
load_chosen_settings() {
  local line file=${SETTINGS_FILE:-/etc/docker-job/settings.json}
  [[ -s $file ]] || return 0
  while IFS= read -r -d '' line; do
    export "DOCKER_JOB_$line"
  done < <(python3 -c 'import json, re, sys
for name, value in json.load(open(sys.argv[1])).items():
    if re.fullmatch("[A-Z0-9_]+", name):
        print(name + "=" + value, end="\0")' "$file")
  wait $! # its status
}

load_settings() {
  set -a
  # shellcheck disable=SC1091
  source /etc/docker-job/instance.env
  # shellcheck disable=SC1091
  source "${IMAGES_LOCK:-$release_dir/images.lock}" # PYTHON_IMAGE and others, by digest
  load_chosen_settings
  DATA_DIR=${DATA_DIR:-/srv/docker-job}
  RUN_DIR=${RUN_DIR:-/run/docker-job}
  SERVICE_SECRETS_DIR=$RUN_DIR/services
  DOCKER_JOB_IMAGE=docker-job:$RELEASE
  DOCKER_JOB_STS_REGION=$AWS_REGION
  DOCKER_JOB_DEPLOYMENT=$STACK
  DOCKER_JOB_POSTGRES_PASSWORD_FILE=$RUN_DIR/secrets/postgres_password
  DOCKER_JOB_RABBITMQ_PASSWORD_FILE=$RUN_DIR/secrets/rabbitmq_password
  DOCKER_JOB_TOKEN_KEY_FILE=$RUN_DIR/secrets/token_key
  DOCKER_JOB_SECRETS_KEY_FILE=$RUN_DIR/secrets/secrets_key
  DOCKER_JOB_AWS_CREDENTIALS_FILE=$RUN_DIR/secrets/aws_credentials
  DOCKER_JOB_TLS_CERTIFICATE_FILE=$RUN_DIR/secrets/tls/certificate.pem
  DOCKER_JOB_TLS_KEY_FILE=$RUN_DIR/secrets/tls/key.pem
  DOCKER_JOB_API_CA_FILE=$RUN_DIR/secrets/tls/ca.pem
  DOCKER_JOB_HOST=0.0.0.0
  DOCKER_JOB_PORT=${DOCKER_JOB_PORT:-8443}
  DOCKER_JOB_API_URL=${DOCKER_JOB_API_URL:-https://$API_NAME:$DOCKER_JOB_PORT}
  COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-docker-job}
  INSTANCE_ID=$(cloud instance-id)
  set +a
}

# Ubuntu calls the compose plugin docker-compose-v2 and has the client in docker.io; Debian calls it
# docker-compose and has the client apart.
install_packages() {
  if docker compose version >/dev/null 2>&1; then
    return
  fi
  local wanted=(docker.io docker-buildx e2fsprogs curl)
  if apt-cache show docker-compose-v2 >/dev/null 2>&1; then
    wanted+=(docker-compose-v2)
  else
    wanted+=(docker-compose docker-cli)
  fi
  say "installing ${wanted[*]}"
  again 400 "apt-get install" install_from_mirror "${wanted[@]}"
}

# A mirror that is being synchronized answers with hash sums that do not match: the lists are fetched again too.
install_from_mirror() {
  local apt=(timeout 300 apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3)
  "${apt[@]}" update && DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null
}

# Format a volume only when it is new: all zeros at its head.
format_if_empty() {
  local device=$1
  if blkid -p "$device" >/dev/null 2>&1; then
    return
  fi
  if ! cmp -s -n $((16 << 20)) "$device" /dev/zero; then
    say "$device has data on it, but no known file system: it is left unchanged" >&2
    return 1
  fi
  say "formatting $device, which is empty"
  mkfs.ext4 -q -L docker-job "$device"
}

mount_data() {
  if mountpoint -q "$DATA_DIR"; then
    return
  fi
  local device
  device=$(cloud attach "$DATA_VOLUME")
  format_if_empty "$device"
  mkdir -p "$DATA_DIR"
  grep -qs " $DATA_DIR " /etc/fstab ||
    echo "LABEL=docker-job $DATA_DIR ext4 defaults,nofail,x-systemd.device-timeout=300 0 2" >>/etc/fstab
  mount "$device" "$DATA_DIR"
  resize2fs "$device" >/dev/null 2>&1 || true # it may have grown
}

# On the volume of another snapshot, Postgres would start with an empty database.
refuse_snapshot_without_data() {
  if [[ -z ${DATA_SNAPSHOT:-} || -s $DATA_DIR/postgres/PG_VERSION ]]; then
    return
  fi
  say "$DATA_SNAPSHOT holds no database of docker-job: deploy again with --from-snapshot and another one" >&2
  return 1
}

# What a service reads is in memory (/run is a tmpfs: hier(7), systemd's file-hierarchy(7)), never on the volume nor in
# its snapshots, which have what the sealing key has sealed. After a reboot it is written again: the keys from the
# parameters, while the services' passwords are new ones, which the migration sets.
make_directories() {
  mkdir -p "$DATA_DIR"/{postgres,rabbitmq}
  install -d -m 0700 "$SERVICE_SECRETS_DIR" "$SERVICE_SECRETS_DIR"/{postgres,rabbitmq,api,scheduler,launcher,reaper}
}

# Releases before kept the services' secrets on the volume. The keys that only the volume has (a snapshot of another
# time may) are written to the parameter and read back before the files go: stopped anywhere, this runs again.
# shred: ext4 overwrites in place in its default mode, data=ordered (shred(1)).
remove_secrets_on_volume() {
  local old=$DATA_DIR/secrets
  [[ -d $old ]] || return 0
  cloud keep-sealing-keys "$STACK" "$old/api/secrets_key"
  find "$old" -type f -exec shred -n 1 -u {} +
  rm -rf "$old"
  sync -f "$DATA_DIR"
  say "removed the services' secrets from the data volume. Snapshots of it have them: rotate the sealing key, with" \
    "$release_dir/deploy/instance/start.sh rotate-sealing-key"
}

# In memory, for root alone: compose mounts them into the one-shot that gives each service its own.
write_secrets() {
  install -d -m 0700 "$RUN_DIR/secrets" "$RUN_DIR/secrets/tls"
  cloud secrets "$STACK" "$RUN_DIR/secrets"
  # Not a secret, but passed on the same way: the place of the launcher's and the reaper's sessions.
  (
    umask 077
    printf '[%s]\ncredential_process = /bin/cat /secrets/aws_session\n' launcher reaper \
      >"$RUN_DIR/secrets/aws_credentials"
  )
}

# A session lasts an hour, and is renewed every twenty minutes. No container reaches the instance's own
# credentials: the metadata service answers only the instance itself.
write_sessions() {
  cloud session "$LAUNCHER_ROLE" launcher "$SERVICE_SECRETS_DIR/launcher/aws_session"
  cloud session "$REAPER_ROLE" reaper "$SERVICE_SECRETS_DIR/reaper/aws_session"
}

# The API's certificate, of the deployment's own authority, whose key is in SSM and here in memory, for root alone.
# The API reads a renewed one by itself; agents and users have the authority's certificate.
make_certificate() {
  local names tls=$RUN_DIR/secrets/tls
  names=$(authority names "$API_NAME" "${DOMAIN:-}" "${PUBLIC_ADDRESS:-}")
  authority fetch "$STACK" "$tls"
  # shellcheck disable=SC2086
  compose run --rm -T --no-deps certificate operations.make_certificate /tls $names
  authority keep "$STACK" "$tls"
}

renew_certificate() {
  make_certificate
  compose run --rm -T --no-deps secrets
}

# An operator's own credentials are not passed on to the services.
compose() {
  local files=(-f "$release_dir/compose.yaml" -f "$release_dir/deploy/compose.aws.yaml")
  [[ -z ${LOG_GROUP:-} ]] || files+=(-f "$release_dir/deploy/compose.logs.yaml")
  [[ -z ${PLAIN_HTTP:-} ]] || files+=(-f "$release_dir/deploy/compose.plain.yaml")
  env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY -u AWS_SESSION_TOKEN \
    docker compose --project-directory "$release_dir" "${files[@]}" "$@"
}

# Set the admins' passwords to the secrets, whatever they were: so a deleted secret is rotated, and a kept volume
# works under a new stack. Each is in its container as /secrets/password, and appears on no command line but
# RabbitMQ's inside the container (without an argument its tool may wait for a terminal for ever).
set_admin_passwords() {
  printf "ALTER ROLE postgres PASSWORD '%s';\n" "$(<"$RUN_DIR/secrets/postgres_password")" |
    compose exec -T postgres psql -qX -v ON_ERROR_STOP=1 -U postgres -d docker_job
  compose exec -T rabbitmq \
    sh -c 'rabbitmqctl -q change_password docker-job "$(cat /secrets/password)"' </dev/null
}

start_services() {
  say "building"
  again 600 "building the image" compose build --quiet migrate
  say "making or renewing the certificate"
  make_certificate
  say "starting the database and the broker"
  again 300 "pulling images" compose pull --quiet --policy missing postgres rabbitmq
  compose up --quiet-pull -d --wait postgres rabbitmq
  set_admin_passwords
  say "migrating"
  again 120 "migrating" compose run --rm -T migrate
  settle_restored
  make_first_key
  say "starting the services"
  compose up -d --wait --remove-orphans api scheduler launcher reaper
}

# Run once for a volume made from a snapshot: database and broker are of the same time, but instances and
# consumers have moved on since (operations/resend.py).
settle_restored() {
  local mark=$DATA_DIR/restored-from
  if [[ -z ${DATA_SNAPSHOT:-} || $(cat "$mark" 2>/dev/null) == "$DATA_SNAPSHOT" ]]; then
    return
  fi
  say "the data comes from $DATA_SNAPSHOT"
  compose run --rm -T migrate operations.resend
  echo "$DATA_SNAPSHOT" >"$mark"
}

make_first_key() {
  local keys=(compose run --rm -T --no-deps api keys)
  "${keys[@]}" list | grep -q '^no keys' || return 0
  say "making the first API key"
  "${keys[@]}" create --name first --scope admin | cloud keep-first-key "$STACK"
}

wait_until_ready() {
  local deadline=$((SECONDS + ready_seconds)) url=https://127.0.0.1:$DOCKER_JOB_PORT/readyz found
  local get=(curl -sS -m 5 --cacert "$DOCKER_JOB_API_CA_FILE")
  # The API is ready without the broker; a new instance is not.
  until found=$("${get[@]}" -f "$url" 2>/dev/null) && [[ $found != *'"degraded"'* ]]; do
    if ((SECONDS >= deadline)); then
      say "$url does not answer with 200, or names something as degraded:" >&2
      "${get[@]}" "$url" >&2 || true
      compose ps >&2
      return 1
    fi
    sleep 2
  done
  say "$url answers"
}

# Systemd runs this again at every boot, and renews the sessions. Docker starts our containers before that, so
# it must wait for the volume: Postgres on an empty directory would start with an empty database.
install_units() {
  [[ -d /run/systemd/system ]] || return 0
  local units=/etc/systemd/system start=/opt/docker-job/current/deploy/instance/start.sh
  mkdir -p "$units/docker.service.d"
  printf '[Unit]\nRequiresMountsFor=%s\n' "$DATA_DIR" >"$units/docker.service.d/docker-job.conf"
  cat >"$units/docker-job.service" <<UNIT
[Unit]
Description=docker-job
After=docker.service network-online.target
Wants=network-online.target
Requires=docker.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$start
Restart=on-failure
RestartSec=60
[Install]
WantedBy=multi-user.target
UNIT
  write_timer sessions 20min "new sessions for launcher and reaper"
  write_timer certificate 24h "the API's certificate, renewed when half of its time is over"
  systemctl daemon-reload
  systemctl enable -q docker-job.service
  systemctl enable -q --now docker-job-sessions.timer docker-job-certificate.timer
}

# write_timer ARGUMENT PERIOD DESCRIPTION: have systemd run this script with the argument.
write_timer() {
  cat >"$units/docker-job-$1.service" <<UNIT
[Unit]
Description=docker-job: $3
After=network-online.target
[Service]
Type=oneshot
ExecStart=$start $1
Restart=on-failure
RestartSec=30
UNIT
  cat >"$units/docker-job-$1.timer" <<UNIT
[Unit]
Description=docker-job: $3
[Timer]
OnBootSec=$2
OnUnitActiveSec=$2
[Install]
WantedBy=timers.target
UNIT
}

forget_old_images() {
  docker image ls -q --filter reference='docker-job:*' --filter before="docker-job:$RELEASE" |
    sort -u | xargs -r docker image rm >/dev/null 2>&1 || true
}

# Status 99: the failure is signalled. Otherwise the user data does it, without boto3.
failed() {
  say "failed" >&2
  sleep 0.2 # for tee
  export STEP_SECONDS=40
  [[ -z ${LOG_GROUP:-} ]] || tail -c 100000 "$RUN_DIR/start.log" | cloud note "$LOG_GROUP" || true
  if cloud signal "$STACK" FAILURE; then exit 99; fi
}

main() {
  load_settings
  install -d -m 0700 "$RUN_DIR"
  exec > >(tee "$RUN_DIR/start.log") 2>&1
  trap 'status=$?; ((status == 0)) || failed' EXIT
  trap 'say "stopped: the time for the start is over" >&2; exit 143' TERM
  install_packages
  mount_data
  install_units
  refuse_snapshot_without_data
  make_directories
  remove_secrets_on_volume
  write_secrets
  write_sessions
  start_services
  wait_until_ready
  [[ -z ${ADDRESS_ID:-} ]] || cloud address "$ADDRESS_ID"
  cloud name "$ZONE_ID" "$API_NAME"
  cloud signal "$STACK" SUCCESS
  forget_old_images
  say "up"
}

# A new key seals from now on; those before it open what they have sealed.
rotate_sealing_key() {
  cloud new-sealing-key "$STACK"
  write_secrets
  compose run --rm -T --no-deps secrets
  compose up -d --wait --force-recreate --no-deps api
  say "rotated the sealing key"
}

# Sourced by its test, which calls single steps.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  case ${1:-} in
    sessions)
      load_settings
      write_sessions
      ;;
    certificate)
      load_settings
      renew_certificate
      ;;
    rotate-sealing-key)
      load_settings
      rotate_sealing_key
      ;;
    '') main ;;
    *) echo "usage: start.sh [sessions | certificate | rotate-sealing-key]" >&2; exit 2 ;;
  esac
fi
