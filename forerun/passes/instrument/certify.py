"""Certify each: what a pass returns is proved to mean the same as what it got."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from forerun.ir.explain.explanation import explain
from forerun.ir.graph import Graph
from forerun.ir.refinement.certificate import RULES, certify
from forerun.ir.semantics import Verdict, check
from forerun.passes.infra.run import PassRun, PipelineRun, findings_as_data
from forerun.passes.instrument.base import Instrument
from forerun.passes.instrument.dump import Dump
from forerun.support.diagnostics import ForerunError, Refuted, Unsupported

__all__ = ["Certifier", "Certify"]

Certifier = Callable[[Graph, Graph], Verdict]
"""Judges a rewrite: the graph before, and the graph after."""

_SHOWN_REMARKS = 8
_EXPLAINED = 4
"""How many findings get a schedule and repairs; each repair that is tried checks the whole graph again."""
_LOST = "the graph that it got was proved, and it cannot be shown that the one that it returned means the same"
_KEEP_OR_ACCEPT = (
    "keep to what a certificate understands (docs/writing-a-pass.md, 'What a certificate needs'); "
    "or accept the loss: instruments=default_instruments(allow_unsupported=True), or forerun opt --no-verify"
)


class Certify(Instrument):
    """Refuses rewrites that are refuted, and those that lose a proof.

    A pass answers for what it breaks: one that gets a graph with a race is not blamed for passing it on, as
    ``infer-dependencies`` may repair it. The last pass answers for the result. A rewrite that can be neither proved nor
    refuted is refused if the graph was proved before, since what follows would rest on nothing; if it was not, because
    of a black box for instance, there is nothing to lose, and what is not known is remarked.

    Args:
        certifier: Who judges a rewrite; by default :func:`forerun.ir.refinement.certificate.certify`, strictly.
        allow_unsupported: Whether a pass may lose a proof. What is not known is remarked.
    """

    order: ClassVar[int] = 30
    verifies: ClassVar[bool] = True

    def __init__(self, certifier: Certifier = certify, *, allow_unsupported: bool = False) -> None:
        self.certifier = certifier
        self.allow_unsupported = allow_unsupported

    def before_pipeline(self, run: PipelineRun) -> None:
        """Judge the input; a refuted one is an error only if no pass will run."""
        verdict = check(run.graph)
        run.summary.input_verdict = verdict.status
        if verdict.status == "refuted" and not len(run.pipeline):
            error, summary = Refuted(f"graph '{run.graph.name}' is refuted", verdict.findings), run.summary
            found = explain(run.graph, verdict, limit=_EXPLAINED)
            summary.input_findings, summary.input_finding_count = findings_as_data(found, run.graph), verdict.count
            summary.status, summary.error = "failed", error.message
            Dump.rewrite_summary(summary)
            raise error

    def after_pass(self, run: PipelineRun, step: PassRun) -> None:
        """Judge what the pass did, and after the last one the result."""
        assert step.after is not None
        proved = step.changed and self._judge_rewrite(step, step.after)
        if step.ordinal < len(run.pipeline) or proved:
            return
        result = check(step.after)
        if result.status == "refuted":
            hint = "the graph was refuted before this pass; certify its input"
            raise _explained(Refuted("the graph that it returned is refuted", result.findings, hint), result, step)

    def _judge_rewrite(self, step: PassRun, after: Graph) -> bool:
        verdict = self.certifier(step.before, after)
        step.record.verdict = verdict.status
        if verdict.status == "refuted":
            changed_meaning = any(finding.code in RULES for finding in verdict.findings)
            what = "does not mean the same" if changed_meaning else "is refuted"
            raise _explained(Refuted(f"the graph that it returned {what}", verdict.findings), verdict, step)
        if verdict.status == "unsupported":
            if not self.allow_unsupported and check(step.before).proved:
                raise _explained(Unsupported(_LOST, verdict.findings, _KEEP_OR_ACCEPT), verdict, step)
            step.record.remarks += [str(finding) for finding in verdict.findings[:_SHOWN_REMARKS]]
            if verdict.count > _SHOWN_REMARKS:
                step.record.remarks.append(f"... and {verdict.count - _SHOWN_REMARKS} more findings")
        return verdict.proved


def _explained(error: ForerunError, verdict: Verdict, step: PassRun) -> ForerunError:
    """The error, with a schedule and repairs for the first race, or undrained node; the record has more of them."""
    assert step.after is not None
    bare = len(verdict.findings) - len(verdict.races) - len(verdict.outliving)
    found = explain(step.after, verdict, limit=bare + _EXPLAINED)
    step.note_findings(found, verdict.count)
    if len(found) > bare:
        error.add_note("witness: " + "\n".join(line[2:] for line in found[bare].lines()))
    return error
