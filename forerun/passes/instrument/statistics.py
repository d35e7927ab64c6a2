"""Statistics: what the passes counted."""

from __future__ import annotations

import sys
from typing import TextIO

from forerun.passes.infra.failure import PassFailure
from forerun.passes.infra.run import PassRun, PipelineRun
from forerun.passes.instrument.base import Instrument

__all__ = ["Statistics", "statistics_table"]


class Statistics(Instrument):
    """Prints what each pass counted when the pipeline ends, or fails. The summary has the same numbers.

    Args:
        stream: Where to; by default standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def after_pipeline(self, run: PipelineRun) -> None:
        """Print the counts."""
        print(statistics_table(run), file=self._stream or sys.stderr)

    def pass_failed(self, run: PipelineRun, step: PassRun, failure: PassFailure) -> None:
        """Print the counts up to the failure."""
        print(statistics_table(run), file=self._stream or sys.stderr)


def statistics_table(run: PipelineRun) -> str:
    """One line for each statistic of each pass that was reached, and for each rule that was applied."""
    lines = []
    for subject, record in zip(run.pipeline, run.summary.passes, strict=False):
        for name, count in record.statistics.items():
            lines.append(f"{count:9}  {record.name}.{name}  {subject.statistics[name]}")
        rules = {name: count for name, count in record.applications.items() if name != record.name}
        lines += [f"{count:9}  {record.name}.{name}  applications of the rule" for name, count in rules.items()]
    return "\n".join(lines) or "no pass counts anything"
