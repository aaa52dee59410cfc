"""Projects in the client and on the command line, on the real API."""

import json
from collections.abc import Callable, Iterator

import pytest

from docker_job import ApiError, Client, NotFound
from docker_job.cli.app import run
from docker_job.cli.main import group
from docker_job.target import Target
from tests.integration.conftest import migrated_database
from tests.support.api.projects import OURS, THEIRS, Scene, two_projects, value_of
from tests.support.api.served_world import SERVED, ServedWorld, served_world


@pytest.fixture(scope="module")
def keyed(postgres_server: str, template_database: str) -> Iterator[ServedWorld]:
    with (
        migrated_database(postgres_server, template_database) as database,
        served_world(database, **SERVED) as served,
    ):
        yield served


@pytest.fixture(scope="module")
def scene(keyed: ServedWorld) -> Scene:
    return keyed.do(two_projects(keyed.world))


@pytest.fixture
def reader(keyed: ServedWorld, scene: Scene) -> Iterator[Client]:
    with Client(target=Target(keyed.base_url, scene.keys[OURS, "read"])) as client:
        yield client


@pytest.fixture
def command(
    keyed: ServedWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return a function that runs a command line with a key, and returns what it prints."""
    monkeypatch.setenv("DOCKER_JOB_URL", keyed.base_url)

    def call(key: str, *arguments: str) -> str:
        monkeypatch.setenv("DOCKER_JOB_KEY", key)
        code = run(group, list(arguments), "docker-job")
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    return call


def test_a_read_key_gets_none_for_each_value_and_the_rest_of_its_own_jobs(
    scene: Scene, reader: Client
) -> None:
    job = reader.status(scene.running[OURS].job_id)
    assert job.env_vars == {"VARIABLE": None}
    assert (job.project, job.created_by) == (OURS, scene.keys[OURS, "submit"].split("_")[1])
    assert {each.project for each in reader.list()} == {OURS}
    assert len(reader.instances()) == len(reader.instances(project=OURS)) == 1
    assert reader.stats(by="project", project=OURS).groups[0].key == OURS
    assert [each["jobs"] for each in reader.totals(project=OURS)] == [1]


def test_another_projects_job_is_not_found_and_its_project_is_refused(
    scene: Scene, reader: Client
) -> None:
    with pytest.raises(NotFound):
        reader.status(scene.running[THEIRS].job_id)
    with pytest.raises(NotFound, match="No job is named"):
        reader.find("name-of-theirs")
    with pytest.raises(ApiError, match="project must be ours"):
        reader.totals(project=THEIRS)


def test_commands_are_of_one_project_or_all(scene: Scene, command: Callable[..., str]) -> None:
    admin = scene.keys[OURS, "admin"]
    names = "{{.Project}}"
    assert set(command(admin, "ps", "-a", "--format", names).split()) == {OURS, THEIRS}
    for chosen in (("--project", THEIRS), ("--filter", f"project={THEIRS}")):
        assert set(command(admin, "ps", "-a", *chosen, "--format", names).split()) == {THEIRS}
    assert len(command(admin, "instances", "-q", "--project", THEIRS).split()) == 1
    for name in ("stats", "cost"):
        assert THEIRS in command(admin, name, "--by", "project")
        assert THEIRS not in command(admin, name, "--by", "project", "--project", OURS)


def test_inspect_shows_what_is_hidden_as_hidden_and_json_as_null(
    scene: Scene, command: Callable[..., str]
) -> None:
    job_id = str(scene.running[OURS].job_id)
    reader, submit = scene.keys[OURS, "read"], scene.keys[OURS, "submit"]
    assert "VARIABLE=(hidden)" in command(reader, "inspect", "--pretty", job_id)
    assert f"VARIABLE={value_of(OURS)}" in command(submit, "inspect", "--pretty", job_id)
    [job] = json.loads(command(reader, "inspect", job_id))
    assert job["env_vars"] == {"VARIABLE": None}


def test_a_rerun_keeps_the_values_that_its_key_sees(
    scene: Scene, command: Callable[..., str]
) -> None:
    submit = scene.keys[OURS, "submit"]
    # The API of this world logs on the same output.
    new = command(submit, "rerun", "-d", "-e", "MORE=1", str(scene.done[OURS])).split()[-1]
    [job] = json.loads(command(submit, "inspect", new))
    assert job["env_vars"] == {"VARIABLE": value_of(OURS), "MORE": "1"}
    assert job["project"] == OURS


def test_quotas_are_those_of_the_key_and_it_is_named_where_there_is_none(
    scene: Scene, command: Callable[..., str]
) -> None:
    submit = scene.keys[OURS, "submit"]
    own = command(submit, "quotas").splitlines()
    assert len(own) == 2
    assert submit.split("_")[1] in own[1]
    assert own[1].count("no limit") == 4
    of = command(scene.keys[OURS, "admin"], "quotas", "--format", "{{.Of}}").split()
    assert of[0] == "deployment"
    assert {scene.keys[each, "submit"].split("_")[1] for each in (OURS, THEIRS)} <= set(of)
