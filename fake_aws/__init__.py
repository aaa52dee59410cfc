"""A strict EC2 to rehearse on: AWS's wire, AWS's rules, no AWS.

It is a cloud, and knows nothing of docker-job. `thread.py` tells how to start one in a test,
`settings.py` what can be set, `control.py` what the hand behind it can do.
"""

from rehearsal.cloud import Cloud
from rehearsal.settings import CloudSettings
from rehearsal.thread import CloudThread, start_cloud

__all__ = ["Cloud", "CloudSettings", "CloudThread", "start_cloud"]
