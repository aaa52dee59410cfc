"""The command `docker-job`."""
