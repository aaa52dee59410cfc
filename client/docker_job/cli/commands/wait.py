"""`docker-job wait`: wait until jobs are over."""

from docker_job.cli.app import App, command
from docker_job.cli.jobs_argument import jobs_argument
from docker_job.cli.outcome import exit_code
from docker_job.cli.screen import Screen
from docker_job.cli.trouble import Trouble
from docker_job.documents import Job

CELLS = 30
"""The width of the progress bar."""


@command("wait", short_help="Wait until jobs are over, and print their exit codes.")
@jobs_argument
def wait(app: App, *, jobs: tuple[str, ...]) -> int:
    """Wait until every JOB, an id or a name, is over; print the exit code of each, in this order.

    A job without an exit code of its own has that of run: 124 (its time limit passed), 125 (it
    failed), 130 (it was cancelled). This command exits with the highest of them.
    """
    ids = [app.client.find(each) for each in jobs]
    screen = Screen.of_process(colour=app.color)
    ended: dict[int, Job] = {}
    pending = list(ids)
    trouble = Trouble(screen).of("changes")
    _draw(screen, ended, len(set(ids)))
    for job in app.client.wait(ids, patience_seconds=None, on_trouble=trouble):
        ended[job.id] = job
        while pending and pending[0] in ended and not app.json:
            code = exit_code(ended[pending.pop(0)])
            screen.output("stdout", f"{code}\n".encode())
        _draw(screen, ended, len(set(ids)))
    screen.draw(None)
    if app.json:
        app.print_json([_result(ended[each]) for each in ids])
    return max(exit_code(each) for each in ended.values())


def _draw(screen: Screen, ended: dict[int, Job], count: int) -> None:
    """Draw a bar of the jobs that are over, on a terminal and for several jobs."""
    if count > 1:
        failed = sum(exit_code(each) != 0 for each in ended.values())
        screen.draw(bar(len(ended), count, failed))


def bar(done: int, count: int, failed: int) -> str:
    """Render the progress of *count* jobs."""
    filled = CELLS * done // count
    line = f" {'━' * filled}{'╌' * (CELLS - filled)}  {done} of {count} over"
    return f"{line}, {failed} not with 0" if failed else line


def _result(job: Job) -> dict[str, object]:
    return {
        "id": job.id,
        "name": job.name,
        "status": job.status,
        "exit_code": job.exit_code,
        "code": exit_code(job),
    }
