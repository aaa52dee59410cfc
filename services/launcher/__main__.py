"""The launcher as a process of its own: environment, build, run."""

import contextlib
import sys
from pathlib import Path

from services.launcher import CONSUMES, NAME
from services.launcher.config import from_settings, read_api_url
from services.launcher.service import build
from shared.adapters import compute_from, open_bus
from shared.runtime.process import Composed, main, worker
from shared.runtime.service import Ports
from shared.settings import Settings

SQL = Path(__file__).parent / "sql"


async def compose(settings: Settings, ports: Ports, stack: contextlib.AsyncExitStack) -> Composed:
    """Build the launcher with its cloud, and its readiness."""
    config = from_settings(
        settings,
        deployment=settings.required("DEPLOYMENT", "production"),
        api_url=read_api_url(settings),
        token_key=settings.required("TOKEN_KEY", "64 random hexadecimal digits"),
    )
    compute = compute_from(settings, ports.clock)
    stack.push_async_callback(compute.close)
    return worker(settings, build(config, ports, compute))


if __name__ == "__main__":
    sys.exit(main(NAME, CONSUMES, compose, open_bus, SQL))
