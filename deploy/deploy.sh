#!/bin/bash
# Deploys docker-job to AWS, or updates the deployment: deploy/deploy.sh [--stack NAME] [--region R]
# [--profile P] [--dry-run]. All options: --help. It uses the credentials that the AWS SDK finds.
exec "$(dirname "${BASH_SOURCE[0]}")/run.sh" deploy.up "$@"
