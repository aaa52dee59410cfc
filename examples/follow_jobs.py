"""Prints each job's end. AMQP_URL is a user that may declare and read the queue `follow-jobs`."""

import asyncio
import json
import os

import aio_pika


async def main() -> None:
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection, connection.channel() as channel:
        await channel.set_qos(prefetch_count=10)
        queue = await channel.declare_queue("follow-jobs", durable=True)
        await queue.bind("docker-job", routing_key="JobFinished")
        seen: set[str] = set()  # an event may come twice: keep these where your effects are kept
        async with queue.iterator() as messages:
            async for message in messages:
                event = json.loads(message.body)
                if event["id"] not in seen:
                    job = event["body"]
                    print(f"job {job['job_id']} is {job['status']}", flush=True)
                    seen.add(event["id"])
                await message.ack()


asyncio.run(main())
