"""docs/cli.md is made from the commands, and its examples are commands."""

import shlex
from pathlib import Path

import click
import pytest

from docker_job.cli.app import App
from docker_job.cli.main import group
from docker_job.cli.reference import document

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/cli.md"
EXAMPLES = [
    line.partition(" && ")[0]
    for line in document().splitlines()
    if line.startswith("docker-job ") and "[OPTIONS]" not in line
]


def test_the_document_is_what_the_commands_make() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run: make docs"


def test_every_command_has_a_section_with_an_example() -> None:
    text = document()
    commands = text.count("\n## ") - len(("Exit codes", "Environment", "Commands"))
    assert commands == text.count("\nFor example:\n") > 15


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_command_that_is_understood(example: str) -> None:
    command: click.Command = group
    context = click.Context(group, info_name="docker-job", obj=App())
    words = shlex.split(example)[1:]
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None
        command = found
    command.make_context(command.name, words, parent=context)
