"""The API keeps to its OpenAPI document under any request: schemathesis makes them."""

from typing import Any, TypeAlias

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.config import (
    ChecksConfig,
    CoveragePhaseConfig,
    GenerationConfig,
    PhasesConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.core import NotSet
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response

from services.api.http.openapi.document import document
from services.api.keys import store as key_store
from services.api.keys.access import make_key
from shared import tokens
from tests.support.api.api_world import DEPLOYMENT, TOKEN_KEY, Agent, a_config
from tests.support.api.served_world import SERVED, ServedWorld

Case: TypeAlias = schemathesis.Case[Any]

schemathesis.openapi.format(
    "scheduled-for",
    st.sampled_from(["now", "10:00", "23:59:59", "+90s", "+3d", "2030-01-01T00:00"]),
)
schemathesis.openapi.format("time-zone", st.sampled_from(["UTC", "Europe/Berlin"]))

CHECKS = {
    # What is no valid body may be too large to be looked at: 413, which is not among its defaults.
    "negative_data_rejection": {
        "expected-statuses": ["400", "401", "403", "404", "405", "409", "413", "415", "429", "5xx"]
    }
}

CONFIG = a_config(**SERVED)
# Made within the tests: every worker collects this file. A stream that has no end is left out.
schema = schemathesis.pytest.from_fixture("described").exclude(path="/events")
schema_in_short = schemathesis.pytest.from_fixture("described_in_short").exclude(path="/events")


@pytest.fixture(scope="module")
def described() -> Any:
    return described_with(PhasesConfig())


@pytest.fixture(scope="module")
def described_in_short() -> Any:
    """Without the cases that stand for each keyword of the document: there are a thousand."""
    return described_with(PhasesConfig(coverage=CoveragePhaseConfig(enabled=False)))


def described_with(phases: PhasesConfig) -> Any:
    """The document, asked in these ways."""
    return schemathesis.openapi.from_dict(
        document(CONFIG.http, CONFIG.bounds),
        config=SchemathesisConfig(
            seed=1,
            projects=ProjectsConfig(
                default=ProjectConfig(
                    generation=GenerationConfig(deterministic=True),
                    checks=ChecksConfig.from_dict(CHECKS),
                    phases=phases,
                )
            ),
        ),
    )


@pytest.fixture(autouse=True)
def node_id(request: pytest.FixtureRequest) -> None:
    """Give the node the attribute that schemathesis changes and pytest 9.2 has no longer."""
    request.node._nodeid = request.node.nodeid


@pytest.fixture(scope="module", autouse=True)
def admin(served: ServedWorld) -> dict[str, str]:
    """Make the first API key before anything else: calls that make keys close the open API."""
    key = make_key()

    async def insert() -> None:
        async with served.world.ports.db.transaction() as tx:
            await key_store.insert_key(tx, key.prefix, "fuzzed", "admin", key.hashed)

    served.do(insert())
    served.world.http.headers.update(bearer(key.text))
    return bearer(key.text)


@pytest.fixture(scope="module")
def reporter(served: ServedWorld) -> Agent:
    """Make an agent whose container does not end."""
    return served.do(served.world.running())


@pytest.fixture(scope="module")
def finished(served: ServedWorld) -> int:
    """Make a job that has printed something and is terminal: only then a stream of its log ends."""
    agent = served.do(served.world.running())
    served.do(served.world.report(agent, lines=["hello"]))
    served.do(served.world.call_back(agent, {}))
    return agent.job_id


BEYOND_A_SCHEMA = (
    "Idempotency-Key must be",  # of spaces alone, which HTTP strips
    "Idempotency-Key goes with a single job",
    "leave vcpus, memory_mib and gpus out",
    "spot_wait_seconds goes with Spot",
    "registry_auth must be",
    "registry_auth is ecr, but docker_image",
    " cannot be pulled: ",
    " cannot be read: ",
    "resources.instance_types has no type for",
    "entrypoint is empty",
    "entrypoint and command name no program",
    " too: give it once",
    "rebalance goes without a phase",
    "they may span 366 days",
    "cursor must be",
    "name must have 1 to",
    "key must not be empty",
)
"""Of valid bodies these are refused: for how two fields go together, or for a rule of others."""


def errors_name_what_is_wrong(
    _context: schemathesis.CheckContext, response: Response, _case: Case
) -> None:
    """Check that every refusal is JSON with a message, except HEAD's."""
    if response.status_code >= 400 and response.request.method != "HEAD":
        assert response.headers["content-type"] == ["application/json"]
        message = response.json()["message"]
        assert isinstance(message, str)
        assert message


def valid_is_taken(_context: schemathesis.CheckContext, response: Response, case: Case) -> None:
    """Check that a valid request by the document is taken, or refused as `BEYOND_A_SCHEMA`."""
    if response.status_code == 400 and is_valid(case):
        message = response.json()["message"]
        assert any(each in message for each in BEYOND_A_SCHEMA), message


def whole_again(value: Any) -> Any:
    """Return *value* with 46.0 as 46: JSON Schema equates the two, and the API does not."""
    if isinstance(value, dict):
        return {name: whole_again(each) for name, each in value.items()}
    if isinstance(value, list):
        return [whole_again(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def authorized(
    case: Case, served: ServedWorld, reporter: Agent, finished: int, admin: dict[str, str]
) -> dict[str, str]:
    """Return headers that are authorized for this, and a job that exists."""
    world, path, fields = served.world, case.operation.path, case.path_parameters
    valid = is_valid(case, ParameterLocation.BODY)
    if path == "/agent/claim":
        if isinstance(case.body, dict) and "identity" in case.body:
            return {}  # this deployment knows no role
        job_id = served.do(launched(served)) if valid else reporter.job_id
        if valid and isinstance(case.body, dict):
            case.body = {**case.body, "job_id": job_id, "attempt": 1}
        return bearer(tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, job_id, 1))
    if not is_valid(case, ParameterLocation.PATH):
        return admin
    if path in ("/agent/jobs/{id}/report", "/callback/{id}"):
        taken = valid and path.startswith("/callback")
        agent = served.do(world.running()) if taken else reporter
        fields["id"] = agent.job_id
        return agent.headers
    if path == "/jobs/{id}/logs":
        fields["id"] = finished
    elif "{id}" in path and int(fields["id"]) % 2:
        fields["id"] = served.do(world.post())["id"]
    return admin


def is_valid(case: Case, part: ParameterLocation | None = None) -> bool:
    """Return whether the document allows *case*, or that part of it."""
    if case.meta is None:
        return True
    if part is None:
        return bool(case.meta.generation.mode.is_positive)
    return part not in case.meta.components or case.meta.components[part].mode.is_positive


async def launched(served: ServedWorld) -> int:
    """Make a job whose instance is launched."""
    job_id: int = (await served.world.post())["id"]
    await served.world.deliver(served.world.launched(job_id))
    return job_id


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def settings_for(examples: int) -> settings:
    """So many examples an operation, the same in every run."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@schema_in_short.parametrize()
@settings_for(examples=12)
def test_some_answers_are_ones_that_the_document_has(
    case: Case, served: ServedWorld, reporter: Agent, finished: int, admin: dict[str, str]
) -> None:
    hold_to_the_document(case, served, authorized(case, served, reporter, finished, admin))


@pytest.mark.campaign
@pytest.mark.timeout(300)  # all operations, each a subtest
@schema.parametrize()
@settings_for(examples=50)
def test_every_answer_is_one_that_the_document_has(
    case: Case, served: ServedWorld, reporter: Agent, finished: int, admin: dict[str, str]
) -> None:
    hold_to_the_document(case, served, authorized(case, served, reporter, finished, admin))


def hold_to_the_document(case: Case, served: ServedWorld, headers: dict[str, str]) -> None:
    """Ask what *case* says, as somebody who may."""
    if is_valid(case):
        case.body = whole_again(case.body)
    checks = schemathesis.checks
    excluded = [checks.positive_data_acceptance]
    if isinstance(case.body, NotSet) and not any(each.is_required for each in case.operation.body):
        excluded.append(checks.negative_data_rejection)  # which takes no body for a wrong one
    case.call_and_validate(
        base_url=served.base_url,
        headers=headers,
        additional_checks=[errors_name_what_is_wrong, valid_is_taken],
        excluded_checks=excluded,
    )
