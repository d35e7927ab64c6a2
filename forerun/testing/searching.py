"""The search for a graph for which a pass breaks a property, and for the smallest such graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from hypothesis.errors import Flaky, Unsatisfiable

from forerun.ir.graph import Graph
from forerun.ir.trust import Trusted, trusting
from forerun.passes.infra.pipeline import Pipeline
from forerun.runtime.base import Target
from forerun.support.diagnostics import InvalidInput
from forerun.testing.counterexample import Counterexample
from forerun.testing.graph_strategy import graphs
from forerun.testing.properties import PROPERTIES, Application, Property
from forerun.testing.subject import Subject, pipeline_of

__all__ = ["SearchResult", "search"]

_PREPARATION = "infer-dependencies,insert-pdl"
"""What makes graphs of the kind that passes late in a pipeline get."""


@dataclass
class SearchResult:
    """What a search came to.

    Attributes:
        examples: How many graphs were tried before a counterexample was found.
        fired: How many of them the passes changed.
        shrinks: How many graphs were tried to find a smaller counterexample.
        counterexample: The smallest one found.
        seconds: How long it took.
    """

    examples: int = 0
    fired: int = 0
    shrinks: int = 0
    counterexample: Counterexample | None = None
    seconds: float = 0.0


def search(
    subject: Subject,
    strategy: st.SearchStrategy[Graph] | None = None,
    *,
    properties: Collection[str] = tuple(PROPERTIES),
    examples: int = 100,
    seed: int | None = None,
    shrinks: int = 2000,
    targets: Collection[Target] = (),
    on_progress: Callable[[SearchResult], None] | None = None,
    trust: Trusted | Collection[Trusted] = (),
) -> SearchResult:
    """Look for a graph for which passes break a property.

    Args:
        subject: The passes.
        strategy: Graphs; by default :func:`graphs` aimed at the passes, some of them after ``insert-pdl``.
        properties: Names of those that are tried.
        examples: How many graphs are tried.
        seed: Equal seeds find the same; ``None`` leaves it to Hypothesis's profile.
        shrinks: How many smaller graphs are tried, at most, once a counterexample is found.
        targets: Where graphs run, besides the reference target.
        on_progress: Called after each graph.
        trust: Modules whose functions the graphs may name, as for :func:`forerun.compile`. For the oracles alone, open
            a block: ``with forerun.trusting("my_module"):``.

    Raises:
        InvalidInput: If the passes are text that is wrong, or the strategy gives no graphs.

    Example:
        >>> search("reduce-edges", examples=10, seed=0).counterexample is None
        True
    """
    pipeline = pipeline_of(subject)
    chosen = [PROPERTIES[name] for name in properties]
    hunt = _Hunt(pipeline, chosen, shrinks, on_progress or (lambda result: None), targets)
    started = time.perf_counter()
    if strategy is None:
        strategy = graphs(aimed_at=pipeline) | graphs(aimed_at=pipeline, after=_PREPARATION)
    run = _hypothesis_test(hunt, strategy, examples, seed)
    try:
        with trusting(trust):
            run()
    except (Counterexample, Flaky, _EnoughError):
        hunt.result.counterexample = hunt.smallest
    except Unsatisfiable as error:
        raise InvalidInput(f"the strategy gives no graphs: {error}") from error
    hunt.result.seconds = time.perf_counter() - started
    return hunt.result


class _EnoughError(BaseException):
    """Ends the shrinking. Not an ``Exception``: Hypothesis takes those for findings."""


@dataclass
class _Hunt:
    """A search while it goes on."""

    pipeline: Pipeline
    properties: list[Property]
    shrinks: int
    on_progress: Callable[[SearchResult], None]
    targets: Collection[Target]
    result: SearchResult = field(default_factory=SearchResult)
    smallest: Counterexample | None = None

    def try_out(self, graph: Graph) -> None:
        """Try the properties on one graph.

        Raises:
            Counterexample: If one does not hold.
        """
        if self.smallest is not None and self.result.shrinks >= self.shrinks:
            raise _EnoughError
        application = Application.of(self.pipeline, graph, self.targets)
        self.count(application)
        found = self.broken(application)
        if found is not None:
            # From now on only this property counts, so that what is found stays what is shrunk.
            self.properties = [PROPERTIES[found.property]]
            self.smallest = found
            raise found

    def count(self, application: Application) -> None:
        """Account for one graph."""
        if self.smallest is None:
            self.result.examples += 1
            self.result.fired += application.fired
        else:
            self.result.shrinks += 1
        self.on_progress(self.result)

    def broken(self, application: Application) -> Counterexample | None:
        """The first property that does not hold."""
        for present in self.properties:
            try:
                present.check(application)
            except Counterexample as found:
                return found
        return None


def _hypothesis_test(
    hunt: _Hunt, strategy: st.SearchStrategy[Graph], examples: int, seed: int | None
) -> Callable[[], Any]:
    chosen: dict[str, Any] = {} if seed is None else {"derandomize": False}

    @settings(
        max_examples=examples,
        phases=[Phase.generate, Phase.shrink],
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        print_blob=False,
        **chosen,
    )
    @given(strategy)
    def run(graph: Graph) -> None:
        hunt.try_out(graph)

    test: Callable[[], Any] = run if seed is None else with_seed(seed)(run)
    return test
