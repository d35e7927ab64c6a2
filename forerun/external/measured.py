"""The fastest choices, measured in the program's own graph and memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from forerun.external.choices import (
    TARGETS,
    TRIGGERS,
    Choice,
    Choices,
    Order,
    chosen_graph,
    functions_of,
    prefetching,
    with_bodies_of,
    with_waits_first,
)
from forerun.external.known_choices import KnownChoices
from forerun.external.search import Candidate, Options, Search, search
from forerun.external.written import written_memory
from forerun.frontends.captured import ImportedGraph
from forerun.ir.graph import Graph
from forerun.ir.kernel import Trigger
from forerun.ir.nodes import KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda.capture.clone import Functions, clone_with, form_of
from forerun.runtime.cuda.capture.code_maker import CodeMaker
from forerun.runtime.cuda.capture.session import LiveCapture
from forerun.runtime.cuda.capture.timing import Timing
from forerun.runtime.cuda.driver.scope import Scope
from forerun.support.diagnostics import InternalError

__all__ = ["STRONGEST", "certified", "make_code_of_choices", "measured"]

_HAZARDS = "infer-dependencies,reduce-edges"
_STRONG = "insert-pdl{trigger=none},hoist-loads{full_edges=false}"
STRONGEST = f"{_HAZARDS},{_STRONG}"
"""The passes that make the strongest graph: choices only add triggers to it, or weaken it."""


class _Family:
    """The family of graphs of all choices, in each order.

    Args:
        imported: The captured graph.
        functions: The function of each kernel node.
    """

    def __init__(self, imported: ImportedGraph, functions: Mapping[str, int]) -> None:
        self.before = imported.graph
        self.functions = functions
        first = with_waits_first(self.before)
        hazards = with_bodies_of(self.before, PassManager(_HAZARDS).run(first).graph)
        self._bases: dict[Order, Graph] = {"captured": first, "hazards": hazards}
        if hazards.dependencies == first.dependencies:
            del self._bases["hazards"]
        self.untouched = dict.fromkeys(functions.values(), Choice("keep"))
        self._strongest: dict[Order, Graph] = {}

    @property
    def launching(self) -> Mapping[int, KernelNode]:
        """A node that launches the function, by the function's number."""
        nodes = [(number, self.before.nodes[name]) for name, number in self.functions.items()]
        return {number: node for number, node in nodes if isinstance(node, KernelNode)}

    @property
    def orders(self) -> tuple[Order, ...]:
        """The orders that differ."""
        return tuple(self._bases)

    def graph(self, order: Order, choices: Choices) -> Graph:
        """Apply choices to the captured graph; returns it unchanged if nothing changes."""
        if order == "captured" and choices == self.untouched:
            return self.before
        base = self._bases[order]
        if order not in self._strongest:
            self._strongest[order] = PassManager(_STRONG).run(base).graph
        return chosen_graph(base, self._strongest[order], self.functions, choices)

    def may_run(self, graph: Graph) -> bool:
        """Whether a graph is proved to refine the captured graph, or is the captured graph itself."""
        return graph == self.before or certify(self.before, graph).proved

    def certified(self, order: Order, choices: Choices) -> Graph:
        """The graph of some choices, certified unless it is the captured graph itself."""
        graph = self.graph(order, choices)
        return graph if graph == self.before else certified(self.before, graph)


class _Clones:
    """Times clones with different choices in the program's memory, which is restored afterwards.

    Code is loaded once, so that equal code has the same address in all clones.
    """

    def __init__(self, captured: LiveCapture, imported: ImportedGraph, maker: CodeMaker, family: _Family) -> None:
        self._captured, self._imported, self._maker, self._family = captured, imported, maker, family
        self._scope = Scope(captured.driver)
        self._functions = Functions(self._scope)
        self._timing = Timing(captured.driver, written_memory(imported))

    def seconds(self, candidates: Sequence[Candidate], turns: int = 3) -> list[float]:
        """Seconds per replay of each, in an interleaved order; infinity for those without suitable code or proof."""
        with ExitStack() as stack:
            executables: dict[int, Any] = {}
            for number, (order, choices) in enumerate(candidates):
                graph = self._family.graph(order, choices)
                code = self._maker.code(graph, prefetching(choices))
                if not code.unfit and self._family.may_run(graph):
                    form = form_of(self._imported.graph, graph, self._imported.names, code.made, {})
                    clone = clone_with(self._captured, form, self._functions)
                    stack.callback(clone.close)
                    executables[number] = clone.executable
            times = self._timing.by_turns(list(executables.values()), turns)
        found = dict(zip(executables, times, strict=True))
        return [found.get(number, float("inf")) for number in range(len(candidates))]

    def __enter__(self) -> _Clones:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = self._scope.release()
        self._timing.__exit__(kind, error, trace)
        if failed is not None and error is None:
            raise failed


def measured(
    captured: LiveCapture,
    imported: ImportedGraph,
    maker: CodeMaker,
    open_: Collection[int],
    limit_s: float,
    kept: Search | None = None,
) -> tuple[Graph, Search]:
    """Find the certified graph of the fastest choices, and the search that found it.

    Args:
        captured: The captured graph.
        imported: The captured graph as a graph of forerun.
        maker: Makes code for its kernels.
        open_: The functions whose code can be replaced.
        limit_s: Approximate time limit of the search in seconds.
        kept: A search for another capture of the same functions; its result, or else that of the cache, is used if
            there is suitable code for it.

    Raises:
        InternalError: If the chosen graph is not certified.
    """
    functions = functions_of(captured.graph, imported.names)
    opened = Counter(number for number in functions.values() if number in open_)
    family, known = _Family(imported, functions), KnownChoices.of(captured.graph)
    for before in (kept, known.read(opened)):
        if before is not None and before.order in family.orders and before.choices.keys() >= opened.keys():
            graph = family.graph(before.order, before.choices)
            if not maker.code(graph, prefetching(before.choices)).unfit and family.may_run(graph):
                return graph, before
    options = _options(maker, opened, family)
    with _Clones(captured, imported, maker, family) as clones:
        found = search(opened, options, clones.seconds, family.orders, limit_s=limit_s, untouched=family.untouched)
    known.write(found)
    return family.certified(found.order, found.choices), found


def make_code_of_choices(captured: LiveCapture, imported: ImportedGraph) -> None:
    """Make the code of all choices of a captured graph, and store it in the user's cache folder."""
    functions = functions_of(captured.graph, imported.names)
    opened = {number for number in functions.values() if captured.graph.functions[number].text}
    _options(CodeMaker(captured, imported.graph, imported.names), opened, _Family(imported, functions))


def certified(before: Graph, graph: Graph) -> Graph:
    """Certify a graph that was assembled from certified rewrites, and return it.

    Raises:
        InternalError: If it is not certified.
    """
    verdict = certify(before, graph)
    if not verdict.proved:
        raise InternalError(f"a choice among certified rewrites is not certified: {verdict.findings[:1]}")
    return graph


def _options(maker: CodeMaker, functions: Collection[int], family: _Family) -> Options:
    """The choices of each function for which there is suitable code.

    For a function with its own trigger, ``after-wait`` would change nothing, so it is left out.
    """
    every = [Choice(target, trigger) for target in TARGETS for trigger in TRIGGERS]
    kernels = {number: family.before.kernels[node.kernel] for number, node in family.launching.items()}
    own = {number for number, kernel in kernels.items() if kernel.has(Trigger)}
    uniform = [dict.fromkeys(functions, one) for one in every]
    graphs = [[(family.graph(order, one), prefetching(one)) for order in family.orders] for one in uniform]
    maker.prepare(graph for found in graphs for graph in found)
    unfit = [{number for graph in found for number in maker.code(*graph).unfit} for found in graphs]
    return {
        number: [
            choice
            for choice, without in zip(every, unfit, strict=True)
            if number not in without and not (number in own and choice.trigger == "after-wait")
        ]
        for number in functions
    }
