"""Start a service in a container as an unprivileged user with the group of the engine's socket.

    python -m operations.engine_user services.launcher

The group of the socket differs from machine to machine, and a compose file cannot find it out. So
launcher and reaper start as root, with only the two capabilities needed to change user. After that
no right of root is left: setuid clears the capabilities, and no-new-privileges keeps them cleared.
Only if the socket is for its owner alone do they stay root, still without capabilities.
"""

import os
import sys

from operations.service_secrets import OWNER
from shared.compute.docker.container import SOCKET, user_of

HOME = "/app"


def become_engine_user(socket: str) -> None:
    """Change to the user that may use *socket*; do nothing if this user is not root."""
    if os.geteuid() != 0:
        return
    user, groups = user_of(socket)
    number = int(user.partition(":")[0])
    os.setgroups([OWNER, *(int(each) for each in groups)])  # with OWNER's, root reads its secrets
    os.setgid(number)
    os.setuid(number)
    os.environ["HOME"] = HOME  # else root's, which is closed to it now


def main() -> None:
    """Become that user, then run the module that the first argument names."""
    become_engine_user(SOCKET)
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main()
