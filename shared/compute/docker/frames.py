"""The frames of a container's log stream, as the engine sends them without a terminal."""

HEADER = 8
"""A stream's number, three zeros, and the length of what follows.
https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerAttach
"""


def frames_text(body: bytes) -> str:
    """Return the text of all frames in their order; a last one that was cut off as far as it is."""
    text, at = b"", 0
    while at + HEADER <= len(body):
        length = int.from_bytes(body[at + 4 : at + HEADER], "big")
        text += body[at + HEADER : at + HEADER + length]
        at += HEADER + length
    return text.decode(errors="replace")
