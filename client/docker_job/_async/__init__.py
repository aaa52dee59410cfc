"""The two halves are one source: docker_job/_sync is made from docker_job/_async."""
