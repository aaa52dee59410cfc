"""Events as EventBridge sends them, one and more of each kind that the reaper reads. Pure.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-instance-state-changes.html
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.compute.ec2.notices import KINDS

INSTANCE = "i-0123456789abcdef0"

DETAILS: Mapping[str, Sequence[Mapping[str, str]]] = {
    "interruption": ({"instance-action": "terminate"},),
    "rebalance": ({},),
    # Of an instance that ends, either state is a notice.
    "state": ({"state": "shutting-down"}, {"state": "terminated"}),
}


def samples(account: str, region: str, at: datetime) -> dict[str, list[dict[str, Any]]]:
    """Return events by their detail type: a rule should let one of each type through."""
    place = f"arn:aws:ec2:{region}:{account}:instance/{INSTANCE}"
    return {
        detail_type: [
            {
                "version": "0",
                "id": "12345678-1234-1234-1234-123456789012",
                "detail-type": detail_type,
                "source": "aws.ec2",
                "account": account,
                "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
                "region": region,
                "resources": [place],
                "detail": {"instance-id": INSTANCE, **detail},
            }
            for detail in DETAILS[kind]
        ]
        for detail_type, kind in KINDS.items()
    }
