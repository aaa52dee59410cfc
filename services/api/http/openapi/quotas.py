"""`GET /quotas`: its answer."""

from typing import Any

from services.api.http.openapi.operations import USERS, answer, operation
from services.api.http.openapi.shapes import Schema, a_list, an_object, described, nullable, ref

WHOLE: Schema = {"type": "integer", "minimum": 0}
AMOUNT: Schema = {"type": "number", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time"}

OF_AN_OWNER = {
    "jobs": described("Live jobs: those that are not terminal.", ref("QuotaCount")),
    "instances": described("Instances that are launched or asked for.", ref("QuotaCount")),
    "vcpus": described("Their vCPUs.", ref("QuotaCount")),
    "usd_per_day": described("The dollars of this UTC day.", ref("QuotaDollars")),
}


def paths() -> dict[str, Any]:
    """Describe the route."""
    return {
        "/quotas": {
            "get": operation(
                "quotas",
                "Show what may run at once and cost a day, and what is used of that.",
                "read",
                ("BadRequest", *USERS),
                {"200": answer("As the launcher has last reported it; jobs as of now.", "Quotas")},
            )
        }
    }


def schemas() -> dict[str, Schema]:
    """Return the schemas by their names."""
    of_key = {
        "key": described("The API key's prefix.", {"type": "string"}),
        "name": described("Its name.", nullable({"type": "string"})),
    }
    limit = "Null: there is no quota."
    return {
        "QuotaCount": an_object({"used": WHOLE, "limit": described(limit, nullable(WHOLE))}),
        "QuotaDollars": an_object(
            {
                "used": described("What is spent and promised.", AMOUNT),
                "limit": described(limit, nullable(AMOUNT)),
                "spent": described("What the day has cost so far.", AMOUNT),
                "promised": described(
                    "What running instances may still cost until their time limit or the day's "
                    "end, whichever is sooner.",
                    AMOUNT,
                ),
            }
        ),
        "OwnedQuotas": an_object(OF_AN_OWNER),
        "KeyQuotas": an_object(of_key | OF_AN_OWNER),
        "Quotas": an_object(
            {
                "as_of": described(
                    "When the launcher reported it; null: it has not yet.", nullable(TIME)
                ),
                "until": described("The end of the UTC day that the dollars are of.", TIME),
                "deployment": described(
                    "Of all jobs; null for a key that is not an admin's.",
                    nullable(ref("OwnedQuotas")),
                ),
                "keys": described(
                    "The caller's key; for an admin each key that uses something.",
                    a_list(ref("KeyQuotas")),
                ),
            }
        ),
    }
