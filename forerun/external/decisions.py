"""What becomes of a captured graph: decided by passes or by measuring, proved, and proved again after a change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from forerun.external.folded_copies import FoldedCopies, folded_copies
from forerun.frontends.captured import ImportedGraph, import_capture
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter
from forerun.ir.nodes import ConstantArgument, KernelNode
from forerun.runtime.plans.updatable import HOW
from forerun.support.diagnostics import Refuted

if TYPE_CHECKING:
    from forerun.external.search import Search
    from forerun.passes.infra.pipeline import PipelineLike
    from forerun.passes.infra.summary import Summary
    from forerun.runtime.cuda.capture.assembled import MadeCode
    from forerun.runtime.cuda.capture.clone import Clone, CloneForm
    from forerun.runtime.cuda.capture.code_maker import CodeMaker
    from forerun.runtime.cuda.capture.random_numbers import GeneratorAdvance
    from forerun.runtime.cuda.capture.session import LiveCapture
    from forerun.runtime.plans.difference import Difference

__all__ = ["Decider", "Decision", "Rewritten"]

_LEAST_POINTER = 8
_NOTHING, _SCALARS, _, _FULL = HOW


@dataclass(frozen=True)
class Decision:
    """A captured graph, and what becomes of it; see :class:`forerun.external.optimized.OptimizedGraph`."""

    imported: ImportedGraph
    graph: Graph
    summary: Summary
    made: Mapping[str, MadeCode]
    unfit: Mapping[str, str]
    search: Search | None
    folded: FoldedCopies
    generators: tuple[GeneratorAdvance, ...] = ()

    @cached_property
    def reasons(self) -> Mapping[str, str]:
        """What holds it back; see :func:`forerun.external.reasons.reasons_of`."""
        from forerun.external.reasons import reasons_of

        return reasons_of(self.imported, self.graph, self.made, self.unfit)

    @property
    def form(self) -> CloneForm:
        """How its clone differs from the captured graph."""
        from forerun.runtime.cuda.capture.clone import form_of

        return form_of(self.imported.graph, self.graph, self.imported.names, self.made, self.folded.contents)

    def clone(self, captured: LiveCapture) -> Clone:
        """The clone.

        Raises:
            InvalidInput: If the program's graph was reset.
            Unsupported: If it has nodes that no clone may have.
            CudaError: If the driver fails.
        """
        from forerun.runtime.cuda.capture.clone import clone_with

        clone = clone_with(captured, self.form)
        clone.generators = self.generators
        return clone


@dataclass(frozen=True)
class Rewritten:
    """What became of a captured graph, and what runs."""

    decision: Decision
    clone: Clone


@dataclass(frozen=True)
class Decider:
    """Decides what becomes of captured graphs, as the options of :func:`forerun.optimize` say."""

    pipeline: PipelineLike | None
    dump: str | Path | None
    limit_s: float
    fold_params: bool

    def decide(self, captured: LiveCapture, before: Decision | None = None) -> Decision:
        """The captured graph after the passes, with its new code.

        Args:
            captured: The captured graph.
            before: What was decided for another capture, whose measured choices are kept where they can be.
        """
        from forerun.external.choices import prefetching, with_waits_first
        from forerun.external.measured import STRONGEST, measured

        fixed: dict[int, str] = {}
        while True:
            found = _rewritten(captured, STRONGEST if self.pipeline is None else self.pipeline, self.dump, fixed)
            code = found.maker.code(found.graph)
            unfit = dict(code.unfit)
            if self.pipeline is None:  # the least of what is measured
                unfit |= found.maker.code(with_waits_first(found.imported.graph)).unfit
            if not unfit:
                break
            # Kernels whose new code is not fit keep theirs; what that means for edges is proved once more. It ends,
            # since each round adds functions.
            fixed.update(unfit)
        generators = _generators(captured, found.imported)
        made, search = found.graph, None
        if self.pipeline is None:
            open_ = {n for n, one in enumerate(captured.graph.functions) if one.text and n not in fixed}
            kept = _kept_search(captured, before)
            made, search = measured(captured, found.imported, found.maker, open_, self.limit_s, kept)
            code = found.maker.code(made, prefetching(search.choices))
        folded = self._folded(captured, found.imported)
        reasons = {captured.graph.functions[number].name: reason for number, reason in fixed.items()}
        return Decision(found.imported, made, found.summary, code.made, reasons, search, folded, generators)

    def decide_again(
        self, before: Decision, old: LiveCapture, captured: LiveCapture, difference: Difference
    ) -> tuple[Decision, str]:
        """What becomes of another capture, and how much of it had to be proved again.

        What passes decide, and what is proved, follows from what the graph was imported as. That is the same but for
        their values where small scalars differ on which it does not rest which bytes a kernel accesses.
        """
        if old.graph.memory != captured.graph.memory or difference.structure:
            return self.decide(captured, before), _FULL
        imported, graph, how = before.imported, before.graph, _NOTHING
        if difference.nodes:
            values = _scalars(before.imported, captured, difference)
            if values is None:
                return self.decide(captured, before), _FULL
            imported = replace(imported, graph=_with_values(imported.graph, values))
            graph, how = _with_values(graph, values), _SCALARS
        imported = replace(imported, captured=captured.graph)
        folded = self._folded(captured, imported)
        generators = _generators(captured, imported)
        return replace(before, imported=imported, graph=graph, folded=folded, generators=generators), how

    def _folded(self, captured: LiveCapture, imported: ImportedGraph) -> FoldedCopies:
        return folded_copies(imported, captured.host_sources) if self.fold_params else FoldedCopies()


def _kept_search(captured: LiveCapture, before: Decision | None) -> Search | None:
    """What was measured for a capture of the same functions."""
    if before is None or before.search is None:
        return None
    old, new = (
        [(one.name, one.image, one.text) for one in graph.functions]
        for graph in (before.imported.captured, captured.graph)
    )
    return before.search if old == new else None


_Values = Mapping[str, Mapping[str, ConstantArgument]]
"""The constants of nodes, by the names of the nodes and of the parameters."""


def _scalars(imported: ImportedGraph, captured: LiveCapture, difference: Difference) -> _Values | None:
    """The new constants of the nodes, if nothing else of the imported graph can have changed."""
    found: dict[str, dict[str, ConstantArgument]] = {}
    for change in difference.nodes:
        if change.is_inner:
            return None
        old, new = (graph.nodes[change.position].parameters for graph in (imported.captured, captured.graph))
        node, weighed = imported.graph.nodes[change.path], imported.weighed.get(change.path, frozenset())
        names = [name for name, _ in node.arguments] if isinstance(node, KernelNode) else []
        parameters = imported.graph.kernels[node.kernel].parameters if isinstance(node, KernelNode) else ()
        for number in _numbers(change.aspects):
            if number is None or number in weighed or len(old[number]) >= _LEAST_POINTER:
                return None
            if any(old[number]) != any(new[number]):
                return None  # whether a parameter is zero counts: null pointers
            value = ConstantArgument(int.from_bytes(new[number], "little"))
            name = f"p{number}"
            if name in names and not isinstance(parameters[names.index(name)], BufferParameter):
                found.setdefault(change.path, {})[name] = value
    return found


def _numbers(aspects: Collection[str]) -> list[int | None]:
    """The numbers of the parameters that changed; ``None`` for whatever else did."""
    return [int(one.split()[1]) if one.startswith("parameter ") else None for one in aspects]


def _with_values(graph: Graph, values: _Values) -> Graph:
    """The graph with other constants."""
    edit = graph.edit()
    for name, new in values.items():
        node = graph.nodes[name]
        assert isinstance(node, KernelNode)
        edit.replace_node(replace(node, arguments=tuple((key, new.get(key, value)) for key, value in node.arguments)))
    return edit.commit()


@dataclass(frozen=True)
class _Round:
    imported: ImportedGraph
    graph: Graph
    summary: Summary
    maker: CodeMaker


def _rewritten(
    captured: LiveCapture, pipeline: PipelineLike, dump: str | Path | None, fixed: Mapping[int, str]
) -> _Round:
    from forerun.external.choices import with_bodies_of
    from forerun.external.measured import certified
    from forerun.ir.semantics import check
    from forerun.passes.infra.manager import PassManager
    from forerun.passes.instrument import default_instruments
    from forerun.report import reporting
    from forerun.runtime.cuda.capture.code_maker import CodeMaker

    imported = import_capture(captured.graph, fixed=fixed)
    # A pass that finds an order of its own would repair a race, and the result would not be the program's.
    verdict = check(imported.graph)
    if verdict.status == "refuted":
        raise Refuted("the captured graph is refuted", verdict.findings)
    with reporting(dump):
        result = PassManager(pipeline, default_instruments(dump)).run(imported.graph)
    maker = CodeMaker(captured, imported.graph, imported.names)
    graph = with_bodies_of(imported.graph, result.graph)
    if graph is not result.graph:
        certified(imported.graph, graph)
    return _Round(imported, graph, result.summary, maker)


def _generators(captured: LiveCapture, imported: ImportedGraph) -> tuple[GeneratorAdvance, ...]:
    """What a replay does with torch's generators."""
    from forerun.external.written import written_memory
    from forerun.runtime.cuda.capture.clone import make_clone
    from forerun.runtime.cuda.capture.random_numbers import may_draw, random_numbers
    from forerun.runtime.cuda.capture.saved_memory import SavedMemory

    if not may_draw(captured):
        return ()
    plain = make_clone(captured, imported.graph, imported.graph, imported.names, {})
    try:
        with SavedMemory(captured.driver, written_memory(imported)) as memory:
            return random_numbers(captured, memory, plain.executable)
    finally:
        plain.close()
