#!/bin/bash
# Puts docker-job on AWS, or brings it up to date there: deploy/deploy.sh [--stack NAME] [--region R]
# [--profile P] [--dry-run]. All options: --help. It takes the credentials that the AWS SDK finds.
exec "$(dirname "${BASH_SOURCE[0]}")/run.sh" deploy.up "$@"
