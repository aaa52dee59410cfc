"""The options of `run` as the document of a job: Docker's units, files and names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from docker_job.cli.dockers_flags import docker_flags
from docker_job.cli.environment import secrets, variables
from docker_job.cli.job_fields import job_fields, merged, rounding, words
from docker_job.cli.job_options import job_options


def fields(*arguments: str, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the fields that the options make; raise the usage error."""
    found: dict[str, Any] = {}

    @click.command()
    @job_options
    @docker_flags
    def command(**given: Any) -> None:
        found.update(job_fields(given, environ or {}))

    command.main(arguments, standalone_mode=False)
    return found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("-m 8g", {"resources": {"memory_mib": 8192}}),
        ("-m 512m", {"resources": {"memory_mib": 512}}),
        ("-m 536870912", {"resources": {"memory_mib": 512}}),
        ("-m 1.5GiB", {"resources": {"memory_mib": 1536}}),
        ("--cpus 4 --disk 50g", {"resources": {"vcpus": 4, "disk_gib": 50}}),
        ("--cpus 1.5", {"resources": {"vcpus": 2}}),
        ("--disk 2000000000", {"resources": {"disk_gib": 2}}),
        ("--gpus 2", {"resources": {"gpus": 2}}),
        ("--gpus all", {"resources": {"gpus": 1}}),
        ("--gpus all --instance-type g5.xlarge", {"resources": {"instance_types": ["g5.xlarge"]}}),
        ("--arch amd64", {"resources": {"architecture": "x86_64"}}),
        ("--platform linux/arm64/v8", {"resources": {"architecture": "arm64"}}),
        ("--spot", {"capacity": "spot"}),
        ("--on-demand", {"capacity": "on_demand"}),
        ("--spot --on-demand", {"capacity": "spot_then_on_demand"}),
        ("--spot-wait 10m", {"capacity": "spot_then_on_demand", "spot_wait_seconds": 600}),
        ("--spot --spot-wait 0", {"capacity": "spot", "spot_wait_seconds": 0}),
        ("--timeout 2h", {"timeout_seconds": 7200}),
        ("--timeout 1h30m", {"timeout_seconds": 5400}),
        ("--timeout 90", {"timeout_seconds": 90}),
        (
            "--at 02:00 --tz Europe/Berlin",
            {"scheduled_for": "02:00", "timezone": "Europe/Berlin"},
        ),
        ("--retries 2 --name nightly", {"retries": 2, "name": "nightly"}),
        ("-l team=data --label gpu", {"labels": {"team": "data", "gpu": ""}}),
        ("-u 1000:1000 -w /data", {"user": "1000:1000", "working_dir": "/data"}),
        ("--entrypoint sh", {"entrypoint": ["sh"]}),
        ("--entrypoint=", {"entrypoint": []}),
        ("--shm-size 1g --init", {"shm_size_mib": 1024, "init": True}),
        ("--read-only", {"read_only": True}),
        ("--no-init", {"init": False}),
        ("--stop-signal sigint", {"stop_signal": "SIGINT"}),
        ("--stop-timeout 30", {"stop_grace_seconds": 30}),
        ("--stop-signal 9", {"stop_signal": 9}),
        ("--registry-auth ecr", {"registry_auth": "ecr"}),
        ("--rm", {}),
    ],
)  # fmt: skip
def test_an_option_is_a_field_of_the_job(arguments: str, expected: dict[str, Any]) -> None:
    assert fields(*arguments.split()) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-m 512", "less than 6m: did you mean 512m?"),
        ("-m much", "no size: write a number and b, k, m or g: 8g"),
        ("--timeout soon", "no duration: write 90s, 10m, 2h, 1h30m or 3d"),
        ("--timeout 0", "no duration"),
        ("--cpus none", "no number of CPUs"),
        ("--gpus 0", "write a number, or all"),
        ("--arch sparc", "write x86_64 or arm64"),
        ("--on-demand --spot-wait 10m", "leave out --on-demand, or add --spot"),
        ("-e =value", "names no variable: write NAME=value or NAME"),
        ("--secret TOKEN", "the environment has no TOKEN"),
        ("--secret TOKEN=hunter2", "a value on the command line can be read by everybody"),
        ("-it", "it has no terminal and no standard input"),
        ("-v /data:/data", "which has no files of this machine"),
        ("-p 80:80", "ports and network cannot be chosen"),
    ],
)
def test_what_cannot_be_is_refused_with_what_is_right(arguments: str, message: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        fields(*arguments.split())
    assert message in refused.value.format_message()


def test_a_secret_that_is_refused_is_not_repeated() -> None:
    with pytest.raises(click.UsageError) as refused:
        fields("--secret", "TOKEN=hunter2")
    assert "hunter2" not in refused.value.format_message()


def test_an_environment_file_is_read_as_docker_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "job.env"
    file.write_text(
        '\ufeff# a comment\n\n  PLAIN=value # not a comment\nQUOTED="as it is"\nEMPTY=\n'
        "FROM_HERE\nNOT_SET\nTWICE=file\nEQUALS=a=b\n",
        encoding="utf-8",
    )
    found = fields(
        "--env-file", str(file), "-e", "TWICE=option", "-e", "HOST_TOO", "-e", "MISSING",
        environ={"FROM_HERE": "here", "HOST_TOO": "also"},
    )  # fmt: skip
    assert found["env_vars"] == {
        "PLAIN": "value # not a comment",
        "QUOTED": '"as it is"',
        "EMPTY": "",
        "FROM_HERE": "here",
        "TWICE": "option",
        "EQUALS": "a=b",
        "HOST_TOO": "also",
    }


def test_a_line_of_an_environment_file_that_names_no_variable_is_named() -> None:
    with pytest.raises(click.UsageError, match=r"job\.env:2: 'A B=1' names no variable"):
        variables([("job.env", "OK=1\nA B=1\n")], [], {})


def test_a_secret_comes_from_here_from_a_file_or_is_read_on_the_instance() -> None:
    values, places = secrets(
        ["HERE", "PIPED=-", "FILED=@key.pem", "DB=/prod/db", "ARN=arn:aws:ssm:eu-west-1:1:p/x"],
        {"HERE": "h"},
        lambda: "p",
        lambda file: f"content of {file}",
    )
    assert values == {"HERE": "h", "PIPED": "p", "FILED": "content of key.pem"}
    assert places == {"DB": "/prod/db", "ARN": "arn:aws:ssm:eu-west-1:1:p/x"}


def test_overrides_are_added_to_what_the_old_job_has() -> None:
    old = {"env_vars": {"A": "1", "B": "2"}, "labels": {}, "resources": {"vcpus": 2}}
    given = {"env_vars": {"B": "3"}, "resources": {"memory_mib": 512}, "labels": {"x": "y"}}
    assert merged(given, old) == {
        "env_vars": {"A": "1", "B": "3"},
        "resources": {"vcpus": 2, "memory_mib": 512},
        "labels": {"x": "y"},
    }


def test_instance_types_replace_the_sizes_that_chose_them_and_the_other_way_round() -> None:
    sized = {"resources": {"vcpus": 2, "gpus": 1, "disk_gib": 50}}
    typed = {"resources": {"instance_types": ["m7g.medium"], "disk_gib": 50}}
    types = {"resources": {"instance_types": ["c7i.large"]}}
    assert merged(types, sized)["resources"] == {"instance_types": ["c7i.large"], "disk_gib": 50}
    larger = merged({"resources": {"memory_mib": 8192}}, typed)["resources"]
    assert larger == {"memory_mib": 8192, "disk_gib": 50}


def test_another_market_forgets_how_long_spot_was_to_be_tried() -> None:
    old = {"capacity": "spot", "spot_wait_seconds": 600}
    assert merged({"capacity": "on_demand"}, old) == {
        "capacity": "on_demand",
        "spot_wait_seconds": None,
    }


def test_a_fraction_of_a_cpu_is_rounded_up_and_says_so() -> None:
    assert rounding({"cpus": 1.5}) == "--cpus 1.5 is rounded up to 2: instances have whole CPUs."
    assert rounding({"cpus": 2.0}) is None
    assert rounding({"cpus": None}) is None


def test_a_command_is_split_as_a_shell_does() -> None:
    assert words("python -c 'print(6*7)'") == ["python", "-c", "print(6*7)"]
    with pytest.raises(click.UsageError, match="No closing quotation"):
        words("echo 'open")


def test_the_help_shows_no_option_of_docker_that_is_refused() -> None:
    @click.command()
    @job_options
    @docker_flags
    def command(**given: Any) -> None:
        """Do nothing."""

    shown = CliRunner().invoke(command, ["--help"]).output
    assert "--volume" not in shown
    assert "--memory" in shown
