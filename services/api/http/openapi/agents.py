"""The schemas of agents' requests, which `agents/requests.py` declares, and of their answers."""

from services.api.agents import requests
from services.api.agents.settings import AgentSettings
from services.api.agents.sts_identity import Proof
from services.api.http.openapi.shapes import Schema, a_list, an_object, described, nullable, whole
from services.api.http.openapi.structs import of_struct

TEXT: Schema = {"type": "string"}
POSITIVE = whole(1, requests.MAX_WHOLE)


def schemas() -> dict[str, Schema]:
    """Return the schemas by their names."""
    interrupted, failed = {"required": ["schedule"]}, {"required": ["failed"]}
    return {
        "Claim": of_struct(requests.TokenClaim),
        "RoleClaim": of_struct(requests.RoleClaim),
        "Proof": of_struct(Proof),
        **_assignment(),
        "LogLine": of_struct(requests.LogLine),
        "LogLines": of_struct(requests.LogLines),
        "LogOmission": of_struct(requests.LogOmission),
        "Report": of_struct(requests.ReportRequest),
        "Interrupted": of_struct(requests.Interrupted) | {"not": failed},
        "Failed": of_struct(requests.Failed) | {"not": interrupted},
        "Done": of_struct(requests.Done) | {"not": {"anyOf": [interrupted, failed]}},
        "CallbackRecorded": an_object({"id": POSITIVE, "status": TEXT}),
    }


def _assignment() -> dict[str, Schema]:
    variables = {"type": "object", "additionalProperties": TEXT}
    job = {
        "id": POSITIVE,
        "docker_image": TEXT,
        "command": nullable(a_list(TEXT)),
        "env_vars": variables,
        "timeout_seconds": nullable({"type": "integer"}),
        "entrypoint": described("Replaces the image's entrypoint and command.", a_list(TEXT)),
        "gpus": described("The container's number of GPUs; absent: none.", POSITIVE),
        "secret_env": described("Further variables with secret values.", variables),
        "secrets": described(
            "Further variables; the values are names of secrets on AWS.", variables
        ),
        "registry_auth": described("`ecr`, or the variable that holds the registry's login.", TEXT),
    }
    number: Schema = {"type": "number"}
    settings = dict.fromkeys(AgentSettings.__dataclass_fields__, number)
    settings["host_services"] = described(
        "On an engine that jobs share: whether the job may reach the services of its host.",
        {"type": "boolean"},
    )
    given = {
        "job": an_object(job, "entrypoint", "gpus", "secret_env", "secrets", "registry_auth"),
        "attempt": POSITIVE,
        "instance_id": TEXT,
        "settings": an_object(settings, about="In seconds, bytes and lines."),
    }
    wait = {
        "wait": described("The reason.", TEXT),
        "retry_seconds": {"type": "number", "minimum": 0},
    }
    return {
        "Assignment": an_object(given, about="The job, for its agent."),
        "Wait": an_object(
            wait, about="The job cannot be claimed yet: claim again after `retry_seconds`."
        ),
    }
