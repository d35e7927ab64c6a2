"""What :func:`forerun.optimize` gives: a graph that takes the place of the program's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from forerun.runtime.plans.updatable import Update, Way
from forerun.support.diagnostics import InvalidInput

if TYPE_CHECKING:
    from forerun.external.debug import DebugReport
    from forerun.external.decisions import Decider, Rewritten
    from forerun.external.named_parameters import CapturedParameters
    from forerun.external.search import Search
    from forerun.external.torch_capture import CallableCapture
    from forerun.external.trials import Prepare
    from forerun.frontends.captured import ImportedGraph
    from forerun.ir.graph import Graph
    from forerun.ir.types import DType
    from forerun.passes.infra.summary import Summary
    from forerun.runtime.cuda.capture.assembled import MadeCode
    from forerun.runtime.cuda.capture.clone import Clone
    from forerun.runtime.cuda.capture.session import LiveCapture
    from forerun.runtime.parameters import Parameters
    from forerun.support.diagnostics import Diagnostic

__all__ = ["OptimizedCall", "OptimizedGraph"]

_SHOWN = 8
"""Reasons that the text of an optimized graph shows."""


class OptimizedGraph:
    """A graph that takes the place of the program's own: the same buffers, the same results.

    Made by :func:`forerun.optimize`. It keeps the program's graph alive, and with it memory and modules.
    """

    def __init__(self, rewritten: Rewritten, decider: Decider) -> None:
        self._rewritten = rewritten
        self._decider = decider
        self._parameters: tuple[Clone, CapturedParameters] | None = None

    @property
    def imported(self) -> ImportedGraph:
        """The captured graph, and its meaning."""
        return self._rewritten.decision.imported

    @property
    def graph(self) -> Graph:
        """What runs: the graph after the passes."""
        return self._rewritten.decision.graph

    @property
    def summary(self) -> Summary:
        """What the passes did."""
        return self._rewritten.decision.summary

    @property
    def made(self) -> Mapping[str, MadeCode]:
        """The new code, by the kernel's name in :attr:`graph`."""
        return self._rewritten.decision.made

    @property
    def unfit(self) -> Mapping[str, str]:
        """Why new code of kernels was not fit, by their names in the image."""
        return self._rewritten.decision.unfit

    @property
    def search(self) -> Search | None:
        """What was measured; ``None`` if nothing was."""
        return self._rewritten.decision.search

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why kernels keep their code, their full dependencies, or loads behind the wait, by their names."""
        return self._rewritten.decision.reasons

    @property
    def parameters(self) -> Parameters:
        """The parameters that :meth:`name_parameter` gave names: assign to one, and all of its nodes get the value."""
        return self._named()

    def name_parameter(
        self, name: str, dtype: str | DType, *, kernel: str, parameter: int, nodes: Collection[str] | None = None
    ) -> None:
        """Give a scalar of captured kernels a name, by which :attr:`parameters` changes it in all of their nodes.

        The program's own graph keeps its values; :meth:`refresh`, if it takes over a change, takes over these, and the
        names are gone.

        Args:
            name: What it is called from now on.
            dtype: Its type, such as ``f32``. A captured parameter is only bytes.
            kernel: The kernel's name in the image.
            parameter: The number of the parameter.
            nodes: Which nodes are meant, by their names in :attr:`graph`; by default all that launch the kernel, but
                for those in child graphs.

        Raises:
            InvalidInput: If there is no such kernel, parameter or node, the type does not fit, or the nodes have
                different values.
            Unsupported: If it may be a pointer, or the proof rests on its value.
        """
        self._named().declare(name, dtype, kernel=kernel, parameter=parameter, nodes=nodes)

    def _named(self) -> CapturedParameters:
        from forerun.external.named_parameters import CapturedParameters

        clone = self._rewritten.clone
        if self._parameters is None or self._parameters[0] is not clone:
            self._parameters = clone, CapturedParameters(self.imported, clone)
        return self._parameters[1]

    @property
    def folded(self) -> tuple[str, ...]:
        """The copies of :attr:`graph` that replays do not repeat (``optimize(fold_params=True)``)."""
        return tuple(self.imported.names[number] for number in self._rewritten.decision.folded.contents)

    @property
    def folded_contents(self) -> Mapping[int, bytes]:
        """What these copies brought, by the number of the node in :attr:`live`."""
        return self._rewritten.decision.folded.contents

    @property
    def kept_copies(self) -> Mapping[str, str]:
        """Why other small copies from the host stay, by their names; empty if nothing was to be folded."""
        return self._rewritten.decision.folded.kept

    def changed_sources(self) -> tuple[str, ...]:
        """The folded copies whose source does not hold any more what replays use: :meth:`refresh` takes it over.

        Raises:
            CudaError: If the driver fails.
        """
        return tuple(self.imported.names[number] for number in self._changed_sources())

    def _changed_sources(self) -> tuple[int, ...]:
        from forerun.runtime.cuda.capture.host_sources import changed_sources

        live = self.live
        return changed_sources(live.driver, live.graph, self._rewritten.decision.folded.contents)

    def check(self) -> tuple[Diagnostic, ...]:
        """What replays rest on, and is not so any more (warnings), or could change (notes); it takes no GPU time.

        A8: the source of a folded copy, with who may write it. A9: one that changed. A10: the program changed its
        graph. :meth:`refresh` takes over what changed.

        Raises:
            InvalidInput: If it was closed.
            Unsupported: If the program's graph was reset.
            CudaError: If the driver fails.
        """
        from forerun.external.source_advice import advice_of_folds
        from forerun.support.diagnostics import Diagnostic, Location, Severity

        self._require_open()
        found = list(advice_of_folds(self.imported, self._rewritten.decision.folded, self._changed_sources()))
        changes = self.live.changes()
        if changes:
            message = f"the program changed its graph since: {changes}"
            place = Location("graph", self.graph.name)
            found.append(Diagnostic("A10", message, place, "refresh() takes it over", Severity.WARNING))
        return tuple(found)

    def _require_open(self) -> None:
        if self._rewritten.clone.executable is None:
            raise InvalidInput("the graph is closed", hint="optimize the program's graph again")

    def replay(self, stream: Any = None) -> None:
        """Launch it; generators of torch's advance as in torch's own replay.

        Args:
            stream: A stream of torch, CuPy or cuda.core, or a handle; by default torch's current one, or the default
                stream where torch is not loaded.

        Raises:
            InvalidInput: If it was closed, or the program's graph was reset.
            CudaError: If the driver fails.
        """
        self._rewritten.clone.replay(stream)

    def update(self, source: Any = None) -> Update:
        """Make the next replay run another capture of the program, in the cheapest way that is exact.

        The two are compared node by node: function handles and images, never names; launches, attributes, parameters,
        edges and their kinds. What the change could break is proved again. Then what is launched is set at the nodes
        that changed, or the driver updates the whole graph, or it is cloned and instantiated again. Code and edges of
        this graph stay where the change allows it, and so do measured choices where the functions are the same. What
        is refused changes nothing. Replays that were launched before run as they were: keep their graph until then.

        Args:
            source: What :func:`forerun.optimize` takes as a graph; by default the program's own one, as it is now.

        Returns:
            Which way it was, why, and how much was proved again (``proof``). After any but ``reused``,
            :attr:`parameters` has no names any more.

        Raises:
            InvalidInput: If it was closed, or the source is not a graph.
            Refuted: If the other capture has a race.
            Unsupported: If it was reset, or cannot be cloned.
            CudaError: If the driver fails.

        Example::

            update = optimized.update(graph)  # captured again, with another input
            print(update.way, update.reason)  # parameters parameter 1 changed at n3, and 2 nodes more
        """
        from forerun.external.updated import updated

        self._require_open()
        clone = self._rewritten.clone
        named = None if self._parameters is None or self._parameters[0] is not clone else self._parameters[1]
        found, self._rewritten = updated(self._rewritten, source, self._decider, {} if named is None else named.current)
        if found.way is not Way.REUSED:
            self._parameters = None
        return found

    def refresh(self) -> bool:
        """Take over what the program changed in its graph since, as :meth:`update` does.

        Replays do not look for changes, as those of ``torch.cuda.CUDAGraph`` do not: call this where the program
        would instantiate its graph again. Nothing is done if nothing changed. If the changed graph is refused, this one
        is closed, since it is not the program's any more. Sources of folded copies are looked at, too.

        Returns:
            Whether something had changed.

        Raises:
            InvalidInput: If it was closed.
            Refuted: If the changed graph has a race.
            Unsupported: If it was reset, or cannot be cloned.
            CudaError: If the driver fails.
        """
        try:
            return self.update().way is not Way.REUSED
        except BaseException:
            self.close()
            raise

    @property
    def live(self) -> LiveCapture:
        """The program's graph."""
        return self._rewritten.clone.live

    def has_source(self) -> bool:
        """Whether the program's graph is the one that it was made of: it was not reset since."""
        return self._rewritten.clone.has_source()

    def check_on_gpu(self, prepare: Prepare | None = None) -> DebugReport:
        """Test on the GPU what the certificate rests on; see :func:`forerun.external.debug.check_on_gpu`."""
        from forerun.external.debug import check_on_gpu

        return check_on_gpu(self, prepare)

    def close(self) -> None:
        """Give back what it holds. Closing twice is fine."""
        self._rewritten.clone.close()

    def __enter__(self) -> OptimizedGraph:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __str__(self) -> str:
        before, after = (one.count_dependencies() for one in (self.imported.graph, self.graph))
        kinds = ", ".join(f"{after[kind]} {kind} (was {before[kind]})" for kind in after if before[kind] or after[kind])
        head = f"{len(self.graph)} nodes, {len(self.made)} kernels with new code; dependencies: {kinds}"
        reasons = [f"  {remark}" for remark in self.imported.captured.remarks]
        reasons += [f"  {name}: {reason}" for name, reason in self.reasons.items()]
        more = [f"  and {len(reasons) - _SHOWN} more: see .reasons"] if len(reasons) > _SHOWN else []
        return "\n".join([head, *reasons[:_SHOWN], *more])


class OptimizedCall(OptimizedGraph):
    """A callable that was captured, as an optimized graph. It keeps the callable, and with it what that reads.

    Attributes:
        inputs: The arguments that it was captured with. Fill their tensors before a replay.
        named_inputs: Those that have names.
        outputs: What the callable returned when it was captured. Each replay stores into its tensors.
    """

    def __init__(self, optimized: OptimizedGraph, capture: CallableCapture) -> None:
        super().__init__(optimized._rewritten, optimized._decider)
        self.inputs = capture.inputs
        self.named_inputs = capture.named_inputs
        self.outputs = capture.outputs
        self._kept = capture.kept

    def update(self, source: Any = None) -> Update:
        """As :meth:`OptimizedGraph.update`, for its own graph alone: the outputs are those of that.

        Raises:
            InvalidInput: If another graph is given.
        """
        if source is not None:
            hint = "optimize(graph) takes graphs, and updates to others"
            raise InvalidInput("a callable's graph cannot become another one", hint=hint)
        return super().update()

    def __enter__(self) -> OptimizedCall:
        return self
