"""A strict EC2 to rehearse on: AWS's wire, AWS's rules, no AWS.

It is a cloud, and knows nothing of docker-job. `thread.py` tells how to start one in a test,
`settings.py` what can be set, `control.py` what the hand behind it can do.
"""

from fake_aws.cloud import Cloud
from fake_aws.settings import CloudSettings
from fake_aws.thread import CloudThread, start_cloud

__all__ = ["Cloud", "CloudSettings", "CloudThread", "start_cloud"]
