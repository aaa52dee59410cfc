"""`python -m fake_aws`: the cloud as a program of its own, until SIGTERM or SIGINT.

Settings are options, named as in `settings.py`: `--port 4566 --speed 20 --boot container`. Once it
answers, it prints the environment that points a program at it, a line a variable.
"""

import argparse
import asyncio
import os
import signal
import sys

import msgspec

from fake_aws.cloud import Cloud
from fake_aws.control import routes
from fake_aws.settings import CloudSettings


def read_settings(arguments: list[str]) -> CloudSettings:
    """Read the settings from the command line. Exits with a message where one is not valid."""
    parser = argparse.ArgumentParser(prog="python -m fake_aws", description=__doc__)
    for name in CloudSettings.__struct_fields__:
        parser.add_argument("--" + name.replace("_", "-"), dest=name)
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value}
    try:
        return msgspec.convert(given, CloudSettings, strict=False)
    except msgspec.ValidationError as error:
        parser.error(str(error))


async def serve(settings: CloudSettings) -> None:
    """Serve until SIGTERM or SIGINT, then end every instance."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    cloud = Cloud(settings)
    try:
        await cloud.start(routes(cloud))
        for name, value in cloud.environment().items():
            print(f"{name}={value}", flush=True)
        await asked.wait()
    finally:
        await cloud.close()


if __name__ == "__main__":
    os.umask(0o077)  # the machines' directories have their user data
    asyncio.run(serve(read_settings(sys.argv[1:])))
