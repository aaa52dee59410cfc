"""The schemas of agents' requests, which `agents/requests.py` declares, and of their answers."""

from services.api.agents import log_lines, requests
from services.api.agents.claims import FREE_HOUR
from services.api.agents.settings import AgentSettings
from services.api.agents.sts_identity import Proof
from services.api.http.openapi.shapes import Schema, a_list, an_object, described, nullable, whole
from services.api.http.openapi.structs import of_struct

TEXT: Schema = {"type": "string"}
POSITIVE = whole(1, log_lines.MAX_WHOLE)


def schemas() -> dict[str, Schema]:
    """Return the schemas by their names."""
    interrupted, failed = {"required": ["schedule"]}, {"required": ["failed"]}
    return {
        "Claim": of_struct(requests.TokenClaim),
        "RoleClaim": of_struct(requests.RoleClaim),
        "Proof": of_struct(Proof),
        **_assignment(),
        "LogLine": of_struct(log_lines.LogLine),
        "LogLines": of_struct(log_lines.LogLines),
        "LogOmission": of_struct(log_lines.LogOmission),
        "Report": of_struct(requests.ReportRequest),
        "Interrupted": of_struct(requests.Interrupted) | {"not": failed},
        "Failed": of_struct(requests.Failed) | {"not": interrupted},
        "Done": of_struct(requests.Done) | {"not": {"anyOf": [interrupted, failed]}},
        "CallbackRecorded": an_object({"id": POSITIVE, "status": TEXT}),
    }


_ALWAYS = ("id", "docker_image", "command", "env_vars", "timeout_seconds")


def _of_the_container() -> dict[str, Schema]:
    resources = an_object(
        dict.fromkeys(("vcpus", "memory_mib", "gpus"), POSITIVE),
        *("vcpus", "memory_mib", "gpus"),
        about="What the job asked for.",
    )
    texts = dict.fromkeys(("user", "working_dir", "stop_signal"), TEXT)
    flags = {name: {"type": "boolean"} for name in ("init", "read_only")}
    fields: dict[str, Schema] = {**texts, **flags, "shm_size_mib": POSITIVE}
    given = {name: described("As the job has it; absent: none.", fields[name]) for name in fields}
    return {"resources": resources, **given}


def _settings() -> dict[str, Schema]:
    number: Schema = {"type": "number"}
    flag: Schema = {"type": "boolean"}
    return dict.fromkeys(AgentSettings.__dataclass_fields__, number) | {
        "local_images": described(
            "An image that only the agent's machine has is used after a failed pull.", flag
        ),
        "registries_refused": described(
            "Networks: an image is not pulled from a registry whose name resolves into one.",
            a_list(TEXT),
        ),
        "registries_allowed": described(
            "The exceptions: hosts, with or without a port, and networks.", a_list(TEXT)
        ),
        "host_services": described(
            "On an engine that jobs share: whether the job may reach the services of its host.",
            flag,
        ),
        FREE_HOUR: _free_hour(),
    }


def _free_hour() -> Schema:
    about = "The rest of the hour in which EC2 bills nothing if it interrupts the instance itself."
    return described(about, {"type": "number", "minimum": 0})


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
        **_of_the_container(),
    }
    given = {
        "job": an_object(job, *(name for name in job if name not in _ALWAYS)),
        "attempt": POSITIVE,
        "instance_id": TEXT,
        "settings": an_object(_settings(), FREE_HOUR, about="In seconds, bytes and lines."),
    }
    wait = {
        "wait": described("The reason.", TEXT),
        "retry_seconds": {"type": "number", "minimum": 0},
        "settings": an_object({FREE_HOUR: _free_hour()}, about="They hold until the next claim."),
    }
    return {
        "Assignment": an_object(given, about="The job, for its agent."),
        "Wait": an_object(
            wait,
            "settings",
            about="The job cannot be claimed yet: claim again after `retry_seconds`.",
        ),
    }
