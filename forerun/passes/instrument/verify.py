"""Verify each: the structure of the graph before the first pass and after every pass that changed it."""

from __future__ import annotations

from typing import ClassVar

from forerun.ir.verify import require_valid, verify
from forerun.passes.infra.run import PassRun, PipelineRun
from forerun.passes.instrument.base import Instrument
from forerun.support.diagnostics import InternalError, Severity

__all__ = ["Verify"]


class Verify(Instrument):
    """Checks every invariant of :mod:`forerun.ir.verify`."""

    order: ClassVar[int] = 20
    verifies: ClassVar[bool] = True

    def before_pipeline(self, run: PipelineRun) -> None:
        """Reject an invalid input before a pass can be blamed for it."""
        require_valid(run.graph)
        run.summary.input_verdict = "verified"

    def after_pass(self, run: PipelineRun, step: PassRun) -> None:
        """Find fault with a pass that returned an invalid graph."""
        if not step.changed or step.after is None:
            return
        errors = tuple(d for d in verify(step.after) if d.severity is Severity.ERROR)
        if errors:
            raise InternalError("it returned an invalid graph", errors)
        step.record.verdict = "verified"
