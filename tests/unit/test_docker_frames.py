"""The frames of a container's log stream."""

import pytest

from shared.compute.docker.frames import frames_text


def frame(stream: int, text: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        (frame(1, b"out\n") + frame(2, "é\n".encode()), "out\né\n"),
        (frame(1, b"whole\n") + frame(2, b"cut off")[:-4], "whole\ncut"),
        (frame(1, b"whole\n") + b"\x01\x00", "whole\n"),
        (frame(1, b"\xff"), "\ufffd"),
    ],
)
def test_the_text_of_both_streams_is_read_in_order(body: bytes, text: str) -> None:
    assert frames_text(body) == text
