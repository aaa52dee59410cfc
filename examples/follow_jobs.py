"""Print each job's end. AMQP_URL is a user that may declare and read the queue `follow-jobs`."""

import asyncio
import json
import os

import aio_pika

KEPT = {"x-expires": 7 * 24 * 3600 * 1000}  # ms: an unused queue is deleted after this time
REMEMBERED = 100_000  # ids, since an event may arrive twice: better store them with your effects


async def main() -> None:
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection, connection.channel() as channel:
        await channel.set_qos(prefetch_count=10)
        queue = await channel.declare_queue("follow-jobs", durable=True, arguments=KEPT)
        await queue.bind("docker-job", routing_key="JobFinished")
        seen: dict[str, None] = {}
        async for message in queue.iterator():
            for event in json.loads(message.body):
                job = event["data"]
                name = repr(str(job["name"]))[1:-1]  # a client chose it: no terminal obeys it
                if event["id"] not in seen:
                    print(f"job {job['job_id']} ({name}) is {job['status']}", flush=True)
                    seen[event["id"]] = None
                if len(seen) > REMEMBERED:
                    del seen[next(iter(seen))]
            await message.ack()


asyncio.run(main())
