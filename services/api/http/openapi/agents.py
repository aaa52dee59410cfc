"""The schemas of agents' requests and answers, with the limits of `agents/requests.py`."""

from services.api.agents import requests
from services.api.agents.settings import AgentSettings
from services.api.http.openapi.shapes import (
    Schema,
    a_list,
    an_object,
    described,
    matching,
    nullable,
    one_of,
    ref,
    whole,
)

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": ["boolean", "null"]}
POSITIVE = whole(1, requests.MAX_WHOLE)
EXIT_CODE = nullable(whole(-requests.MAX_WHOLE, requests.MAX_WHOLE))


def schemas() -> dict[str, Schema]:
    """The schemas by their names."""
    return _claims() | _assignment() | _report() | _callback()


def _claims() -> dict[str, Schema]:
    common = {
        "token": described(
            "The agent's own secret of 256 bits, made before it claims: from here on it is the "
            "bearer of its calls.",
            matching(requests.TOKEN),
        ),
        "runtime": described("What runs the container.", one_of(requests.RUNTIMES)),
        "interrupted": described("The instance gets interrupted: end the attempt.", FLAG),
    }
    by_token = {
        "job_id": POSITIVE,
        "attempt": POSITIVE,
        "instance_id": {"type": "string", "minLength": 1, "maxLength": requests.MAX_INSTANCE_ID},
    }
    signed = {
        "headers": {
            "type": "object",
            "maxProperties": requests.MAX_HEADERS,
            "propertyNames": {"pattern": "^[^A-Z]*$"},
            "additionalProperties": TEXT,
        },
        "body": TEXT,
    }
    identity = an_object(signed, about="The pieces of a signed request to AWS STS.")
    return {
        "Claim": an_object(
            by_token | common, "interrupted", about="By the attempt's bootstrap token, the bearer."
        ),
        "RoleClaim": an_object(
            {"identity": identity} | common,
            "interrupted",
            about="By the instance's role, where the API's `DOCKER_JOB_INSTANCE_ROLE_ARN` is set.",
        ),
    }


def _assignment() -> dict[str, Schema]:
    variables = {"type": "object", "additionalProperties": TEXT}
    job = {
        "id": POSITIVE,
        "docker_image": TEXT,
        "command": nullable(a_list(TEXT)),
        "env_vars": variables,
        "timeout_seconds": nullable({"type": "integer"}),
        "entrypoint": described("Instead of the image's entrypoint and command.", a_list(TEXT)),
        "gpus": described("So many GPUs the container is given; absent: none.", POSITIVE),
        "secret_env": described("More variables, whose values are secret.", variables),
        "secrets": described("Where the values of further variables are found.", variables),
        "registry_auth": described("`ecr`, or which variable is the registry's login.", TEXT),
    }
    number: Schema = {"type": "number"}
    settings = dict.fromkeys(AgentSettings.__dataclass_fields__, number)
    given = {
        "job": an_object(job, "entrypoint", "gpus", "secret_env", "secrets", "registry_auth"),
        "attempt": POSITIVE,
        "instance_id": TEXT,
        "settings": an_object(settings, about="In seconds, bytes and lines."),
    }
    wait = {"wait": described("Why.", TEXT), "retry_seconds": {"type": "number", "minimum": 0}}
    return {
        "Assignment": an_object(given, about="The job, handed to its agent."),
        "Wait": an_object(wait, about="The job is not available yet: ask again after a while."),
    }


def _report() -> dict[str, Schema]:
    line = {
        "at": described("An ISO 8601 time.", {"type": "string", "format": "date-time"}),
        "stream": one_of(requests.STREAMS),
        "text": described(f"Kept up to {requests.MAX_LINE} characters.", TEXT),
    }
    left_out = whole(1, requests.MAX_LEFT_OUT)
    batch = {
        "seq": described("Counts from 1; the same batch again has no further effect.", POSITIVE),
        "lines": a_list(ref("LogLine"), maxItems=requests.MAX_LINES),
        "left_out": nullable(
            an_object(
                {"lines": left_out, "bytes": left_out},
                about="What the agent has left out just before, since newer lines fill the bound.",
            )
        ),
    }
    report = {
        "phase": nullable(one_of(requests.PHASES)),
        "rebalance": described("EC2 recommends to rebalance; goes without a phase.", FLAG),
        "logs": nullable(an_object(batch, "left_out")),
    }
    about = "A heartbeat; perhaps a phase and a batch of log lines with it."
    return {"LogLine": an_object(line), "Report": an_object(report, *report, about=about)}


def _callback() -> dict[str, Schema]:
    def present(name: str) -> Schema:
        return described(f"That it is there counts, not its value: `{name}`.", {})

    message = {"type": ["string", "null"]}
    interrupted = {
        "schedule": present("the interruption notice has come"),
        "stopped": described("Its container is known to have stopped.", FLAG),
        "exit_code": EXIT_CODE,
    }
    failed = {
        "failed": present("the container ended badly, or could not run"),
        "error_message": described(
            f"Its last {requests.MAX_MESSAGE} characters are kept.", message
        ),
        "exit_code": EXIT_CODE,
        "timed_out": described("The job's time limit passed.", FLAG),
        "pull_failed": described("The image could not be pulled.", FLAG),
        "for_good": described("The registry has no such image, or denies it.", FLAG),
        "stopped": described("Left out: true. Else the container may run on.", FLAG),
    }
    done: dict[str, Schema] = {"exit_code": {"enum": [0, None]}, "error_message": message}
    neither = {"not": {"anyOf": [{"required": ["schedule"]}, {"required": ["failed"]}]}}
    return {
        "Interrupted": an_object(interrupted, "stopped", "exit_code")
        | {"not": {"required": ["failed"]}},
        "Failed": an_object(failed, *(name for name in failed if name != "failed"))
        | {"not": {"required": ["schedule"]}},
        "Done": an_object(done, *done, about="The container exited 0.") | neither,
        "CallbackRecorded": an_object({"id": POSITIVE, "status": {"type": "string"}}),
    }
