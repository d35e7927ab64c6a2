"""The status word of a schedule, and the error that the host raises for it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from forerun.support.diagnostics import InvalidInput

__all__ = ["Finding", "Status", "raise_for"]


class Status(enum.IntEnum):
    """What is wrong with a batch. Of several faults the one with the smallest number is reported."""

    OK = 0
    NO_REQUESTS = 1
    TOO_MANY_REQUESTS = 2
    BAD_POINTERS = 3
    TOO_MANY_ROWS = 4
    TOO_MANY_PAGES = 5
    BAD_LENGTH = 6
    QUERY_LONGER_THAN_KV = 7
    TOO_FEW_PAGES = 8
    BAD_PAGE = 9
    TOO_MANY_ITEMS = 10
    TOO_MUCH_WORK = 11
    UNSPLIT = 64

    @property
    def is_error(self) -> bool:
        """Whether nothing may run. ``UNSPLIT`` is a note: the batch runs, and no task of it is split."""
        return self not in (Status.OK, Status.UNSPLIT)

    @property
    def meaning(self) -> str:
        """The status in words."""
        return _MEANINGS[self]


_MEANINGS = {
    Status.OK: "the batch is scheduled",
    Status.NO_REQUESTS: "the batch has no requests",
    Status.TOO_MANY_REQUESTS: "the batch has more requests than the capacity",
    Status.BAD_POINTERS: "an index pointer does not begin at 0, or decreases",
    Status.TOO_MANY_ROWS: "the batch has more query rows than the capacity",
    Status.TOO_MANY_PAGES: "the batch lists more pages than the capacity",
    Status.BAD_LENGTH: "a KV length is negative",
    Status.QUERY_LONGER_THAN_KV: "a query is longer than its KV",
    Status.TOO_FEW_PAGES: "a request lists fewer pages than its KV needs",
    Status.BAD_PAGE: "a page is not in the cache",
    Status.TOO_MANY_ITEMS: "the batch has more tasks than the capacity has items",
    Status.TOO_MUCH_WORK: "the tasks of the batch cost more than 2^40 together",
    Status.UNSPLIT: "the workspace is too small for the splits, so no task is split",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A status, and the first request (or expert) that it is about; -1 where it is about the whole batch."""

    status: Status = Status.OK
    where: int = -1


def raise_for(finding: Finding) -> None:
    """Raise what the status word says; ``OK`` and ``UNSPLIT`` say that the batch runs.

    Raises:
        InvalidInput: If the status is an error.
    """
    if finding.status.is_error:
        request = f" (request {finding.where})" if finding.where >= 0 else ""
        raise InvalidInput(f"cannot schedule the batch: {finding.status.meaning}{request}", hint=_hint(finding.status))


def _hint(status: Status) -> str:
    if status.name.startswith("TOO_MANY"):
        return "capture with a larger capacity, or run a smaller batch"
    return "nothing of the batch was run"
