"""What `/readyz` names as degraded, once each."""

import json

from starlette.requests import Request

from services.api.http.routes.health import HealthRoutes
from shared.runtime.readiness import Readiness

REQUEST = Request({"type": "http", "method": "GET", "path": "/readyz", "headers": []})


async def test_a_pause_and_a_fault_of_the_deployment_are_one_entry_with_both_reasons() -> None:
    async def look() -> Readiness:
        return Readiness({}, {}, {"launches": "2 launches wait: check DOCKER_JOB_EC2_SUBNETS"})

    async def paused() -> str | None:
        return "launches are paused"

    answer = await HealthRoutes(look, paused).readyz(REQUEST)
    body = json.loads(bytes(answer.body))
    assert (answer.status_code, body["degraded"]) == (200, ["launches"])
    assert "DOCKER_JOB_EC2_SUBNETS; launches are paused" in body["message"]
