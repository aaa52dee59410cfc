"""Two projects on one API: their keys, and a job that runs and one that is done in each."""

from typing import Any

import httpx
from msgspec import Struct

from services.api.keys import commands as key_commands
from services.api.keys.access import REMEMBER_SECONDS
from tests.support.api.api_world import Agent, World

OURS, THEIRS = "ours", "theirs"
PROJECTS = (OURS, THEIRS)


async def a_key(world: World, scope: str, project: str) -> str:
    """Make a new key's text."""
    printed: list[str] = []
    words = ["create", "--name", f"{project} {scope}", "--scope", scope, "--project", project]
    command = key_commands.parser().parse_args(words)
    assert await key_commands.run(world.ports.db, command, printed.append) == 0
    return printed[0]


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def value_of(project: str) -> str:
    """Return the value of the variable that the project's jobs have."""
    return f"value-of-{project}"


class Scene(Struct, frozen=True):
    """The world, the keys by project and scope, and the jobs by project."""

    world: World
    keys: dict[tuple[str, str], str]
    running: dict[str, Agent]
    done: dict[str, int]

    async def call(self, key: str | None, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {**bearer(key), **more.pop("headers", {})}
        return await self.world.http.request(method, path, headers=headers, **more)

    async def get(self, key: str | None, path: str) -> Any:
        """Return the JSON of an answer that is no error."""
        answer = await self.call(key, "GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, key: str | None, project: str, **fields: Any) -> httpx.Response:
        """Schedule a job that bears the project's name wherever it can."""
        body = {
            "docker_image": f"image-of-{project}",
            "scheduled_for": "now",
            "name": f"name-of-{project}",
            "labels": {"team": f"label-of-{project}"},
            "env_vars": {"VARIABLE": value_of(project)},
            **fields,
        }
        headers = fields.pop("headers", {})
        body.pop("headers", None)
        return await self.call(key, "POST", "/schedule", json=body, headers=headers)


async def two_projects(world: World) -> Scene:
    """Make the keys, and run the jobs."""
    scopes = ("read", "submit", "admin")
    keys = {
        (project, scope): await a_key(world, scope, project)
        for project in PROJECTS
        for scope in scopes
    }
    world.clock.advance(REMEMBER_SECONDS)
    scene = Scene(world, keys, {}, {})
    for project in PROJECTS:
        for _ in range(2):
            answer = await scene.post(keys[project, "submit"], project)
            assert answer.status_code == 201, answer.text
            agent = await world.claimed(answer.json()["id"])
            await world.report(agent, phase="running", lines=[f"line-of-{project}"])
            if project not in scene.done:
                await world.call_back(agent, {})
                await world.deliver(world.terminated(agent.job_id))
                scene.done[project] = agent.job_id
            else:
                scene.running[project] = agent
    world.clock.advance(1)
    return scene
