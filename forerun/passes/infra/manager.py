"""The pass manager: a loop with six hooks."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from forerun.ir.graph import Graph
from forerun.passes.infra.base import Assessor, Pass, PassContext, Strongest
from forerun.passes.infra.failure import PassFailure, failure_of, tell
from forerun.passes.infra.pipeline import Pipeline, PipelineLike
from forerun.passes.infra.summary import PassRecord, Summary
from forerun.passes.instrument import Dump, Instrument, PassRun, PipelineRun, default_instruments
from forerun.support.collection import collection_paused
from forerun.support.diagnostics import InternalError, InvalidInput, Refuted, Unsupported

__all__ = ["PassManager", "PipelineResult"]


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """What a pipeline made of a graph, and how."""

    graph: Graph
    summary: Summary


class PassManager:
    """Runs pipelines. All that is done around a pass, such as dumps and checks, is done by instruments.

    Args:
        pipeline: Pipeline text, passes, or a list of both.
        instruments: What accompanies them; by default, every pass is verified, certified and held to honesty
            (:func:`~forerun.passes.instrument.default_instruments`).
        assessor: Who knows about assembly and time; by default nobody, and passes keep their strongest candidate.
        file: The file that holds the graph, for the command that reruns a failure.

    Raises:
        InvalidInput: If the text is wrong.

    Example:
        >>> from forerun.ir.graph import Graph
        >>> result = PassManager("").run(Graph("nothing"))
        >>> result.graph, result.summary.status
        (<Graph nothing: 0 nodes, 0 dependencies, 0 buffers>, 'ok')
    """

    def __init__(
        self,
        pipeline: PipelineLike,
        instruments: Iterable[Instrument] | None = None,
        *,
        assessor: Assessor | None = None,
        file: str = "INPUT.fir",
    ) -> None:
        self.pipeline = Pipeline.of(pipeline)
        given = default_instruments() if instruments is None else instruments
        self.instruments = tuple(sorted(given, key=lambda instrument: instrument.order))
        self.assessor = assessor or Strongest()
        self.file = file

    def run(self, graph: Graph) -> PipelineResult:
        """Apply the passes, one after the other.

        Raises:
            InvalidInput: If the graph is invalid, or an instrument was asked for what cannot be done.
            PassFailure: If a pass fails.
        """
        if not isinstance(graph, Graph):
            raise InvalidInput(f"a pipeline runs on a Graph, not on a {type(graph).__name__}")
        with collection_paused():
            return self._run(graph)

    def _run(self, graph: Graph) -> PipelineResult:
        summary = Summary(graph.name, str(self.pipeline))
        summary.input_nodes, summary.input_dependencies = len(graph), graph.count_dependencies()
        run = PipelineRun(self.pipeline, graph, summary, file=self.file)
        for instrument in self.instruments:
            instrument.before_pipeline(run)
        try:
            for ordinal, subject in enumerate(self.pipeline, start=1):
                self._run_pass(run, ordinal, subject)
                run.take_time()
        except KeyboardInterrupt:
            run.take_time()
            Dump.note_interruption(run.summary)
            raise
        run.take_time()
        run.summary.status = "ok"
        for instrument in self.instruments:
            instrument.after_pipeline(run)
        return PipelineResult(run.graph, run.summary)

    def _run_pass(self, run: PipelineRun, ordinal: int, subject: Pass) -> None:
        record = PassRecord(ordinal, subject.name, subject.options(), str(subject))
        step = PassRun(ordinal, subject, PassContext(subject, self.assessor), run.graph, record)
        run.summary.passes += (record,)
        self._before(run, step)
        if step.skip_reason:
            self._skip(run, step)
            return
        self._apply(run, step)
        for instrument in self.instruments:
            self._after(instrument, run, step)
        assert step.after is not None
        run.graph = step.after

    def _before(self, run: PipelineRun, step: PassRun) -> None:
        for instrument in self.instruments:
            started = time.perf_counter()
            instrument.before_pass(run, step)
            _charge(instrument, step, started)
            if step.skip_reason:
                return

    def _skip(self, run: PipelineRun, step: PassRun) -> None:
        step.record.verdict = "skipped"
        step.record.remarks.append(step.skip_reason)
        _describe_graph(step.record, step.before)
        for instrument in self.instruments:
            instrument.pass_skipped(run, step)

    def _apply(self, run: PipelineRun, step: PassRun) -> None:
        started = time.perf_counter()
        try:
            returned: object = step.subject.apply(step.before, step.context)
            if not isinstance(returned, Graph):
                hint = "return graph if there is nothing to do" if returned is None else ""
                raise InternalError(f"it returned a {type(returned).__name__}, not a Graph", hint=hint)
            step.after = returned
        except (Exception, SystemExit) as cause:
            _describe_work(step, started)
            raise self._failure(run, step, cause, in_check=False) from cause
        _describe_work(step, started)
        run.summary.warnings += step.context.warnings
        step.record.changed = step.changed
        step.record.verdict = "unchecked" if step.changed else "unchanged"
        _describe_graph(step.record, step.after)

    def _after(self, instrument: Instrument, run: PipelineRun, step: PassRun) -> None:
        started = time.perf_counter()
        try:
            instrument.after_pass(run, step)
        except (Exception, SystemExit) as cause:
            if not instrument.verifies:
                raise
            _charge(instrument, step, started)
            raise self._failure(run, step, cause, in_check=True) from cause
        _charge(instrument, step, started)

    def _failure(
        self, run: PipelineRun, step: PassRun, cause: Exception | SystemExit, *, in_check: bool
    ) -> PassFailure:
        failure = failure_of(run, step, cause, in_check=in_check)
        step.record.verdict = _verdict_of(failure, in_check=in_check)
        if not step.record.findings:
            from forerun.ir.explain.explanation import Explanation

            step.note_findings([Explanation(d) for d in failure.diagnostics], len(failure.diagnostics))
        run.summary.status = "failed"
        run.summary.error = failure.headline
        run.take_time()
        for instrument in self.instruments:
            instrument.pass_failed(run, step, failure)
        failure.message = tell(failure, run, step, cause)
        return failure


def _verdict_of(failure: PassFailure, *, in_check: bool) -> str:
    if failure.exit_status == Refuted.exit_status:
        return "refuted"
    return "unsupported" if in_check and failure.exit_status == Unsupported.exit_status else "failed"


def _charge(instrument: Instrument, step: PassRun, started: float) -> None:
    if instrument.verifies:
        step.record.verification_seconds += time.perf_counter() - started


def _describe_graph(record: PassRecord, graph: Graph) -> None:
    record.nodes = len(graph)
    record.dependencies = graph.count_dependencies()


def _describe_work(step: PassRun, started: float) -> None:
    step.record.seconds = time.perf_counter() - started
    step.record.statistics = dict(step.context.statistics)
    step.record.applications = dict(step.context.applications)
    step.record.tolerance = step.context.tolerance
    step.record.remarks = [f"{d.location}: {d.message}" for d in step.context.remarks]
