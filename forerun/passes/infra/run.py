"""A run of a pipeline, and the application of one pass in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forerun.ir import text
from forerun.ir.graph import Graph
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.infra.summary import PassRecord, Summary

if TYPE_CHECKING:
    from forerun.ir.explain.explanation import Explanation

__all__ = ["PassRun", "PipelineRun", "findings_as_data"]

_KEPT_FINDINGS = 20


def findings_as_data(found: Sequence[Explanation], graph: Graph | None) -> list[dict[str, Any]]:
    """The first 20 findings as the summary has them; with the places in the text of a graph, if it is given."""
    source = None if graph is None else text.locate(graph)
    return [each.to_json(source) for each in found[:_KEPT_FINDINGS]]


@dataclass
class PassRun:
    """One application of a pass, from its first hook to its last.

    Attributes:
        ordinal: Its place in the pipeline, from 1.
        after: The graph that it returned; ``None`` until then, and if it raised.
        record: Becomes part of the summary. Instruments may set its verdict, files and remarks.
        skip_reason: An instrument's ``before_pass`` sets it so that the pass does not run.
    """

    ordinal: int
    subject: Pass
    context: PassContext
    before: Graph
    record: PassRecord
    after: Graph | None = None
    skip_reason: str = ""

    @property
    def changed(self) -> bool:
        """Whether the pass returned another graph."""
        return self.after is not None and self.after is not self.before

    def note_findings(self, found: Sequence[Explanation], count: int) -> None:
        """Put findings on the graph that the pass returned, and how many there are, into the record."""
        self.record.findings = findings_as_data(found, self.after)
        self.record.finding_count = count


@dataclass
class PipelineRun:
    """One run of a pipeline.

    Attributes:
        graph: The graph as of now.
        summary: What becomes of the run; its records are those of the passes reached so far.
        graph_files: The dumped file with the graph after the pass of that ordinal; 0 is the input.
        reproducer: The file that reproduces a failure alone, once it is written.
        started: When it began, in seconds of ``time.perf_counter``.
        file: The file that holds the graph that came in, for commands.
    """

    pipeline: Pipeline
    graph: Graph
    summary: Summary
    graph_files: dict[int, Path] = field(default_factory=dict)
    reproducer: Path | None = None
    started: float = field(default_factory=time.perf_counter)
    file: str = "INPUT.fir"

    def take_time(self) -> None:
        """Put the time since the start into the summary."""
        self.summary.seconds = time.perf_counter() - self.started

    def number(self, ordinal: int) -> str:
        """An ordinal as names of files have it, padded so that they sort."""
        return str(ordinal).zfill(max(2, len(str(len(self.pipeline)))))

    def file_before(self, ordinal: int) -> Path | None:
        """The dumped file that holds the graph which the pass of that ordinal gets."""
        earlier = [number for number in self.graph_files if number < ordinal]
        return self.graph_files[max(earlier)] if earlier else None
