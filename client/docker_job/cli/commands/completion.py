"""`docker-job completion`: the shells' completion; and Docker's own protocol for it."""

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

NAME, VARIABLE = "docker-job", "_DOCKER_JOB_COMPLETE"
NO_FILES, FILES = 4, 0
"""Directives of cobra's protocol: whether the shell completes files where nothing is offered."""


@click.command(
    short_help="Print the completion of a shell.",
    epilog="Example: source <(docker-job completion bash)",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print the script that completes `docker-job` in a shell: commands, options, jobs.

    \b
    bash  source <(docker-job completion bash)         in ~/.bashrc (bash 4.4 or newer)
    zsh   source <(docker-job completion zsh)          in ~/.zshrc, after compinit
    fish  docker-job completion fish > ~/.config/fish/completions/docker-job.fish

    `docker job …` is completed by Docker's own script: `docker completion bash`.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has these three
    click.echo(kind(context.find_root().command, {}, NAME, VARIABLE).source())


@click.command(
    "__complete",
    hidden=True,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def __complete(context: click.Context, words: tuple[str, ...]) -> None:
    """Print completions as cobra does, in which Docker's command asks its plugins for them.

    Called as `docker-job __complete job WORD… INCOMPLETE`; answers a line for each completion, with
    a tab before its description, then a colon and what the shell may do besides.
    """
    *before, incomplete = words[1:] or ("",)
    root = context.find_root().command
    items = ShellComplete(root, {}, NAME, VARIABLE).get_completions(before, incomplete)
    for each in items:
        if each.type == "plain":
            click.echo(_line(each))
    has_files = any(each.type in ("file", "dir") for each in items)
    click.echo(f":{FILES if has_files else NO_FILES}")


def _line(item: CompletionItem) -> str:
    described = f"\t{' '.join(item.help.split())}" if item.help else ""
    return f"{item.value}{described}"
