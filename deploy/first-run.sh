#!/bin/bash
# Plays the first run in a throw-away AWS account, step by step, and writes a report: deploy/first-run.sh --plan,
# then deploy/first-run.sh --email you@example.com. Details: docs/first-run.md.
exec "$(dirname "${BASH_SOURCE[0]}")/run.sh" deploy.first_run "$@"
