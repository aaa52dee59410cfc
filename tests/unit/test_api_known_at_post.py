"""What engine, agent or AWS would refuse later, and is known at POST, is refused at POST."""

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.docker_job_agent.errors import CouldNotRunError
from agent.docker_job_agent.job import Job, check_job
from agent.docker_job_agent.job_secrets import HUB_HOSTS, read_login, registry_of
from agent.docker_job_agent.partitions import ecr_registry
from services.api.config import from_settings
from services.api.submission.images import host_of
from services.api.submission.request import BadRequest, Bounds, JobRequest, read_job
from shared.adapters import have_role
from shared.settings import Settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOUNDS = Bounds(default_timezone="UTC", max_lifetime_seconds=3600, keeps_secrets=True)


def read(bounds: Bounds = BOUNDS, **fields: Any) -> JobRequest:
    body = {"docker_image": "alpine", "scheduled_for": "now", **fields}
    return read_job(body, NOW, bounds)


def refusal(bounds: Bounds = BOUNDS, **fields: Any) -> str:
    with pytest.raises(BadRequest) as raised:
        read(bounds, **fields)
    return str(raised.value)


# -- docker_image: tried on Docker 20.10, with the words of its refusals beside

HEX_64, HEX_96, HEX_128 = "a1" * 32, "a1" * 48, "a1" * 64


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (HEX_64, "64 hexadecimal digits are an image's id"),  # cannot specify 64-byte hexadecimal
        ("scratch", "'scratch' is a reserved name"),
        ("scratch:latest", "'scratch' is a reserved name"),
        (f"library/scratch@sha256:{HEX_64}", "'scratch' is a reserved name"),
        ("docker.io/scratch", "'scratch' is a reserved name"),
        ("index.docker.io/library/scratch:1", "'scratch' is a reserved name"),
        (f"alpine@md5:{'a' * 32}", "the algorithm of its digest must be one of sha256, sha384, "),
        (f"alpine@SHA256:{HEX_64}", "the algorithm of its digest must be one of sha256, sha384, "),
        (f"alpine@sha256:{HEX_64}0", "a digest of sha256 has 64 hexadecimal digits, in lower case"),
        (f"alpine@sha256:{HEX_64.upper()}", "a digest of sha256 has 64 hexadecimal digits, in low"),
        (f"alpine:3@sha512:{HEX_64}", "a digest of sha512 has 128 hexadecimal digits"),
        ("Foo/bar", "its repository's name must be in lower case"),
        ("a_b.c/d", "'a_b.c' is not a registry's host"),  # no Host in request URL
        ("127.0.0.1:65536/app", "its registry's port must be from 1 to 65535"),  # invalid port
        ("localhost:0/app", "its registry's port must be from 1 to 65535"),
        (f"localhost:{'9' * 3000}/app", "its registry's port must be from 1 to 65535"),
        ("[::1]:99999/app", "its registry's port must be from 1 to 65535"),
        ("[:::::]/app", "'[:::::]' has no IPv6 address"),
        ("[1:2]:5000/app", "'[1:2]:5000' has no IPv6 address"),
        ("b" * 238, "its name, with the registry's, has more than 255 characters"),
        (f"localhost/{'b' * 246}", "its name, with the registry's, has more than 255 characters"),
    ],
)
def test_an_image_that_no_engine_pulls_is_refused(image: str, reason: str) -> None:
    message = refusal(docker_image=image)
    assert message.startswith("docker_image '")
    assert f"' cannot be pulled: {reason}" in message
    assert len(message) < 300


@pytest.mark.parametrize(
    "image",
    [
        f"{HEX_64}:tag",
        f"{HEX_64}@sha256:{HEX_64}",
        f"localhost/{HEX_64}",
        f"team/{HEX_64}",
        "scratch/app",
        "ghcr.io/library/scratch",
        "docker.io",
        "docker.io/alpine",
        f"index.docker.io/library/alpine:3@sha256:{HEX_64}",
        f"alpine@sha384:{HEX_96}",
        f"alpine@sha512:{HEX_128}",
        "Foo.example.com/bar",
        "localhost:65535/app",
        "[2001:db8::1]:5000/app",
        "b" * 237,
        f"localhost/{'b' * 245}:{'t' * 128}@sha256:{HEX_64}",
        "a_b/c.d",
    ],
)
def test_an_image_that_an_engine_may_have_is_taken_by_the_api_and_by_the_agent(image: str) -> None:
    assert read(docker_image=image).docker_image == image
    check_job(Job(image, [], {}, None))
    written = host_of(image)
    assert registry_of(image) == (None if written in HUB_HOSTS else written)


# -- entrypoint and command


@pytest.mark.parametrize(
    "fields",
    [
        {"entrypoint": []},
        {"entrypoint": [""]},
        {"entrypoint": [], "command": []},
        {"entrypoint": [""], "command": None},
    ],
)
def test_a_job_without_any_program_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(**fields).startswith("entrypoint is empty, which removes the image's command to")


@pytest.mark.parametrize(
    "fields", [{"entrypoint": ["", "a"]}, {"entrypoint": [], "command": ["", "a"]}]
)
def test_a_program_with_an_empty_name_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(**fields).startswith("entrypoint and command name no program")


@pytest.mark.parametrize(
    "fields",
    [
        {"entrypoint": [], "command": ["true"]},
        {"entrypoint": [""], "command": ["true"]},
        {"entrypoint": ["true"]},
        {"command": []},
        {"command": [""]},  # an image's entrypoint may take it
    ],
)
def test_a_job_with_a_program_is_taken(fields: dict[str, Any]) -> None:
    assert read(**fields).docker_image


# -- registry_auth


@pytest.mark.parametrize(
    "image",
    [
        *("alpine", "docker.io/alpine", "ghcr.io/a/b", "public.ecr.aws/a/b"),
        "12345678901.dkr.ecr.eu-west-1.amazonaws.com/app",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com:443/app",
        "123456789012.dkr-ecr.eu-west-1.amazonaws.com/app",
    ],
)
def test_ecr_goes_with_an_image_of_ecr_alone(image: str) -> None:
    message = refusal(docker_image=image, registry_auth="ecr")
    assert message.startswith(f"registry_auth is ecr, but docker_image {image!r} is not of ECR")
    assert not ecr_registry(registry_of(image) or "")


@pytest.mark.parametrize(
    "host",
    [
        *("dkr.ecr.eu-west-1.amazonaws.com", "dkr.ecr.cn-north-1.amazonaws.com.cn"),
        *("dkr.ecr-fips.us-east-1.amazonaws.com", "dkr-ecr.eu-west-1.on.aws"),
    ],
)
def test_an_image_of_ecr_is_taken_with_its_login(host: str) -> None:
    image = f"123456789012.{host}/team/app:1"
    assert read(docker_image=image, registry_auth="ecr").docker_image == image
    assert ecr_registry(registry_of(image) or "")


LOGINS = ("u:p", "u:p:q", "u: ", "u:p\n", "u:p\r\n", '{"username": "u", "password": "p"}\n')
NO_LOGINS = (
    *("", "canary", ":canary", "canary:", "canary:\n", '{"username": "canary"}', '{"canary": ":"}'),
    *('{"username": "canary", "password": ""}', '{"username": null, "password": "canary"}'),
    *('{"username": "u", "password": ["canary"]}', "[" * 10_000),
)


@pytest.mark.parametrize("login", LOGINS)
def test_a_login_that_the_agent_reads_is_taken(login: str) -> None:
    assert read(registry_auth="L", secret_env={"L": login}).registry_auth == "L"
    assert read_login(login).username == "u"
    assert read_login(login).password == login.strip("\r\n{}").removeprefix("u:").split('"')[-2:][0]


@pytest.mark.parametrize("login", NO_LOGINS)
def test_a_login_that_is_none_is_refused_and_never_quoted(login: str) -> None:
    message = refusal(registry_auth="L", secret_env={"L": login})
    assert message.startswith("registry_auth must be 'ecr', or a name in secret_env or secrets who")
    assert "canary" not in message


def test_a_login_that_the_instance_reads_is_not_known_yet() -> None:
    assert read(registry_auth="L", secrets={"L": "/login"}).registry_auth == "L"


# -- secrets

SM = "secretsmanager"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("prod/db", "a parameter's name with levels begins with a slash, like '/prod/db/password'"),
        ("/", "a level of its parameter's name is empty"),
        ("/prod//db", "a level of its parameter's name is empty"),
        ("/prod/db:0", "after a parameter's name stands a version, like ':3', or a label"),
        ("/prod/db:1st", "after a parameter's name stands a version"),
        ("/prod/db:AWS-1", "after a parameter's name stands a version"),
        ("/" + "a" * 1011, "its parameter's name has 1012 characters, at most 1011 are possible"),
        ("/prod/:3", "a level of its parameter's name is empty"),
        ("/a" * 16, "its parameter's name has 16 levels, at most 15 are possible"),
        ("arn:aws:ssm:eu-west-1:123456789012:parameter/a//b", "a level of its parameter's name is"),
        (
            "arn:aws:ssm:cn-north-1:123456789012:parameter/a",
            "the region cn-north-1 is in the partition aws-cn, not in 'aws'",
        ),
        ("arn:aws:ssm:nowhere:123456789012:parameter/a", "'nowhere' is no region of AWS"),
        (f"arn:aws:{SM}:-:123456789012:secret:a", "'-' is no region of AWS"),
        (
            f"arn:aws-cn:{SM}:eu-west-1:123456789012:secret:a",
            "the region eu-west-1 is in the partition aws, not in 'aws-cn'",
        ),
        (
            f"arn:aws-us-gov:{SM}:us-iso-east-1:123456789012:secret:a",
            "the region us-iso-east-1 is in the partition aws-iso, not in 'aws-us-gov'",
        ),
    ],
)
def test_a_place_where_aws_has_no_secret_is_refused(place: str, reason: str) -> None:
    assert refusal(secrets={"A": place}).startswith(f"secrets.A cannot be read: {reason}")


@pytest.mark.parametrize(
    "place",
    [
        *("a", "/a", "a:3", "/a" * 15, "/aws/service/a.b_c-d", "/prod/db:label"),
        "arn:aws:ssm:us-east-1:123456789012:parameter/a",
        "arn:aws-us-gov:ssm:us-gov-west-1:123456789012:parameter/a/b",
        f"arn:aws-cn:{SM}:cn-northwest-1:123456789012:secret:prod/a-AbCdEf",
        f"arn:aws-iso-b:{SM}:us-isob-east-1:123456789012:secret:a",
        f"arn:aws-eusc:{SM}:eusc-de-east-1:123456789012:secret:a",
    ],
)
def test_any_other_place_is_taken(place: str) -> None:
    assert read(secrets={"A": place}).secrets == {"A": place}


def test_a_secret_of_another_partition_than_the_instances_is_refused() -> None:
    settings = Settings({"DOCKER_JOB_COMPUTE_URL": "ec2://eu-west-1"})
    bounds = from_settings(settings, deployment="test", token_key="").bounds
    elsewhere = "arn:aws:ssm:us-east-1:123456789012:parameter/a"
    assert read(bounds, secrets={"A": elsewhere}).secrets == {"A": elsewhere}
    message = refusal(
        bounds, secrets={"A": elsewhere.replace("us-east", "cn-north").replace("aws", "aws-cn")}
    )
    assert message == (
        "secrets.A cannot be read: it is in another partition of AWS than the instances, which are "
        "in eu-west-1"
    )


def test_without_a_role_nothing_that_only_a_role_can_read_is_taken() -> None:
    without = from_settings(
        Settings({}), deployment="test", token_key="", secrets_key="0f" * 32, have_role=False
    ).bounds
    message = refusal(without, secrets={"A": "/a"})
    assert message.startswith("secrets needs instances with a role, as on EC2")
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app"
    message = refusal(without, docker_image=image, registry_auth="ecr")
    assert message.startswith("registry_auth is ecr, which needs instances with a role")
    job = read(without, docker_image=image, registry_auth="L", secret_env={"L": "AWS:p"})
    assert job.registry_auth == "L"


@pytest.mark.parametrize(
    ("url", "environ", "have"),
    [
        ("ec2://eu-west-1", {}, True),
        ("sim://?seed=7", {}, True),
        ("", {}, True),
        ("process://", {}, False),
        ("docker://", {}, False),
        ("docker://", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": ""}, False),
        ("process://", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338"}, True),
    ],
)
def test_instances_without_a_metadata_service_have_no_role(
    url: str, environ: dict[str, str], *, have: bool
) -> None:
    assert have_role(url, environ) is have


# -- resources

ARM = ["a1.large", "m7g.large", "c7gn.metal", "is4gen.large", "x2gd.large", "g5g.xlarge"]
X86 = [
    "m5.large",
    "c7a.large",
    "t3.micro",
    "g5.xlarge",
    "g4ad.xlarge",
    "x2iedn.large",
    "i7ie.large",
]
UNKNOWN = ["mac2.metal", "u-6tb1.metal", "p6e-gb200.36xlarge", "u7i-12tb.224xlarge"]


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_types_none_of_which_has_the_architecture_are_refused(architecture: str) -> None:
    own, others = (ARM, X86) if architecture == "arm64" else (X86, ARM)
    for each in others:
        resources = {"architecture": architecture, "instance_types": [each]}
        message = refusal(resources=resources)
        assert message.startswith("resources.instance_types has no type for resources.architecture")
        assert read(resources={"instance_types": [each]}).resources.instance_types == (each,)
    assert "has no type" in refusal(
        resources={"architecture": architecture, "instance_types": others}
    )
    for each in [*own, *UNKNOWN]:
        types = [*others, each]
        given = read(resources={"architecture": architecture, "instance_types": types})
        assert given.resources.instance_types == tuple(types)


def test_a_value_that_the_agent_would_refuse_is_refused() -> None:
    with pytest.raises(CouldNotRunError):
        check_job(Job("alpine", [], {"A": "\0"}, None))
    assert "NUL" in refusal(env_vars={"A": "\0"})
