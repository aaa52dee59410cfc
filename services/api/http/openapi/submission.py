"""The body of `POST /schedule`: the schema of the declared fields, with the deployment's limits."""

from services.api.http.openapi import reruns
from services.api.http.openapi.shapes import Schema, a_list, described, nullable, ref
from services.api.http.openapi.structs import of_struct
from services.api.http.routes.jobs import MAX_JOBS
from services.api.submission.capacity import ResourcesRequest
from services.api.submission.request import Bounds, JobRequest


def schemas(bounds: Bounds) -> dict[str, Schema]:
    """Return the schemas by their names."""
    requests = a_list(ref("JobRequest"), minItems=1, maxItems=MAX_JOBS)
    return {
        "JobRequest": job_request(bounds),
        "JobOverrides": reruns.schema(job_request(bounds)),
        "JobRequests": described("Jobs to schedule, all or none.", requests),
        "Resources": _resources(),
    }


def job_request(bounds: Bounds) -> Schema:
    """Return the schema of a job, with the deployment's limits and defaults."""
    schema = of_struct(JobRequest)
    properties = schema["properties"]
    about = properties["resources"]["description"]
    properties["resources"] = described(about, nullable(ref("Resources")))
    for name, most in bounds.most.items():
        properties[name]["maximum"] = most
    for name, default in bounds.defaults.items():
        properties[name]["default"] = default
    return schema


def _resources() -> Schema:
    other = {"architecture": {"const": "arm64"}, "gpus": {"type": "integer"}}
    return of_struct(ResourcesRequest) | {
        "not": {"properties": other, "required": list(other)},
        "examples": [ResourcesRequest.EXAMPLE],
    }
