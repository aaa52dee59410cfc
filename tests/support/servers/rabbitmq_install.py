"""A broker for `make test` where there is none: as root on Debian its rabbitmq-server is installed.

    python -m tests.support.servers.rabbitmq_install [beside]

Does nothing where a Docker engine has RabbitMQ's image or `DOCKER_JOB_TEST_BUS_URL` names a broker
(CI says "beside": it wants both kinds), or where the server is installed; and nothing where it
cannot be, which the skips then say.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.servers.rabbitmq_kinds import GIVEN
from tests.support.servers.rabbitmq_server import engine_answers, server_is_installed

PACKAGE = "rabbitmq-server"
INSTALL_SECONDS = 600
# Asked by Debian's packages before they start what they bring: 101 forbids it. The tests run a
# private node, and the machine gets no broker that anybody reaches.
POLICY = Path("/usr/sbin/policy-rc.d")


def is_wanted(*, beside: bool) -> bool:
    """Return whether no broker is there (or one is wanted *beside* it), and it can be installed."""
    if server_is_installed() or (not beside and (os.environ.get(GIVEN) or engine_answers())):
        return False
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install() -> bool:
    """Install it without starting it; return whether that succeeded."""
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        return _apt("update") and _apt("install", "--yes", "--no-install-recommends", PACKAGE)
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


def _apt(*arguments: str) -> bool:
    done = subprocess.run(
        ["apt-get", "-qq", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        print(done.stderr.strip(), file=sys.stderr)
    return done.returncode == 0


def main() -> None:
    """Install it if it is wanted, in a line; a failure fails no test, it skips some."""
    if not is_wanted(beside="beside" in sys.argv[1:]):
        return
    print(f"Installing {PACKAGE} for the tests (once) ...")
    if not install():
        print(f"{PACKAGE} could not be installed: the tests that need a broker are skipped.")


if __name__ == "__main__":
    main()
