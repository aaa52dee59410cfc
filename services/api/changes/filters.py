"""The choice of the changes that a follower gets. Pure."""

from collections.abc import Collection

from msgspec import Struct

from services.api.changes.store import JobChange
from services.api.jobs.filters import Filters


class ChangeFilter(Struct, frozen=True):
    """The filters of `/list`, and the jobs' ids: a wanted change matches all of them.

    The status is that after the change.
    """

    filters: Filters
    jobs: Collection[int] = ()

    def wants(self, change: JobChange) -> bool:
        """Return whether the follower gets *change*."""
        wanted = self.filters
        return (
            (not self.jobs or change.job_id in self.jobs)
            and wanted.project in (None, change.project)
            and (not wanted.statuses or change.status in wanted.statuses)
            and wanted.name in (None, change.name)
            and wanted.image in (None, change.docker_image)
            and all(change.labels.get(name) == value for name, value in wanted.labels)
            and (wanted.text is None or _has_text(change, wanted.text.lower()))
        )


def _has_text(change: JobChange, text: str) -> bool:
    texts = (str(change.job_id), change.name or "", change.docker_image, *change.labels.values())
    return any(text in each.lower() for each in texts)
