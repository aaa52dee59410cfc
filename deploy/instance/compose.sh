#!/bin/bash
# `docker compose` on the services' instance, with start.sh's settings: compose.sh ps, compose.sh logs api …
set -euo pipefail
# shellcheck disable=SC1091
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/start.sh"
load_settings
compose "$@"
