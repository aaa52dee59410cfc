#!/bin/bash
# Runs a module of ours with the locked packages, which `make` installs into .venv the first time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# The SDK takes an empty AWS_PROFILE for the name of a profile.
for name in "${!AWS_@}"; do
  [[ -n ${!name//[[:space:]]/} ]] || unset "$name"
done
python=.venv/bin/python
# boto3 is ours; the others are those of the services' readers, which check settings.
packages='"boto3", "aiohttp", "asyncpg", "cryptography", "msgspec", "starlette", "structlog"'
if ! "$python" -c "from importlib.util import find_spec; assert all(map(find_spec, ($packages)))" 2>/dev/null; then
  command -v make >/dev/null || { echo "deploy: make is needed, to set up Python's packages" >&2; exit 1; }
  make --no-print-directory .venv/.runtime >&2 ||
    { echo "deploy: Python 3.11 or newer with the AWS SDK is needed; see make's message above" >&2; exit 1; }
fi
exec "$python" -m "$@"
