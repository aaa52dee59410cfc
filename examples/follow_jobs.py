"""Print each job's end. AMQP_URL is a user that may declare and read the queue `follow-jobs`."""

import asyncio
import json
import os

import aio_pika

KEPT = {"x-expires": 7 * 24 * 3600 * 1000}  # ms: an unused queue is deleted after this time
REMEMBERED = 100_000  # ids, since an event may arrive twice: better store them with your effects


def plain(job: dict[str, str | None]) -> str:
    # A client chose the name: it is no command to your terminal.
    return "".join(each if each.isprintable() else "?" for each in str(job["name"]))


async def main() -> None:
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection, connection.channel() as channel:
        await channel.set_qos(prefetch_count=10)
        queue = await channel.declare_queue("follow-jobs", durable=True, arguments=KEPT)
        await queue.bind("docker-job", routing_key="JobFinished")
        seen: dict[str, None] = {}
        async with queue.iterator() as messages:
            async for message in messages:
                for event in json.loads(message.body):
                    job = event["data"]
                    if event["id"] not in seen:
                        print(f"job {job['job_id']} ({plain(job)}) is {job['status']}", flush=True)
                        seen[event["id"]] = None
                    if len(seen) > REMEMBERED:
                        del seen[next(iter(seen))]
                await message.ack()


asyncio.run(main())
