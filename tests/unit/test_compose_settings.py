"""compose.yaml and .env.example name the same settings, and every one of them is explained."""

import itertools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "compose.yaml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()

# Compose's own, which is always set.
GIVEN = {"COMPOSE_PROJECT_NAME"}


def offered() -> set[str]:
    """Return the settings that compose.yaml reads from the environment or passes on."""
    interpolated = re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", COMPOSE)
    passed_on = re.findall(r"^ +([A-Z][A-Z0-9_]+):$", COMPOSE, re.MULTILINE)
    return {*interpolated, *passed_on} - GIVEN


def explained() -> list[str]:
    """Return the settings of .env.example, in their order."""
    return re.findall(r"^#([A-Z0-9_]+)=", EXAMPLE, re.MULTILINE)


def test_every_setting_that_compose_takes_is_in_the_example_and_the_other_way_round() -> None:
    assert sorted(explained()) == sorted(offered())


def test_every_setting_of_the_example_is_explained_in_the_line_above_it() -> None:
    lines = EXAMPLE.splitlines()
    allowed = {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"}  # go with the one above
    allowed |= {"DOCKER_JOB_INSTANCE_IMAGE", "POSTGRES_IMAGE", "RABBITMQ_IMAGE"}
    for before, line in itertools.pairwise(lines):
        name = re.match(r"#([A-Z0-9_]+)=", line)
        if name and name[1] not in allowed:
            assert before.startswith("# "), line


def test_a_setting_that_is_empty_has_its_default_in_compose_too() -> None:
    # `${NAME-default}`, without the colon, would keep an empty value.
    interpolated = re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)([^}]*)", COMPOSE)
    assert len(interpolated) > 10
    assert {rest[:2] for name, rest in interpolated if name not in GIVEN} == {":-"}


def test_every_file_of_a_secret_is_in_the_label_by_which_compose_sees_a_change() -> None:
    of_secrets = set(re.findall(r"file: \"\$\{([A-Z0-9_]+)", COMPOSE))
    label = COMPOSE.partition("docker-job.files: >-")[2].partition("\n\n")[0]
    assert len(of_secrets) > 7
    assert set(re.findall(r"\$\{([A-Z0-9_]+)", label)) == of_secrets
