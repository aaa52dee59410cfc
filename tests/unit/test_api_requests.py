"""The body of `POST /schedule`: values that are taken, and messages for those that are not."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from services.api.jobs.sizes import (
    MAX_EXEC_BYTES,
    MAX_FIELD_BYTES,
    MAX_VARIABLE_BYTES,
    OWN_BYTES,
    OWN_VARIABLES,
    STRING_COST,
)
from services.api.submission.request import (
    BadRequest,
    Bounds,
    JobRequest,
    read_job,
    read_json,
)
from shared.events.requirements import Architecture, Resources

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOUNDS = Bounds(default_timezone="Europe/Berlin", max_lifetime_seconds=3600)


def read(**fields: Any) -> JobRequest:
    body = {"docker_image": "alpine", "scheduled_for": "now", **fields}
    return read_job(body, NOW, BOUNDS)


def refusal(**fields: Any) -> str:
    with pytest.raises(BadRequest) as raised:
        read(**fields)
    return str(raised.value)


def test_two_fields_are_enough() -> None:
    assert read() == JobRequest(
        docker_image="alpine",
        scheduled_for=NOW,
        timezone="Europe/Berlin",
        env_vars={},
        command=None,
        labels={},
        timeout_seconds=None,
        name=None,
        resources=Resources(),
        capacity="spot",
        spot_wait_seconds=None,
        retries=0,
        secret_env={},
        secrets={},
        registry_auth=None,
    )


def test_every_field_is_taken() -> None:
    job = read(
        scheduled_for="10:00",
        timezone="Asia/Tokyo",
        env_vars={"KEY": "VALUE"},
        entrypoint=["/bin/sh", "-c"],
        command=["echo", ""],
        labels={"team": "data", "empty": ""},
        timeout_seconds=3600,
        name="nightly",
        user="app:1000",
        working_dir="/data",
        shm_size_mib=256,
        init=False,
        stop_signal="int",
        stop_grace_seconds=0,
        read_only=True,
    )
    assert job.scheduled_for == datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert job.timezone == "Asia/Tokyo"
    assert job.env_vars == {"KEY": "VALUE"}
    assert job.entrypoint == ["/bin/sh", "-c"]
    assert job.command == ["echo", ""]
    assert job.labels == {"team": "data", "empty": ""}
    assert job.timeout_seconds == 3600
    assert job.name == "nightly"
    assert (job.user, job.working_dir, job.shm_size_mib) == ("app:1000", "/data", 256)
    assert (job.init, job.stop_signal, job.stop_grace_seconds) == (False, "SIGINT", 0)
    assert job.read_only is True


@pytest.mark.parametrize("value", [None, "", "  ", "\n"])
def test_the_message_for_an_empty_image_is_exact(value: Any) -> None:
    assert refusal(docker_image=value) == "docker_image field cannot be empty"


@pytest.mark.parametrize("value", [None, "", "  ", "\t"])
def test_the_message_for_an_empty_time_is_exact(value: Any) -> None:
    assert refusal(scheduled_for=value) == "scheduled_for field cannot be empty"


def test_of_two_missing_fields_the_image_is_named() -> None:
    with pytest.raises(BadRequest, match=r"^docker_image field cannot be empty$"):
        read_job({}, NOW, BOUNDS)


@pytest.mark.parametrize("body", [None, 1, "x", [], True])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(BadRequest, match="must be a JSON object"):
        read_job(body, NOW, BOUNDS)


def test_an_unknown_field_is_named_with_those_that_there_are() -> None:
    message = refusal(docker_images="alpine")
    assert message.startswith("unknown field 'docker_images': the fields are docker_image, ")


def test_an_unknown_field_is_quoted_in_short() -> None:
    assert len(refusal(**{"x" * 10_000: 1})) < 450


# -- docker_image

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "image",
    [
        "alpine",
        "alpine:3.20",
        "library/alpine",
        "python:3.13-slim",
        "debian:trixie-slim",
        f"alpine@{DIGEST}",
        f"alpine:3.20@{DIGEST}",
        "localhost:5000/app",
        "registry.example.com:443/team/app:v1.2_3-x",
        "Registry.Example.com/team/app",
        "[2001:db8::1]:5000/app",
        "a/b/c/d",
        "a__b/c-d/e--f.g",
        "alpine:" + "x" * 128,
    ],
)
def test_an_image_reference_is_taken(image: str) -> None:
    assert read(docker_image=image).docker_image == image


@pytest.mark.parametrize(
    "image",
    [
        "-v",
        "--privileged",
        "-/app",
        "Alpine",
        "alpine:",
        "alpine@",
        "alpine@sha256:abc",
        ":tag",
        "/alpine",
        "alpine/",
        "a//b",
        "team/App",
        "alpine latest",
        "alpine;ls",
        "$(id)",
        "alpine:\N{LATIN SMALL LETTER E WITH ACUTE}",
        "alpine:-x",
        "alpine:" + "x" * 129,
        "alpine\0",
        "alp\nine",
        "http://example.com/app",
        "a..b",
        "a___b",
        "registry:port/app",
        "a" * 5000,
        "a" * 4095 + "!",
    ],
)
def test_what_is_no_image_reference_is_refused(image: str) -> None:
    message = refusal(docker_image=image)
    assert message.startswith("docker_image ")
    assert "is not an image reference: write one like 'alpine'" in message
    assert len(message) < 300


@pytest.mark.parametrize("value", [1, True, [], {}, ["alpine"]])
def test_an_image_is_a_string(value: Any) -> None:
    assert refusal(docker_image=value).startswith("docker_image must be a string")


def test_white_space_around_an_image_is_nobodys_intention() -> None:
    assert read(docker_image=" alpine\n").docker_image == "alpine"


# -- scheduled_for, timezone


@pytest.mark.parametrize("value", [10, 10.5, True, [], {}])
def test_a_time_is_a_string(value: Any) -> None:
    assert refusal(scheduled_for=value).startswith("scheduled_for must be a string: write 'now'")


def test_a_wrong_time_is_quoted() -> None:
    assert refusal(scheduled_for="24:00").startswith("scheduled_for '24:00' is not a time")


@pytest.mark.parametrize("value", [1, True, []])
def test_a_time_zone_is_a_string(value: Any) -> None:
    assert refusal(timezone=value).startswith("timezone must be a string")


def test_a_wrong_time_zone_is_quoted() -> None:
    assert refusal(timezone="Mars").startswith("timezone 'Mars' is not an IANA time zone")


# -- env_vars


def env(raw: str) -> dict[str, str]:
    return read(env_vars=read_json(raw.encode())).env_vars


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ('"VALUE"', "VALUE"),
        ('""', ""),
        ("1", "1"),
        ("-7", "-7"),
        ("true", "true"),
        ("false", "false"),
        ("1.50", "1.50"),
        ("3.10", "3.10"),
        ("1e5", "1e5"),
        ("1e999", "1e999"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"tab\\tquote\\"€😀"', 'tab\tquote"€😀'),
    ],
)
def test_strings_numbers_and_booleans_are_taken_as_their_text(raw: str, text: str) -> None:
    assert env(f'{{"KEY": {raw}}}') == {"KEY": text}


@pytest.mark.parametrize("name", ["KEY", "_", "a1", "A_b_9"])
def test_a_name_of_letters_digits_and_underscores_is_taken(name: str) -> None:
    assert read(env_vars={name: "x"}).env_vars == {name: "x"}


@pytest.mark.parametrize(
    "name",
    ["", "1A", "A-B", "A B", "A=B", "\N{LATIN SMALL LETTER E WITH ACUTE}", "A\n", "A\0", "A.B"],
)
def test_any_other_name_is_refused(name: str) -> None:
    assert refusal(env_vars={name: "x"}).startswith("env_vars has the name ")


@pytest.mark.parametrize("value", [None, [], {}, [1]])
def test_a_value_that_is_no_scalar_is_refused_by_name(value: Any) -> None:
    expected = "env_vars.KEY must be a string, a number or a boolean"
    assert refusal(env_vars={"KEY": value}) == expected


PEM = "-----BEGIN KEY-----\nMIIB\r\nAgEA\n-----END KEY-----\n"


@pytest.mark.parametrize(
    "value", [PEM, "\n", "\r", "\r\n", "a\n\nB=c", "\x1b[0m\x7f\x01\x85\u2028"]
)
def test_a_value_may_hold_line_breaks_and_control_characters(value: str) -> None:
    assert read(env_vars={"KEY": value}).env_vars == {"KEY": value}
    assert read_secretly(secret_env={"KEY": value}).secret_env == {"KEY": value}


def test_a_value_with_a_nul_is_refused_unquoted() -> None:
    assert refusal(env_vars={"KEY": "a\0b"}) == "env_vars.KEY must not hold a NUL character"


@pytest.mark.parametrize("value", ["x", 1, True, [], [["a", "b"]]])
def test_env_vars_is_an_object(value: Any) -> None:
    assert refusal(env_vars=value).startswith("env_vars must be an object of strings")


def test_a_variable_is_bounded_in_bytes() -> None:
    """An agent of an earlier release takes no longer line of an env file."""
    most = MAX_VARIABLE_BYTES - len("K")
    assert read(env_vars={"K": "x" * most}).env_vars
    expected = f"env_vars.K with its name has {MAX_VARIABLE_BYTES + 1} bytes, at most "
    assert refusal(env_vars={"K": "x" * (most + 1)}).startswith(expected)
    assert "at most" in refusal(env_vars={"K": "€" * (most // 3 + 1)})


def test_env_vars_are_bounded_in_bytes() -> None:
    half = MAX_FIELD_BYTES // 2 - 1
    assert read(env_vars={"K": "x" * half, "L": "x" * half}).env_vars
    assert refusal(env_vars={"K": "x" * half, "L": "x" * half, "M": ""}).startswith(
        "env_vars holds"
    )
    with pytest.raises(BadRequest, match=r"^env_vars with secret_env holds 80002 bytes, at most"):
        read_secretly(env_vars={"A": "x" * 40_000}, secret_env={"B": "y" * 40_000})


@pytest.mark.parametrize("field", ["env_vars", "secret_env", "secrets"])
@pytest.mark.parametrize("name", OWN_VARIABLES)
def test_a_variable_that_each_container_gets_of_its_job_is_refused(field: str, name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_secretly(**{field: {"A": "/b", name: "/c"}})
    assert str(refused.value) == (
        f"{field}.{name} is set by docker-job, in every container: choose another name"
    )
    taken = {f"{name}S": "/c", "DOCKER_JOB_URL": "/d"}
    assert getattr(read_secretly(**{field: taken}), field) == taken


def test_arguments_and_environment_are_bounded_together_as_linux_counts_them() -> None:
    """A string counts its bytes, its NUL and a pointer."""
    fields: dict[str, Any] = {
        "entrypoint": ["sh"],
        "env_vars": {f"A{n}": "x" * 10_000 for n in range(3)},
        "secret_env": {f"B{n}": "x" * 10_000 for n in range(3)},
    }
    given = OWN_BYTES + 2 + STRING_COST + 6 * (10_003 + STRING_COST)
    strings = (MAX_EXEC_BYTES - given) // STRING_COST
    full = {**fields, "command": [""] * strings}
    assert len(read_secretly(**full).command or ()) == strings
    full["command"].append("")
    with pytest.raises(BadRequest) as refused:
        read_secretly(**full)
    counted = given + STRING_COST * (strings + 1)
    assert str(refused.value) == (
        f"command with entrypoint and env_vars and secret_env counts {counted} bytes, "
        f"at most {MAX_EXEC_BYTES} are taken (each string counts its bytes and 9 more, "
        f"the container's own variables {OWN_BYTES})"
    )


@pytest.mark.parametrize("field", ["command", "entrypoint"])
def test_many_empty_strings_are_too_many(field: str) -> None:
    most = (MAX_EXEC_BYTES - OWN_BYTES) // STRING_COST - 1
    assert read(**{field: ["sh", *[""] * (most - 1)]}).docker_image
    expected = f"{field} counts {2_700_002 + OWN_BYTES} bytes, at most {MAX_EXEC_BYTES} are taken"
    assert refusal(**{field: ["sh", *[""] * 299_999]}).startswith(expected)


def test_many_short_variables_are_too_many() -> None:
    assert refusal(env_vars={f"A{n}": "" for n in range(14_000)}).startswith(
        "env_vars holds 72890 bytes"
    )


def test_a_secret_leaves_room_for_the_longest_value_that_there_is() -> None:
    assert read(secrets={"A" * 60_000: "/a"}).secrets
    assert refusal(secrets={"A" * 70_000: "/a"}).startswith("secrets.AAA")


# -- command, labels, timeout_seconds, name


@pytest.mark.parametrize("value", ["echo", {}, 1, [1], ["a", None], [["a"]]])
def test_a_command_is_an_array_of_strings(value: Any) -> None:
    assert refusal(command=value).startswith("command must be an array of strings")


def test_a_command_holds_line_breaks_but_no_nul() -> None:
    assert read(command=["sh", "-c", "a\nb"]).command == ["sh", "-c", "a\nb"]
    assert refusal(command=["a\0"]) == "command must not hold a NUL character"


def test_a_command_is_bounded() -> None:
    assert read(command=["x" * MAX_FIELD_BYTES]).command
    assert refusal(command=["x" * MAX_FIELD_BYTES, "y"]).startswith("command is too long")


@pytest.mark.parametrize("value", ["x", 1, [], {"a": 1}, {"a": None}])
def test_labels_are_an_object_of_strings(value: Any) -> None:
    assert refusal(labels=value).startswith("labels must be an object of strings")


@pytest.mark.parametrize("value", [{"": "x"}, {"a" * 257: "x"}, {"a": "x" * 257}])
def test_a_label_has_a_name_and_is_not_long(value: dict[str, str]) -> None:
    assert "256 characters" in refusal(labels=value)


def test_labels_are_not_many_and_hold_no_nul() -> None:
    assert len(read(labels={str(n): "" for n in range(50)}).labels) == 50
    assert refusal(labels={str(n): "" for n in range(51)}).startswith("labels has 51 entries")
    assert refusal(labels={"a": "\0"}) == "labels must not hold a NUL character"
    assert refusal(labels={"\0": "a"}) == "labels must not hold a NUL character"


@pytest.mark.parametrize("value", [1, 3600])
def test_a_time_limit_up_to_the_maximum_lifetime_is_taken(value: int) -> None:
    assert read(timeout_seconds=value).timeout_seconds == value


@pytest.mark.parametrize("value", [0, -1, 3601, 2**31, 10**30, True, "60", [], {}])
def test_any_other_time_limit_is_refused(value: Any) -> None:
    expected = "timeout_seconds must be a whole number from 1 to 3600"
    assert refusal(timeout_seconds=value) == expected


def test_a_time_limit_with_a_fraction_is_refused() -> None:
    assert refusal(timeout_seconds=read_json(b"1.0")).startswith("timeout_seconds must be")


def test_a_minus_zero_is_refused_for_what_it_is() -> None:
    minus_zero = read_json(b"[-0]")[0]
    message = refusal(resources={"vcpus": minus_zero})
    assert message == "resources.vcpus must be a whole number from 1 to 1024"


@pytest.mark.parametrize("value", ["", "x" * 201, 1, [], True])
def test_a_name_is_a_short_string(value: Any) -> None:
    assert refusal(name=value) == "name must be a string of 1 to 200 characters"


@pytest.mark.parametrize("value", ["  ", "\n", "\u00a0"])
def test_a_name_is_more_than_white_space(value: str) -> None:
    assert refusal(name=value).endswith("a string of 1 to 200 characters, not white space alone")


def test_a_name_holds_no_nul() -> None:
    assert refusal(name="a\0") == "name must not hold a NUL character"


# -- JSON


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b"docker_image=alpine",
        b"\xff",
        b'"\xff"',
        b'"\\ud800"',
        b'"\\ud800x"',
        b'"\\udc00\\ud800"',
        b'{"\\ud800": 1}',
        b'"\xed\xa0\x80"',
        b"{} {}",
        b"NaN",
    ],
)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest, match="the body is not JSON"):
        read_json(raw)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_what_is_nested_too_deeply_is_refused(opening: bytes) -> None:
    with pytest.raises(BadRequest, match="nested too deeply"):
        read_json(opening * 100_000)


@pytest.mark.parametrize(
    ("given", "default", "found"),
    [
        ("arm64", "x86_64", "resources.architecture is arm64"),
        ("arm64", "arm64", "resources.architecture is arm64"),
        (None, "arm64", "the deployment's is arm64"),
    ],
)
def test_gpus_with_arm_are_refused_and_what_would_be_right_is_named(
    given: str | None, default: Architecture, found: str
) -> None:
    body = {
        "docker_image": "alpine",
        "scheduled_for": "now",
        "resources": {"gpus": 1, "architecture": given},
    }
    bounds = replace(BOUNDS, default_architecture=default)
    with pytest.raises(BadRequest, match=re.escape(found)) as refused:
        read_job(body, NOW, bounds)
    assert "set resources.architecture to x86_64" in str(refused.value)


@pytest.mark.parametrize("given", ["x86_64", None])
def test_gpus_go_with_x86_64(given: str | None) -> None:
    default: Architecture = "arm64" if given else "x86_64"
    body = {
        "docker_image": "alpine",
        "scheduled_for": "now",
        "resources": {"gpus": 2, "architecture": given},
    }
    job = read_job(body, NOW, replace(BOUNDS, default_architecture=default))
    assert job.resources.gpus == 2


def test_what_the_instance_must_have_is_taken() -> None:
    job = read(
        resources={"vcpus": 2, "memory_mib": 4096, "gpus": 1, "architecture": "x86_64"},
        capacity="spot_then_on_demand",
        spot_wait_seconds=0,
        retries=3,
    )
    assert job.resources == Resources(vcpus=2, memory_mib=4096, gpus=1, architecture="x86_64")
    assert (job.capacity, job.spot_wait_seconds, job.retries) == (
        "spot_then_on_demand",
        0,
        3,
    )
    named = read(resources={"instance_types": ["m7g.large", "c7gn.metal", "m7g.large"]})
    assert named.resources.instance_types == ("m7g.large", "c7gn.metal")
    assert read(resources={"disk_gib": 100, "vcpus": None}).resources == Resources(disk_gib=100)


def test_what_is_not_asked_for_is_as_the_settings_say() -> None:
    bounds = Bounds(
        default_timezone="UTC",
        max_lifetime_seconds=60,
        default_capacity="on_demand",
        default_retries=2,
    )
    job = read_job({"docker_image": "alpine", "scheduled_for": "now"}, NOW, bounds)
    assert (job.capacity, job.retries) == ("on_demand", 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resources": []}, 'resources must be an object, like {"vcpus": 2, "memory_mib": 4096}'),
        ({"resources": {"cpus": 2}}, "unknown field resources.cpus: it takes vcpus, memory_mib"),
        ({"resources": {"vcpus": 0}}, "resources.vcpus must be a whole number from 1 to 1024"),
        ({"resources": {"vcpus": True}}, "resources.vcpus must be a whole number from 1 to 1024"),
        ({"resources": {"memory_mib": "4g"}}, "resources.memory_mib must be a whole number"),
        ({"resources": {"architecture": "x86"}}, "resources.architecture must be one of x86_64, a"),
        ({"resources": {"instance_types": "m7g.large"}}, "resources.instance_types must be an arr"),
        ({"resources": {"instance_types": ["m7g"]}}, "resources.instance_types has 'm7g': write "),
        ({"resources": {"instance_types": ["--x.y"]}}, "resources.instance_types has '--x.y'"),
        (
            {"resources": {"instance_types": ["m7g.large"], "vcpus": 2}},
            "resources.instance_types names the types: leave vcpus, memory_mib and gpus out",
        ),
        ({"capacity": "cheap"}, "capacity must be one of spot, spot_then_on_demand, on_demand"),
        ({"capacity": []}, "capacity must be one of spot, spot_then_on_demand, on_demand"),
        ({"capacity": "on_demand", "spot_wait_seconds": 5}, "spot_wait_seconds goes with Spot"),
        (
            {"capacity": "spot_then_on_demand", "spot_wait_seconds": -1},
            "spot_wait_seconds must be a whole number from 0 to 2592000",
        ),
        ({"retries": -1}, "retries must be a whole number from 0 to 100"),
        ({"retries": 1.5}, "retries must be a whole number from 0 to 100"),
    ],
)
def test_a_wrong_field_of_resources_or_capacity_is_named(
    fields: dict[str, Any], message: str
) -> None:
    assert refusal(**fields).startswith(message)


KEEPING = Bounds(default_timezone="UTC", max_lifetime_seconds=60, keeps_secrets=True)


def read_secretly(**fields: Any) -> JobRequest:
    body = {"docker_image": "alpine", "scheduled_for": "now", **fields}
    return read_job(body, NOW, KEEPING)


ECR_IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1.2"


def test_secrets_are_taken_in_each_of_their_forms() -> None:
    places = {
        "A": "/prod/db/password",
        "B": "plain-name:3",
        "C": "arn:aws:ssm:eu-west-1:123456789012:parameter/prod/db",
        "D": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf",
    }
    job = read_secretly(secret_env={"TOKEN": "v", "LOGIN": "u:p"}, secrets=places)
    assert job.secret_env == {"TOKEN": "v", "LOGIN": "u:p"}
    assert job.secrets == places
    assert read(registry_auth="ecr", docker_image=ECR_IMAGE).registry_auth == "ecr"
    assert read(registry_auth="A", secrets=places).registry_auth == "A"
    assert read_secretly(registry_auth="L", secret_env={"L": "u:p"}).registry_auth == "L"


def test_without_a_key_a_secret_is_refused_with_the_setting_that_is_missing() -> None:
    assert "set DOCKER_JOB_SECRETS_KEY to 64 hexadecimal digits" in refusal(secret_env={"A": "b"})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"secret_env": ["canary"]}, "secret_env must be an object of strings"),
        ({"secret_env": {"1A": "canary"}}, "secret_env has the name '1A'"),
        ({"secret_env": {"A": ["canary"]}}, "secret_env.A must be a string"),
        ({"secret_env": {"A": "canary\0"}}, "secret_env.A must not hold a NUL"),
        ({"secret_env": {"A": "canary" * 30_000}}, "secret_env.A with its name has 180001 bytes"),
        ({"secret_env": {"A": "x"}, "env_vars": {"A": "y"}}, "secret_env.A is in env_vars too"),
        ({"secrets": {"A": "/a"}, "env_vars": {"A": "y"}}, "secrets.A is in env_vars too"),
        ({"secrets": {"A": "/a"}, "secret_env": {"A": "y"}}, "secrets.A is in secret_env too"),
        ({"secrets": "x"}, "secrets must be an object"),
        ({"secrets": {"A B": "/a"}}, "secrets has the name 'A B'"),
        ({"secrets": {"A": "arn:aws:s3:::bucket"}}, "secrets.A must be the name or ARN of an SSM"),
        ({"secrets": {"A": "--x y"}}, "secrets.A must be the name or ARN of an SSM"),
        ({"registry_auth": "NOBODY"}, "registry_auth must be 'ecr', or a name in secret_env"),
        ({"registry_auth": {"a": 1}}, "registry_auth must be 'ecr', or a name in secret_env"),
    ],
)
def test_a_secret_that_cannot_be_taken_is_named_and_never_quoted(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequest) as raised:
        read_secretly(**fields)
    assert str(raised.value).startswith(message)
    assert "canary" not in str(raised.value)


# -- how the container is run


@pytest.mark.parametrize(
    "user",
    ["nobody", "0", "1000:1000", "app:2147483647", "_apt", "svc$", "1000650000:0", "www-data:adm"],
)
def test_a_user_is_a_name_or_a_number_perhaps_with_a_group(user: str) -> None:
    assert read(user=user).user == user


@pytest.mark.parametrize(
    "user",
    ["", "a b", ":0", "1000:", "a:b:c", "2147483648", "-1", "0:4294967294", "a/b", "x\n", "é"],
)
def test_what_no_engine_takes_as_a_user_is_refused(user: str) -> None:
    assert refusal(user=user) == (
        f"user {user!r} is not a user: write a name or a number up to 2147483647, perhaps with a "
        "group, like '1000:1000' or 'nobody'"
    )


@pytest.mark.parametrize(
    "path", ["data", "", "./x", "C:\\data", "/a\0", "/" + "x" * 256, "/x" * 513, "~"]
)
def test_a_working_directory_is_an_absolute_path(path: str) -> None:
    assert refusal(working_dir=path).startswith("working_dir must be an absolute path, like")


@pytest.mark.parametrize("path", ["/" + "é" * 128, "/x/" + "🎉" * 64, ("/" + "é" * 100) * 6])
def test_a_working_directory_is_bounded_in_bytes_as_linux_counts_them(path: str) -> None:
    assert refusal(working_dir=path) == (
        "working_dir is too long: at most 1024 bytes are taken, and 255 between two slashes"
    )


def test_the_longest_working_directory_is_taken() -> None:
    longest = ("/" + "é" * 127) * 4
    assert read(working_dir=longest).working_dir == longest


def test_a_working_directory_may_have_any_characters_but_nul() -> None:
    assert read(working_dir="/a b/é:\n//").working_dir == "/a b/é:\n//"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("SIGTERM", "SIGTERM"),
        ("TERM", "SIGTERM"),
        ("sigterm", "SIGTERM"),
        ("15", "SIGTERM"),
        (15, "SIGTERM"),
        (31, "SIGSYS"),
        ("usr1", "SIGUSR1"),
        ("SIGCLD", "SIGCHLD"),
        ("SIGRTMIN+3", "SIGRTMIN+3"),
        ("rtmin", "SIGRTMIN"),
        ("RTMAX-14", "SIGRTMAX-14"),
    ],
)
def test_a_stop_signal_is_kept_by_its_name(given: object, name: str) -> None:
    assert read(stop_signal=given).stop_signal == name


@pytest.mark.parametrize(
    "given",
    [
        *("", "SIG", "SIGFOO", 0, 32, -15, "99", "RTMIN+16", "TERM TERM", "SIGSIGTERM", "²"),
        "\N{LATIN SMALL LETTER LONG S}IGTERM",
        "\N{LATIN SMALL LETTER DOTLESS I}NT",
        *(True, ["SIGTERM"], {}, read_json(b"15.0")),
    ],
)
def test_what_is_no_signal_is_refused(given: object) -> None:
    message = refusal(stop_signal=given)
    assert message.startswith("stop_signal ")
    assert "is not a signal: write a name, like 'SIGTERM', 'INT' or 'SIGRTMIN+3', or a" in message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("shm_size_mib", 0, "shm_size_mib must be a whole number from 1 to 1048576"),
        ("shm_size_mib", 1.5, "shm_size_mib must be a whole number from 1 to 1048576"),
        ("stop_grace_seconds", -1, "stop_grace_seconds must be a whole number from 0 to 600"),
        ("stop_grace_seconds", 601, "stop_grace_seconds must be a whole number from 0 to 600"),
        ("init", "yes", "init must be true or false"),
        ("read_only", 1, "read_only must be true or false"),
    ],
)
def test_other_fields_of_the_container_are_bounded(name: str, value: object, message: str) -> None:
    assert refusal(**{name: value}) == message


def test_null_leaves_the_fields_of_the_container_to_the_image() -> None:
    names = ["user", "working_dir", "shm_size_mib", "init", "stop_signal", "stop_grace_seconds"]
    job = read(**dict.fromkeys([*names, "read_only"]))
    assert [getattr(job, name) for name in names] == [None] * 6
    assert job.read_only is False
