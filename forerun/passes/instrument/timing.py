"""Timing: where the time of a compilation went."""

from __future__ import annotations

import sys
from typing import TextIO

from forerun.passes.infra.failure import PassFailure
from forerun.passes.infra.run import PassRun, PipelineRun
from forerun.passes.infra.summary import Summary
from forerun.passes.instrument.base import Instrument

__all__ = ["Timing", "timing_table"]


class Timing(Instrument):
    """Prints a table of times when the pipeline ends, or fails. The summary has the same numbers.

    Args:
        stream: Where to; by default standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def after_pipeline(self, run: PipelineRun) -> None:
        """Print the table."""
        print(timing_table(run.summary), file=self._stream or sys.stderr)

    def pass_failed(self, run: PipelineRun, step: PassRun, failure: PassFailure) -> None:
        """Print the table up to the failure."""
        print(timing_table(run.summary), file=self._stream or sys.stderr)


def timing_table(summary: Summary) -> str:
    """Milliseconds in each pass and in checking it, as lines of text."""
    rows = [(r.text, r.seconds, r.verification_seconds) for r in summary.passes]
    rows.append(("all passes", sum(r[1] for r in rows), sum(r[2] for r in rows)))
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{'pass':<{width}}  {'ms':>9}  {'check ms':>9}"]
    lines += [f"{name:<{width}}  {1e3 * spent:9.2f}  {1e3 * checked:9.2f}" for name, spent, checked in rows]
    return "\n".join(lines)
