"""`python -m docker_job`: the command."""

from docker_job.cli.main import main

if __name__ == "__main__":
    main()
