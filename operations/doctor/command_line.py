"""The command line of the doctor."""

import argparse

DESCRIPTION = """\
Checks an installation of docker-job: credentials, permissions, quotas, network, image, template,
queue, prices, the API, the database and the broker. It reads the settings of the services, makes
the launcher's and the reaper's own calls as dry runs, and changes nothing.
"""

EPILOG = """\
  make doctor
  make doctor ARGS="--as launcher --json"

under compose, with the settings and credentials of each service:
  docker compose run --rm --no-deps launcher operations.doctor --as launcher
  docker compose run --rm --no-deps reaper operations.doctor --as reaper

`docker-job doctor` is another command: it checks a client's way to the API.

exit status: 0 nothing has failed, 1 something has, 78 a setting is missing or wrong
"""


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the arguments; end the process with status 2 and a message if they are wrong."""
    top = argparse.ArgumentParser(
        prog="python -m operations.doctor",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--as",
        dest="role",
        choices=("launcher", "reaper", "all"),
        default="all",
        help="whose permissions these credentials must have (default: all)",
    )
    top.add_argument("--json", action="store_true", help="print JSON")
    return top.parse_args(argv)
