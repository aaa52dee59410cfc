"""The schema of a time in a query."""

from services.api.http.openapi.shapes import Schema
from services.api.http.times import AGE

TIME: Schema = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "pattern": AGE}]
}
