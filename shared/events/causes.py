"""Causes of an attempt's end, and the ends of a job."""

from typing import Literal

Cause = Literal[
    "done",  # a container of the attempt exited 0
    "failed",  # the container exited otherwise, or the agent could not run it
    "timed_out",  # the job's own time limit passed
    "interrupted",  # the Spot market reclaimed the instance
    "pull_failed",  # the image could not be pulled
    "no_capacity",  # no instance was available within its waiting time
    "lost",  # the agent stopped reporting
    "cancelled",  # a user cancelled the job
    "refused",  # the launch was refused for good
    "superseded",  # a replacement, and the attempt before it finished the job
]

TerminalStatus = Literal["DONE", "FAILED", "CANCELLED"]
