"""SQS's long polling without blocking: moto would wait in the one thread that answers all calls."""

import asyncio
import json
from typing import Any

from fake_aws.moto_side import MotoSide
from fake_aws.wire import Answer, Request

STEP_SECONDS = 0.1


async def receive(moto: MotoSide, request: Request, params: dict[str, Any]) -> Answer:
    """Return moto's answer to ReceiveMessage once it has a message or the wait time is over."""
    seconds = params.get("WaitTimeSeconds")
    if not seconds:
        return await moto.answer(request)
    at_once = request._replace(
        body=json.dumps(params | {"WaitTimeSeconds": 0}).encode(), query="", method="POST"
    )
    loop = asyncio.get_running_loop()
    deadline = loop.time() + float(seconds)
    while True:
        answer = await moto.answer(at_once)
        is_over = loop.time() + STEP_SECONDS > deadline
        if is_over or answer.status != 200 or b'"Messages"' in answer.body:
            return answer
        await asyncio.sleep(STEP_SECONDS)
