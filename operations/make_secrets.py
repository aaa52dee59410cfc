"""The one-shot that makes every secret of a set-up in containers, before anything else starts.

A given one (a compose secret, mounted as a file) is used, an existing one is kept, the others are
made. Each is written to the directory, in compose a volume, that its readers alone mount: the
admins' passwords of Postgres and RabbitMQ, each service's logins, the token key, the API's
certificate and its key, the authority by which agents verify it, and the AWS credentials file for
the two services that use the cloud.
"""

import os
import sys
from pathlib import Path

from operations.service_secrets import (
    give_file,
    make_secrets_key,
    passwords,
    service_secret,
    share_token_key,
    tighten,
)
from operations.wiring import SERVICES
from shared.settings import EXIT_SETTING, BadSetting, Settings
from shared.terminal import print_line

ADMINS = ("postgres", "rabbitmq")
CLOUD_READERS = ("launcher", "reaper")


def make_secrets(settings: Settings) -> None:
    """Make the missing secrets in `DOCKER_JOB_SECRETS_DIR`. Raises `BadSetting`."""
    directory = Path(settings.required("SECRETS_DIR", "/secrets"))
    for admin in ADMINS:
        service_secret(settings, directory, admin, "password")
    names = tuple(service.NAME for service in SERVICES)
    passwords(settings, directory, names, "database_password")
    passwords(settings, directory, names, "bus_password")
    share_token_key(settings, directory)
    make_secrets_key(settings, directory)
    # Empty if none is given, so that a former one is removed. The key is last: the API reads both
    # again when one has changed, and goes on with the former pair while they do not match.
    give_file(directory, "api", "tls_certificate", settings.text("TLS_CERTIFICATE", ""))
    give_file(directory, "api", "tls_key", settings.text("TLS_KEY", ""))
    give_file(directory, "launcher", "api_ca", settings.text("API_CA", ""))
    credentials = settings.text("AWS_CREDENTIALS", "")
    for service in CLOUD_READERS:
        give_file(directory, service, "aws_credentials", credentials)
    if opened := tighten(directory):
        paths = ", ".join(str(each.relative_to(directory)) for each in opened)
        print_line(f"docker-job secrets: closed to other users: {paths}")


def main() -> int:
    """Run, and return the exit status."""
    try:
        make_secrets(Settings(os.environ))
    except (BadSetting, OSError) as error:
        print_line(f"docker-job secrets: {error}", error=True)
        return EXIT_SETTING
    return 0


if __name__ == "__main__":
    sys.exit(main())
