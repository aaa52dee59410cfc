"""The options of how an answer is printed, alike in every command."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from docker_job.cli.render import Format

F = TypeVar("F", bound=Callable[..., Any])

FORMAT_HELP = (
    "table, json (a document on each line), or a template like docker's: "
    r"'{{.ID}}\t{{.Status}}', 'table {{.ID}}\t{{.Labels.team}}', '{{json .}}'."
)


class FormatType(click.ParamType[str]):
    """`table`, `json`, or a template, which is read here to refuse it early."""

    name = "FORMAT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the template."""
        del param, ctx
        Format.chosen(value)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        """Complete the two words; a template is the user's own."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - rarely needed

        del ctx, param
        return [CompletionItem(each) for each in ("table", "json") if each.startswith(incomplete)]


def format_option(command: F) -> F:
    """Give *command* the option `--format`, as `given_format`."""
    return click.option("--format", "given_format", type=FormatType(), help=FORMAT_HELP)(command)
