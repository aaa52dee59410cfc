"""The client of docker-job's HTTP API."""

__version__ = "0.1.0"
