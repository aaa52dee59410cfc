"""docs/cli.md, made from the commands: `python -m docker_job.cli.reference`."""

import re
from collections.abc import Iterator

import click

from docker_job.cli.app import App
from docker_job.cli.main import group

NAME = "docker-job"

HEAD = """\
# The command line

Made by `make docs` from the commands; each also shows its part with `--help`.

`make run` installs it as `.venv/bin/docker-job`; alone it is installed with `pipx install ./client`
([client/README.md](../client/README.md)). `docker-job install-plugin` makes it `docker job …` too.

It is a client of the public HTTP API ([api.md](api.md)). A JOB is an id or a name; a name means the
newest job of that name. On a terminal output is for reading: colours, times as ages, tables cut to
the width. Piped it is plain and whole.

`--json` prints JSON: an array or what the API answers, and of what has no end a document on each
line. `--format` takes `table`, `json` (a document on each line) or a template, as docker's: fields
are those of the table (`.ID`, `.Status`) and of the JSON document in any spelling (`.ExitCode`,
`.exit_code`, `.Labels.team`); `.State` is the status as the API names it. Functions: `json upper
lower title split join truncate pad len index print println eq ne lt le gt ge not and or`; also
`if`, `else`, `with`, `range`, `end`.

## Exit codes

| code | |
|---|---|
| 0 | done; of `run` and `rerun`: the container exited 0 |
| 1 | something was found wrong (`doctor`), or nothing was done since the answer was no |
| 2 | wrong arguments or options |
| 124 | `run`, `rerun`, `wait`: the job's time limit passed |
| 125 | an error: no API answers, it refuses the key, there is no such job; `run`: the job failed |
| 130 | Ctrl-C; of `run`: the job was cancelled |
| other | `run`, `rerun`, `wait`: the container's own |

An error is two lines on standard error: what is wrong, and what to do.

## Environment

| variable | |
|---|---|
| `DOCKER_JOB_URL` | the API, in place of the context's; by default `http://127.0.0.1:8000` |
| `DOCKER_JOB_KEY`, `DOCKER_JOB_KEY_FILE` | the API key, or a file that holds it |
| `DOCKER_JOB_CONTEXT` | the context to use |
| `DOCKER_JOB_CACERT` | a file with the authority of the API's certificate, in PEM |
| `DOCKER_JOB_INSECURE` | `yes`: send the key over plain HTTP to another machine |
| `DOCKER_JOB_CONFIG` | the configuration file, by default `~/.config/docker-job/config.json` |
| `NO_COLOR` | if it is not empty: no colours |

An option wins over a variable, a variable over the context.
"""

EXAMPLES = {
    "context ls": "docker-job context ls",
    "context rm": "docker-job context rm old",
    "context show": "docker-job context show",
    "context use": "docker-job context use production",
    "doctor": "docker-job doctor",
    "install-plugin": "docker-job install-plugin && docker job ps",
    "login": "docker-job login https://jobs.example.com",
    "logout": "docker-job logout",
    "logs": "docker-job logs -f --tail 100 nightly-report",
    "rerun": "docker-job rerun --failed --since 1d",
    "run": "docker-job run --cpus 4 -m 8g --timeout 2h python:3.13-slim python -c 'print(6*7)'",
    "stop": "docker-job stop --filter label=team=data",
    "version": "docker-job version",
    "wait": "docker-job wait 217 218",
}
"""Of commands that have none in their help."""


def document() -> str:
    """Make the document."""
    root = click.Context(group, info_name=NAME, obj=App())
    commands = list(_commands(root))
    rows = [
        f"| [`{name}`](#{_anchor(name)}) | {_cell(context.command.get_short_help_str(80))} |\n"
        for name, context in commands
    ]
    head = f"{HEAD}\n## Commands\n\n| `{NAME} …` | |\n|---|---|\n{''.join(rows)}\n"
    options = f"Options before the command:\n\n{_options(root)}"
    return head + options + "".join(_section(name, each) for name, each in commands)


def _commands(context: click.Context) -> Iterator[tuple[str, click.Context]]:
    """Yield the commands that can be run, with those of groups, each with its words."""
    assert isinstance(context.command, click.Group)  # noqa: S101 - for the type checker
    for name in context.command.list_commands(context):
        command = context.command.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, parent=context, info_name=name, obj=context.obj)
        if isinstance(command, click.Group):
            yield from _commands(inner)
        else:
            yield inner.command_path.removeprefix(f"{NAME} "), inner


def _section(name: str, context: click.Context) -> str:
    usage = " ".join(context.command.collect_usage_pieces(context))
    epilog = context.command.epilog or ""
    example = epilog.removeprefix("Example: ") if epilog.startswith("Example: ") else EXAMPLES[name]
    about = _paragraphs(context.command.help or "")
    if epilog and not epilog.startswith("Example: "):
        about += "\n" + _paragraphs(epilog)
    about = f"{about}\n{_options(context)}".strip()
    return (
        f"\n## {name}\n\n```\n{NAME} {name} {usage}\n```\n\n{about}\n"
        f"\nFor example:\n\n```\n{example}\n```\n"
    )


def _paragraphs(text: str) -> str:
    """Render help: one line a paragraph, and what click leaves as it is as code."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph.startswith("\b"):
            code = paragraph.removeprefix("\b").strip()
            parts.append(f"```\n{code}\n```\n")
        else:
            parts.append(" ".join(paragraph.split()) + "\n")
    return "\n".join(parts)


def _options(context: click.Context) -> str:
    rows = []
    for each in context.command.get_params(context):
        record = each.get_help_record(context)
        if record is not None and record[1] and "--help" not in record[0]:
            rows.append(f"| `{_cell(record[0])}` | {_cell(record[1])} |\n")
    return f"| option | |\n|---|---|\n{''.join(rows)}" if rows else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


if __name__ == "__main__":
    click.echo(document(), nl=False)
