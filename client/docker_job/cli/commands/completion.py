"""`docker-job completion`: the completion of a shell, which click makes."""

import click
from click.shell_completion import get_completion_class

NAME, VARIABLE = "docker-job", "_DOCKER_JOB_COMPLETE"


HELP = """\
Print the script that completes `docker-job` in a shell: commands, options, jobs.

\b
bash  source <(docker-job completion bash)         in ~/.bashrc (bash 4.4 or newer)
zsh   source <(docker-job completion zsh)          in ~/.zshrc, after compinit
fish  docker-job completion fish > ~/.config/fish/completions/docker-job.fish

`docker job …` is completed by Docker's own script: `docker completion bash`.
"""


@click.command(
    help=HELP,
    short_help="Print the completion of a shell.",
    epilog="Example: source <(docker-job completion bash)",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script of a shell."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has these three
    click.echo(kind(context.find_root().command, {}, NAME, VARIABLE).source())
