"""A fake AWS with a strict EC2: AWS's protocols and AWS's rules, without AWS.

It knows nothing of docker-job. `thread.py` shows how to start one in a test, `settings.py` has all
settings, `control.py` the commands of the control API.
"""

from fake_aws.cloud import Cloud
from fake_aws.settings import CloudSettings
from fake_aws.thread import CloudThread, start_cloud

__all__ = ["Cloud", "CloudSettings", "CloudThread", "start_cloud"]
