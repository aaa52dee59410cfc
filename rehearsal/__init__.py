"""A strict EC2 to rehearse on: AWS's wire, AWS's rules, no AWS.

It is a cloud, and knows nothing of docker-job. `cloud.py` tells how to start one in a test,
`settings.py` what can be set, `control.py` what the hand behind it can do.
"""

from rehearsal.cloud import Cloud, CloudThread, start_cloud
from rehearsal.settings import CloudSettings

__all__ = ["Cloud", "CloudSettings", "CloudThread", "start_cloud"]
