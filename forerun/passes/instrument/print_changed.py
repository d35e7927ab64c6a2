"""Print graphs between passes: all of them, what changed only, or after one pass."""

from __future__ import annotations

import sys
from typing import ClassVar, TextIO

from forerun.ir.text import diff_graphs, print_graph
from forerun.passes.infra.failure import PassFailure
from forerun.passes.infra.run import PassRun, PipelineRun
from forerun.passes.instrument.base import Instrument
from forerun.support.diagnostics import InvalidInput, did_you_mean
from forerun.support.escaping import visible

__all__ = ["PrintAfter"]


class PrintAfter(Instrument):
    """Prints after passes, under a line ``// after pass 2 of 4, insert-pdl: ...``.

    Args:
        what: ``all``: the graph after each pass; ``changed``: the difference, for each pass that changed something; or
            the name of a pass: the graph after it.
        stream: Where to; by default standard error.
    """

    order: ClassVar[int] = 5

    def __init__(self, what: str = "changed", stream: TextIO | None = None) -> None:
        self.what = what
        self._stream = stream

    def before_pipeline(self, run: PipelineRun) -> None:
        """Reject a name that is not in the pipeline."""
        names = ["all", "changed", *(subject.name for subject in run.pipeline)]
        if self.what not in names:
            hint = did_you_mean(self.what, dict.fromkeys(names))
            raise InvalidInput(f"print after: the pipeline has no pass '{self.what}'", hint=hint)

    def after_pass(self, run: PipelineRun, step: PassRun) -> None:
        """Print what was asked for."""
        assert step.after is not None
        if self.what == "changed":
            text: str | None = diff_graphs(step.before, step.after) if step.changed else ""
        else:
            text = print_graph(step.after) if self.what in ("all", step.subject.name) else None
        if text is not None:
            self._print(run, step, "" if step.changed else "no change", text)

    def pass_skipped(self, run: PipelineRun, step: PassRun) -> None:
        """Say so."""
        self._print(run, step, f"skipped, {step.skip_reason}", "")

    def pass_failed(self, run: PipelineRun, step: PassRun, failure: PassFailure) -> None:
        """Say so; the failure itself shows the rest."""
        self._print(run, step, "FAILED", "")

    def _print(self, run: PipelineRun, step: PassRun, note: str, text: str) -> None:
        header = f"// after pass {step.ordinal} of {len(run.pipeline)}, {step.record.text}"
        stream = self._stream or sys.stderr
        print(visible(f"{header}: {note}" if note else header), file=stream)
        if text:
            print(text.rstrip("\n"), file=stream)
