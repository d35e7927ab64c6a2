"""Certify each: what the graph means is still proved after every pass that changed it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from forerun.ir.diagnostics import Refuted
from forerun.ir.graph import Graph
from forerun.ir.semantics import Verdict, check
from forerun.passes.instrument.base import Instrument, PassRun, PipelineRun

__all__ = ["Certifier", "Certify", "is_race_free"]

Certifier = Callable[[Graph, Graph], Verdict]
"""Judges a rewrite: the graph before, and the graph after."""


def is_race_free(before: Graph, after: Graph) -> Verdict:
    """The certifier of step 1: the graph after has no race."""
    return check(after)


class Certify(Instrument):
    """Refuses rewrites that are refuted, and records those that are unsupported.

    A pass answers for what it breaks: one that gets a graph with a race is not blamed for passing it on, as
    ``infer-dependencies`` may repair it. The last pass answers for the result.

    Args:
        certifier: Who judges a rewrite.
    """

    order: ClassVar[int] = 30
    verifies: ClassVar[bool] = True

    def __init__(self, certifier: Certifier = is_race_free) -> None:
        self.certifier = certifier
        self._present = "unchecked"

    def before_pipeline(self, run: PipelineRun) -> None:
        """Judge the input; a refuted one is an error only if no pass will run."""
        verdict = check(run.graph)
        self._present = run.summary.input_verdict = verdict.status
        if verdict.status == "refuted" and not len(run.pipeline):
            raise Refuted(f"graph '{run.graph.name}' is refuted", verdict.findings)

    def after_pass(self, run: PipelineRun, step: PassRun) -> None:
        """Judge what the pass did."""
        assert step.after is not None
        is_last = step.ordinal == len(run.pipeline)
        if not step.changed and not (is_last and self._present == "refuted"):
            return
        verdict = self.certifier(step.before, step.after)
        earlier, self._present = self._present, verdict.status
        step.record.verdict = verdict.status
        if verdict.status == "unsupported":
            step.record.remarks += [str(finding) for finding in verdict.findings]
        if verdict.status == "refuted" and (is_last or earlier != "refuted"):
            inherited = earlier == "refuted"
            hint = "the graph was refuted before this pass; certify its input" if inherited else ""
            raise Refuted("the graph that it returned is refuted", verdict.findings, hint=hint)
