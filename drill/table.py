"""The drill's table: a row for each outage. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from drill.verdict import Figures

COLUMNS = (
    *("outage", "seconds", "jobs", "jobs lost", "run twice", "results lost"),
    *("instances leaked", "events lost", "seconds to recover"),
)
LEGEND = """\
seconds             how long the outage lasted, the repairing command included
jobs lost           accepted, and not DONE (exit 0) or FAILED (exit 3) in time
run twice           its container started more than once, or was given up as lost while it ran
results lost        the exit code or the container's output is missing in the API
instances leaked    running on the engine though their job is over
events lost         not published, or not received by each service that reads them, or put aside
seconds to recover  from the return of the repairing command until GET /readyz is 200 and names
                    nothing missing, and a job that was posted at that time is DONE"""


@dataclass(frozen=True)
class Row:
    """One outage, its length, how many jobs lived through it, and what it cost."""

    title: str
    seconds: float
    jobs: int
    figures: Figures


def format_table(rows: Iterable[Row]) -> str:
    """Format the rows, aligned under their names."""
    lines: list[Sequence[str]] = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def format_notes(rows: Iterable[Row]) -> str:
    """Name what was not as it should be, outage by outage; empty if all was."""
    return "\n".join(f"{row.title}: {note}" for row in rows for note in row.figures.notes)


def _cells(row: Row) -> Sequence[str]:
    figures = row.figures
    recovered = figures.recovery_seconds
    return (
        row.title,
        f"{row.seconds:.0f}",
        str(row.jobs),
        *(str(n) for n in (figures.lost, figures.twice, figures.results)),
        *(str(n) for n in (figures.leaked, figures.events)),
        "never" if recovered is None else f"{recovered:.1f}",
    )
