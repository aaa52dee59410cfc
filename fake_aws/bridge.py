"""EventBridge: publishes the events of instances to the targets of matching rules.

Rules and their targets are moto's, made with boto3 as on AWS; a queue may also be named directly.
Delivery is at least once and in no order, as on AWS.
"""

import asyncio
import json
import uuid
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from fake_aws.instance import Instance
from fake_aws.moto_side import MotoSide

Params = dict[str, Any]
TYPES = {
    "state": "EC2 Instance State-change Notification",
    "interruption": "EC2 Spot Instance Interruption Warning",
    "rebalance": "EC2 Instance Rebalance Recommendation",
}


class Bridge:
    """Builds the events and delivers them."""

    def __init__(self, moto: MotoSide) -> None:
        self._moto = moto
        self._tasks: set[asyncio.Task[None]] = set()
        self.queues: set[str] = set()
        """URLs of queues that receive every event."""

    def publish(self, kind: str, instance: Instance, detail: Params) -> None:
        """Publish an event of *instance*; *kind* is a key of `TYPES`."""
        event = self._event(kind, instance, detail)
        self._spawn(self._moto.put_event(event))
        for queue in self.queues:
            self._spawn(self._moto.send_message(queue, json.dumps(event)))

    async def close(self) -> None:
        """Wait until every event under way is delivered."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _event(self, kind: str, instance: Instance, detail: Params) -> Params:
        # As on AWS, the warning's ARN names the zone, the others' the region and the account.
        place = f"{self._moto.region}:{self._moto.account}"
        if kind == "interruption":
            place = instance.plan.subnet.zone
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": TYPES[kind],
            "source": "aws.ec2",
            "account": self._moto.account,
            "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "region": self._moto.region,
            "resources": [f"arn:aws:ec2:{place}:instance/{instance.id}"],
            "detail": {"instance-id": instance.id, **detail},
        }

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
