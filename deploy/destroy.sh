#!/bin/bash
# Removes docker-job from AWS: deploy/destroy.sh [--stack NAME] [--region R] [--profile P] [--keep-data].
exec "$(dirname "${BASH_SOURCE[0]}")/run.sh" deploy.down "$@"
