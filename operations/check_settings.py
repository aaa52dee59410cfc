"""Check settings with the services' own readers: JSON of names and values on standard input.

`deploy.sh` asks this before it changes anything, since it imports no service. The exit status is 0,
or `EXIT_SETTING` with the first mistake on standard error. Names have no prefix.
"""

import json
import sys
from collections.abc import Mapping

from services.api.config import from_settings as read_api
from services.launcher.config import from_settings as read_launcher
from services.launcher.config import read_api_url
from services.reaper.config import from_settings as read_reaper
from services.scheduler.config import from_settings as read_scheduler
from shared.compute.ec2.settings import ec2_settings
from shared.settings import EXIT_SETTING, PREFIX, BadSetting, Settings
from shared.terminal import print_line

DEPLOYMENT, TOKEN_KEY = "check", "0" * 64


def check(values: Mapping[str, str]) -> None:
    """Read the settings as each service does at its start. Raises `BadSetting`."""
    settings = Settings({PREFIX + name: value for name, value in values.items()})
    ec2_settings(settings)
    read_api(settings, deployment=DEPLOYMENT, token_key=TOKEN_KEY, secrets_key=TOKEN_KEY)
    url = read_api_url(settings)
    read_launcher(settings, deployment=DEPLOYMENT, api_url=url, token_key=TOKEN_KEY)
    read_reaper(settings)
    read_scheduler(settings)


def main() -> int:
    """Check standard input; return the exit status."""
    try:
        check(json.load(sys.stdin))
    except BadSetting as error:
        print_line(str(error), error=True)
        return EXIT_SETTING
    return 0


if __name__ == "__main__":
    sys.exit(main())
