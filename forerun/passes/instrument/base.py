"""Instruments: the six hooks of the pass manager."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar, TextIO

from forerun.passes.infra.run import PassRun, PipelineRun

if TYPE_CHECKING:
    from forerun.passes.infra.failure import PassFailure

__all__ = ["Instrument", "Report"]


class Instrument:
    """Callbacks of the pass manager; override those that you need.

    One that verifies finds fault with a pass by raising a :class:`~forerun.support.diagnostics.ForerunError` in
    ``after_pass``: the manager turns it into a :class:`~forerun.passes.infra.failure.PassFailure`, calls
    ``pass_failed`` of all instruments, and raises it. Errors of the other instruments are no fault of the pass, and
    come out as they are.

    Attributes:
        order: Instruments are called in ascending order of it (dumps are first, checks are after them); those of the
            same order, as they were given to the manager.
        verifies: Whether it judges passes; its time counts as verification.
    """

    order: ClassVar[int] = 50
    verifies: ClassVar[bool] = False

    def before_pipeline(self, run: PipelineRun) -> None:
        """Before the first pass. An error that is raised here comes out as it is."""

    def before_pass(self, run: PipelineRun, step: PassRun) -> None:
        """Before a pass. Set ``step.skip_reason`` and the pass, and the instruments after this one, are left out."""

    def after_pass(self, run: PipelineRun, step: PassRun) -> None:
        """After a pass returned a graph, which is ``step.after``."""

    def pass_failed(self, run: PipelineRun, step: PassRun, failure: PassFailure) -> None:
        """After a pass raised an exception, or an instrument found fault with it."""

    def pass_skipped(self, run: PipelineRun, step: PassRun) -> None:
        """In the place of the pass, when an instrument asked to skip it."""

    def after_pipeline(self, run: PipelineRun) -> None:
        """After the last pass. An error that is raised here comes out as it is."""


class Report(Instrument):
    """Prints a text when the pipeline ends, or fails; by default to standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def text(self, run: PipelineRun) -> str:
        """What is printed."""
        raise NotImplementedError

    def after_pipeline(self, run: PipelineRun) -> None:
        """Print it."""
        print(self.text(run), file=self._stream or sys.stderr)

    def pass_failed(self, run: PipelineRun, step: PassRun, failure: PassFailure) -> None:
        """Print it as it is up to the failure."""
        self.after_pipeline(run)
