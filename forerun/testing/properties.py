"""The properties that every pass must have; the pytest plugin and ``forerun fuzz`` try them on random graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from forerun.ir.graph import Graph
from forerun.ir.semantics import check
from forerun.ir.text import diff_graphs
from forerun.passes.infra.failure import PassFailure
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.instrument import Honesty
from forerun.runtime.base import Target
from forerun.testing.counterexample import Counterexample
from forerun.testing.oracles import assert_refines, assert_roundtrip, assert_same_outputs, assert_valid
from forerun.testing.subject import applied, is_idempotent

__all__ = ["PROPERTIES", "Application", "Property", "assert_properties"]


_SEEDS = range(4)
"""One adversarial schedule of each strategy; many graphs are worth more than many schedules."""


@dataclass(frozen=True)
class Application:
    """Passes, the graph that they got, what they made of it (a graph, or an error), and targets to run on too."""

    pipeline: Pipeline
    before: Graph
    after: Graph | None
    error: Exception | SystemExit | None = None
    targets: tuple[Target, ...] = ()

    @classmethod
    def of(cls, pipeline: Pipeline, graph: Graph, targets: Iterable[Target] = ()) -> Application:
        """Apply the passes."""
        try:
            return cls(pipeline, graph, applied(pipeline, graph), targets=tuple(targets))
        except (Exception, SystemExit) as error:  # whatever a pass raises
            return cls(pipeline, graph, None, error)

    @property
    def fired(self) -> bool:
        """Whether the passes changed something, or tried to."""
        return self.after is None or self.after != self.before


@dataclass(frozen=True)
class Property:
    """Something that must hold for every application of a pass.

    ``demand`` raises :class:`Counterexample` if an application, which made a graph, breaks it.
    """

    name: str
    summary: str
    demand: Callable[[Application, Graph], None]

    def check(self, application: Application) -> None:
        """Raise if the property does not hold. Passes that raise break ``valid``, and nothing else.

        Raises:
            Counterexample: If it does not hold.
        """
        if application.after is not None:
            self.demand(application, application.after)
        elif self.name == "valid":
            error = application.error
            finding = f"{application.pipeline} raised {type(error).__name__}: {error}"
            raise Counterexample("valid", finding, application.before) from error


def assert_properties(pipeline: Pipeline, graph: Graph, names: Mapping[str, Property] | None = None) -> None:
    """Assert all properties, or some, of passes on one graph.

    Raises:
        Counterexample: For the first that does not hold.
    """
    application = Application.of(pipeline, graph)
    for present in (PROPERTIES if names is None else names).values():
        present.check(application)


def _valid(application: Application, after: Graph) -> None:
    assert_valid(after, application.before)


def _honest(application: Application, after: Graph) -> None:
    pipeline, before = application.pipeline, application.before
    try:
        again = PassManager(pipeline, [Honesty()]).run(before).graph
    except PassFailure as failure:
        raise Counterexample("honest", failure.headline, before, after, details=failure.message) from failure
    if again != after:
        raise Counterexample("honest", "applied twice to the same graph, it gives different graphs", after, again)


def _refines(application: Application, after: Graph) -> None:
    before = application.before
    assert_refines(before, after, allow_unsupported=check(before).status == "unsupported")


def _same_outputs(application: Application, after: Graph) -> None:
    assert_valid(after, application.before)
    assert_same_outputs(application.before, after, seeds=_SEEDS, targets=application.targets)


def _idempotent(application: Application, after: Graph) -> None:
    pipeline = application.pipeline
    if not is_idempotent(pipeline):
        return
    again = Application.of(pipeline, after)
    if again.after != after:
        finding = f"a second application of {pipeline} changes the graph again"
        details = f"it raised {again.error!r}" if again.after is None else diff_graphs(after, again.after)
        raise Counterexample("idempotent", finding, application.before, after, details=details)


def _roundtrip(application: Application, after: Graph) -> None:
    assert_roundtrip(after)


_ALL = (
    Property("valid", "it raises nothing, and returns a valid graph", _valid),
    Property("honest", "it leaves its input alone, counts what it changes, and does the same each time", _honest),
    Property("refines", "what it returns provably means the same", _refines),
    Property("same-outputs", "what it returns computes the same, under any schedule", _same_outputs),
    Property("roundtrip", "what it returns is the same after printing and reading it", _roundtrip),
    Property("idempotent", "a second application changes nothing", _idempotent),
)

PROPERTIES: Mapping[str, Property] = MappingProxyType({present.name: present for present in _ALL})
"""All properties by name, in the order in which they are tried."""
