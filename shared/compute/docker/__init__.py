"""`docker://`: an instance is a container on the Docker engine."""
