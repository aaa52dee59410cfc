"""The agent's own role, from its start to its end."""

from __future__ import annotations

import os
import signal

from .attempt import Agent
from .environment import read_bounds, read_config, take_bootstrap_token
from .errors import ConfigError, Terminated
from .instance_dir import InstanceDirectory
from .lifetime import (
    EXIT_BAD_CONFIGURATION,
    EXIT_ENDED,
    EXIT_INSTANCE_TAKEN,
    Ending,
    Lifetime,
    power_off,
)
from .log import log
from .metadata import metadata_service, seconds_since_launch
from .oom import AGENT_SCORE, set_score


def run_agent() -> int:
    """Run the attempt that the environment names, then end the process (or the machine)."""
    bootstrap_token = take_bootstrap_token(os.environ)
    bounds = read_bounds(os.environ)
    try:
        home = InstanceDirectory(bounds.instance_dir)
        if not home.lock():
            log("another agent has this instance directory")
            return EXIT_INSTANCE_TAKEN
    except OSError as error:  # no such directory, a full disk: nothing can run here
        log("the instance directory cannot be used", error=type(error).__name__)
        if bounds.power_off:
            power_off()
        return EXIT_BAD_CONFIGURATION
    if bounds.power_off:  # the machine is the instance's own
        set_score(AGENT_SCORE)
    ending = Ending(home, by_power_off=bounds.power_off)
    lifetime = Lifetime(bounds, ending)
    lifetime.arm()
    try:
        config = read_config(os.environ)
        # On a shared machine the instance is as old as its agent.
        metadata = metadata_service(config.metadata_url) if bounds.power_off else None
        lifetime.count_from_launch(seconds_since_launch(metadata))
        log("agent started", job=config.job_id, attempt=config.attempt, instance=config.instance_id)
        reason, code = Agent(config, home, lifetime).run(bootstrap_token), EXIT_ENDED
    except Terminated:
        reason, code = "terminated", EXIT_ENDED
    except ConfigError as error:
        reason, code = f"bad configuration: {error}", EXIT_BAD_CONFIGURATION
    except Exception as error:  # noqa: BLE001 - the instance must end
        reason, code = f"agent fault: {type(error).__name__}", 1
    for number in (signal.SIGTERM, signal.SIGINT):  # it ends already
        signal.signal(number, signal.SIG_IGN)
    return ending(reason, code)
