"""Which way of booting this machine allows."""

from fake_aws.as_container import AsContainer, NoEngineError
from fake_aws.as_process import AsProcess
from fake_aws.machines import MachineRuntime
from fake_aws.settings import CloudSettings


async def open_runtime(settings: CloudSettings) -> tuple[str, MachineRuntime | None]:
    """What instances are, and how they are made; None: they are never booted.

    "auto" takes containers where a Docker engine answers and processes otherwise; whoever insists
    on containers gets NoEngineError instead.
    """
    if settings.boot == "none":
        return "none", None
    if settings.boot != "process":
        containers = AsContainer(
            settings.image, settings.network, settings.address, engine=settings.engine
        )
        try:
            await containers.open()
        except NoEngineError:
            if settings.boot == "container":
                raise
        else:
            return "container", containers
    return "process", AsProcess(engine=settings.engine)
