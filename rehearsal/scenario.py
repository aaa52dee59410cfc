"""The usual scenario: a job is posted, runs, is interrupted, runs on another instance, is done."""

from rehearsal.outcome import Causes
from rehearsal.steps import Steps


def run_usual_day(steps: Steps) -> dict[int, Causes]:
    """Run it; return how the attempts of its job must have ended. Raises `Deviation`."""
    job_id = steps.post()
    interrupted = steps.until_running(job_id)
    steps.report(f"it runs on {interrupted}: interrupting that instance, with notice")
    steps.stage.cloud.control.interrupt(interrupted)
    steps.until_running(job_id, attempt=2)
    steps.report("it runs again, on another instance")
    steps.until_settled(job_id)
    steps.report("it is finished, and the cloud has confirmed that its instances are terminated")
    return {job_id: ("interrupted", "done")}
