"""Honesty: what a pass says of its changes is true, and it left the graph that it got alone."""

from __future__ import annotations

from typing import ClassVar

from forerun.ir.fingerprint import content_hash
from forerun.ir.graph import Graph
from forerun.passes.infra.run import PassRun, PipelineRun
from forerun.passes.instrument.base import Instrument
from forerun.support.diagnostics import InternalError

__all__ = ["Honesty"]


class Honesty(Instrument):
    """Compares hashes of the graphs with what the pass claims.

    It fails a pass that changed its input in place (graphs are shared; before and after must both exist), and one that
    counted changes although its graph is the one that it got (a forgotten ``return edit.commit()``, most often). A
    pass that returns a new but equal graph gets a remark: it costs time, and nothing else.
    """

    order: ClassVar[int] = 10
    verifies: ClassVar[bool] = True

    def __init__(self) -> None:
        self._known: tuple[Graph, int] | None = None

    def before_pipeline(self, run: PipelineRun) -> None:
        """Forget an earlier run."""
        self._known = None

    def before_pass(self, run: PipelineRun, step: PassRun) -> None:
        """Take the hash of the input, unless it was taken when it was the output of the pass before."""
        if self._known is None or self._known[0] is not step.before:
            self._known = (step.before, content_hash(step.before))

    def after_pass(self, run: PipelineRun, step: PassRun) -> None:
        """Compare."""
        assert step.after is not None
        assert self._known is not None
        if content_hash(step.before) != self._known[1]:
            hint = "change graphs through graph.edit(), and return edit.commit()"
            raise InternalError("it changed the graph that it got", hint=hint)
        if step.changed:
            self._known = (step.after, content_hash(step.after))
        same = step.after == step.before
        changes = max(step.context.changes, sum(step.context.applications.values()))
        if same and changes:
            counted = "1 change" if changes == 1 else f"{changes} changes"
            hint = "return edit.commit(); use context.observe for what is not a change"
            raise InternalError(f"it counted {counted}, but changed nothing", hint=hint)
        if same and step.changed:
            step.record.remarks.append("it returned a new graph that equals its input; return the input itself")

    def after_pipeline(self, run: PipelineRun) -> None:
        """Let go of the last graph."""
        self._known = None
