"""The choice of how instances boot on this machine."""

from fake_aws.as_container import AsContainer, NoEngineError
from fake_aws.as_process import AsProcess
from fake_aws.machines import MachineRuntime
from fake_aws.settings import CloudSettings


async def open_runtime(settings: CloudSettings) -> tuple[str, MachineRuntime | None]:
    """Return the kind of an instance and the runtime that makes it; None: instances do not boot.

    "auto" takes containers where a Docker engine answers and processes otherwise; "container"
    raises NoEngineError where none answers.
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
