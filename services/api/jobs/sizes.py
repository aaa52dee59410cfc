"""The limits of a container's arguments and environment, with the words for them.

Linux takes, see execve(2), a string of up to 32 pages of 4 KiB with its NUL, and all strings, with
a pointer of 8 bytes to each, up to a quarter of the stack's limit, which is 8 MiB. Of these 2 MiB
most is left for the image's own environment and for the values of `secrets`: 100 of SSM's (8 KiB)
or 27 of Secrets Manager's longest (64 KiB). And a page of `GET /list` is held in memory.
"""

MAX_STRING_BYTES = 131_071
MAX_EXEC_BYTES = 262_144
STRING_COST = 9
"""A string's NUL and its pointer."""

EXEC_LIMIT = (
    f"A string, with its name if it has one, has at most {MAX_STRING_BYTES} bytes. `entrypoint`, "
    f"`command`, `env_vars` and `secret_env` together have at most {MAX_EXEC_BYTES}, and each "
    f"string counts {STRING_COST} more."
)
