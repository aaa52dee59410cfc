"""Starts a service in a container as nobody's user, with the group of the engine's socket.

    python -m operations.engine_user services.launcher

Which group may use the socket differs from machine to machine, and no compose file can ask. So
launcher and reaper start as root, with no capability but the two that changing user takes. After
that nothing of root is left: setuid clears the capabilities, and no-new-privileges keeps them gone.
Only where the socket is for its owner alone do they stay root, without capabilities all the same.
"""

import os
import sys

from shared.compute.docker.container import SOCKET, user_of

HOME = "/app"


def become_engine_user(socket: str) -> None:
    """Change to the user that may use *socket*; nothing to do for who is not root."""
    if os.geteuid() != 0:
        return
    user, groups = user_of(socket)
    number = int(user.partition(":")[0])
    os.setgroups([int(each) for each in groups])
    os.setgid(number)
    os.setuid(number)
    os.environ["HOME"] = HOME  # else root's, which is closed to it now


def main() -> None:
    """Become that user, then the module that the first argument names."""
    become_engine_user(SOCKET)
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main()
