"""Stop after a pass: the rest of the pipeline is skipped."""

from __future__ import annotations

from typing import ClassVar

from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.infra.run import PassRun, PipelineRun
from forerun.passes.instrument.base import Instrument
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["StopAfter"]


class StopAfter(Instrument):
    """Skips every pass after one: a name (its first occurrence counts), or an ordinal, from 1; 0 skips all."""

    order: ClassVar[int] = -20

    def __init__(self, which: str | int) -> None:
        self.which = which
        self._last = 0

    def before_pipeline(self, run: PipelineRun) -> None:
        """Find the pass."""
        self._last = _ordinal_of(run.pipeline, self.which)

    def before_pass(self, run: PipelineRun, step: PassRun) -> None:
        """Skip it if it comes later."""
        if step.ordinal > self._last:
            step.skip_reason = f"stopped after pass {self._last}"


def _ordinal_of(pipeline: Pipeline, which: str | int) -> int:
    if isinstance(which, int) or which.isdecimal():
        if 0 <= int(which) <= len(pipeline):
            return int(which)
        raise InvalidInput(f"stop after: no pass {which}", hint=f"the pipeline has {len(pipeline)} passes")
    names = [subject.name for subject in pipeline]
    if which not in names:
        hint = did_you_mean(which, dict.fromkeys(names))
        raise InvalidInput(f"stop after: the pipeline has no pass '{which}'", hint=hint)
    return names.index(which) + 1
