"""Bisect: which pass, and which single change that it made, turns a good graph into a bad one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from forerun.ir.graph import Graph
from forerun.passes.infra.base import Assessor, Pass, PassContext, Strongest
from forerun.passes.infra.pipeline import Pipeline
from forerun.support.diagnostics import InvalidInput

__all__ = ["BisectResult", "bisect"]

Oracle = Callable[[Graph], bool]
"""Whether a graph is good. It should say the same each time it is asked."""


@dataclass(frozen=True)
class BisectResult:
    """Where a graph turns bad.

    Attributes:
        ordinal: The place of the pass in the pipeline, from 1.
        application: Which of its changes does it, from 1; ``None`` if the pass does not ask before each change.
        applications: How many changes it makes when it is not stopped.
        before: The last good graph: without that change, or without the pass.
        after: The bad graph.
        tests: How often the oracle was asked.
    """

    ordinal: int
    total: int
    subject: Pass
    application: int | None
    applications: int
    before: Graph
    after: Graph
    tests: int

    def __str__(self) -> str:
        culprit = f"pass {self.ordinal} of {self.total}, {self.subject}"
        if self.application is not None:
            culprit += f", change {self.application} of {self.applications}"
        return f"{culprit}, turns a good graph into a bad one ({self.tests} tests)"


def bisect(
    graph: Graph, pipeline: Pipeline | str, is_good: Oracle, *, assessor: Assessor | None = None
) -> BisectResult | None:
    """Find the first bad pass by binary search, then the first bad change of it, if it asks before each change.

    Passes run without verification, so that the oracle alone decides (such as ``lambda graph: check(graph).status !=
    "refuted"``); what a pass raises comes out as it is.

    Returns:
        The culprit, or ``None`` if the graph that the pipeline makes is good.

    Raises:
        InvalidInput: If ``graph`` is not good, or the pipeline's text is wrong.
    """
    pipeline = Pipeline.parse(pipeline) if isinstance(pipeline, str) else pipeline
    search = _Search(is_good, assessor or Strongest())
    versions = search.versions(graph, pipeline)
    if not search.ask(graph):
        raise InvalidInput("the oracle says that the graph is bad before the first pass", hint="bisect a good graph")
    if len(versions) == 1 or search.ask(versions[-1][1]):
        return None
    found = search.first_bad(len(versions) - 1, lambda index: versions[index][1])
    before, (ordinal, after) = versions[found - 1][1], versions[found]
    subject = pipeline.passes[ordinal - 1]
    application, applications, before, after = search.change(subject, before, after)
    return BisectResult(ordinal, len(pipeline), subject, application, applications, before, after, search.tests)


class _Search:
    def __init__(self, is_good: Oracle, assessor: Assessor) -> None:
        self.is_good = is_good
        self.assessor = assessor
        self.tests = 0

    def ask(self, graph: Graph) -> bool:
        self.tests += 1
        return self.is_good(graph)

    def versions(self, graph: Graph, pipeline: Pipeline) -> list[tuple[int, Graph]]:
        """The input as pass 0, and each pass that changed something with its graph."""
        versions = [(0, graph)]
        for ordinal, subject in enumerate(pipeline, start=1):
            result = subject.apply(versions[-1][1], PassContext(subject, self.assessor))
            if result is not versions[-1][1]:
                versions.append((ordinal, result))
        return versions

    def first_bad(self, bad: int, version: Callable[[int], Graph]) -> int:
        """A bad index whose predecessor is good, given that 0 is good and ``bad`` is bad."""
        good = 0
        while bad - good > 1:
            middle = (good + bad) // 2
            if self.ask(version(middle)):
                good = middle
            else:
                bad = middle
        return bad

    def change(self, subject: Pass, before: Graph, after: Graph) -> tuple[int | None, int, Graph, Graph]:
        """The number of the bad change, the number of all changes, and the graphs around it."""

        def limited(limit: int | None) -> tuple[Graph, int]:
            context = PassContext(subject, self.assessor, limit)
            return subject.apply(before, context), sum(context.applications.values())

        applications = limited(None)[1]
        start = limited(0)[0] if applications else before
        if not applications or (start is not before and not self.ask(start)):
            return None, applications, before, after
        found = self.first_bad(applications, lambda limit: limited(limit)[0])
        return found, applications, limited(found - 1)[0], limited(found)[0]
