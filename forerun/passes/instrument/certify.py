"""Certify each: what a pass returns is proved to mean the same as what it got."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from forerun.ir.diagnostics import Refuted
from forerun.ir.graph import Graph
from forerun.ir.semantics import Verdict, check
from forerun.ir.semantics.certificate import RULES, certify
from forerun.ir.semantics.witness import drain_witness, witness
from forerun.passes.instrument.base import Instrument, PassRun, PipelineRun

__all__ = ["Certifier", "Certify"]

Certifier = Callable[[Graph, Graph], Verdict]
"""Judges a rewrite: the graph before, and the graph after."""

_SHOWN_REMARKS = 8


class Certify(Instrument):
    """Refuses rewrites that are refuted, and records those that are unsupported.

    A pass answers for what it breaks: one that gets a graph with a race is not blamed for passing it on, as
    ``infer-dependencies`` may repair it. The last pass answers for the result.

    Args:
        certifier: Who judges a rewrite; by default :func:`forerun.ir.semantics.certificate.certify`, strictly.
    """

    order: ClassVar[int] = 30
    verifies: ClassVar[bool] = True

    def __init__(self, certifier: Certifier = certify) -> None:
        self.certifier = certifier

    def before_pipeline(self, run: PipelineRun) -> None:
        """Judge the input; a refuted one is an error only if no pass will run."""
        verdict = check(run.graph)
        run.summary.input_verdict = verdict.status
        if verdict.status == "refuted" and not len(run.pipeline):
            raise Refuted(f"graph '{run.graph.name}' is refuted", verdict.findings)

    def after_pass(self, run: PipelineRun, step: PassRun) -> None:
        """Judge what the pass did, and after the last one the result."""
        assert step.after is not None
        proved = step.changed and self._judge_rewrite(step, step.after)
        if step.ordinal < len(run.pipeline) or proved:
            return
        result = check(step.after)
        if result.status == "refuted":
            hint = "the graph was refuted before this pass; certify its input"
            raise _with_witness(
                Refuted("the graph that it returned is refuted", result.findings, hint=hint), result, step
            )

    def _judge_rewrite(self, step: PassRun, after: Graph) -> bool:
        verdict = self.certifier(step.before, after)
        step.record.verdict = verdict.status
        if verdict.status == "refuted":
            changed_meaning = any(finding.code in RULES for finding in verdict.findings)
            what = "does not mean the same" if changed_meaning else "is refuted"
            raise _with_witness(Refuted(f"the graph that it returned {what}", verdict.findings), verdict, step)
        if verdict.status == "unsupported":
            step.record.remarks += [str(finding) for finding in verdict.findings[:_SHOWN_REMARKS]]
            if len(verdict.findings) > _SHOWN_REMARKS:
                step.record.remarks.append(f"... and {len(verdict.findings) - _SHOWN_REMARKS} more findings")
        return verdict.proved


def _with_witness(error: Refuted, verdict: Verdict, step: PassRun) -> Refuted:
    """The error with a schedule that shows the first race, or the first node that outlives the graph."""
    assert step.after is not None
    if verdict.races:
        error.add_note(f"witness: {witness(step.after, verdict.races[0])}")
    elif verdict.undrained and verdict.undrained[0] in step.after.nodes:
        error.add_note(f"witness: {drain_witness(step.after, verdict.undrained[0])}")
    return error
