"""The limits of a container's arguments and environment, with the words for them.

Linux takes, see execve(2), a string of up to 128 KiB and all strings, with a pointer of 8 bytes to
each, up to a quarter of the stack's limit, which is 8 MiB. Of these 2 MiB most is left for the
image's own environment and for the values of `secrets`: 100 of SSM's (8 KiB) or 27 of Secrets
Manager's longest (64 KiB).
"""

OWN_VARIABLES = (
    "DOCKER_JOB_ID",
    "DOCKER_JOB_NAME",
    "DOCKER_JOB_ATTEMPT",
    "DOCKER_JOB_SCHEDULED_FOR",
)
"""The variables that every container gets of its job: `own_variables.py`."""

OWN_BYTES = 1000
"""As much as these count at most, with the longest name of a job."""

MAX_FIELD_BYTES = 65_536
MAX_VARIABLE_BYTES = 65_000
"""With its name. Agents of earlier releases fail a job for a longer one."""

MAX_EXEC_BYTES = 262_144
STRING_COST = 9
"""A string's NUL and its pointer."""

ARGUMENTS_LIMIT = f"At most {MAX_FIELD_BYTES} bytes."
VARIABLES_LIMIT = (
    f"With `secret_env` at most {MAX_FIELD_BYTES} bytes, names included, and {MAX_VARIABLE_BYTES} "
    f"for one. With `entrypoint` and `command`, {STRING_COST} bytes for each string and "
    f"{OWN_BYTES} for the container's own variables, at most {MAX_EXEC_BYTES}. "
    f"{', '.join(f'`{name}`' for name in OWN_VARIABLES)} are its own."
)
