# Made by `make client` from docker_job/_async/__init__.py: change that file.
"""The two halves are one source: docker_job/_sync is made from docker_job/_async."""
