"""The CUDA target: graphs as executable CUDA graphs on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from forerun.ir.buffer import ALLOCATION_ALIGNMENT
from forerun.ir.demands import require_vouched
from forerun.ir.graph import Graph
from forerun.runtime.cuda.driver.device import open_device, release_of, require_runnable, resolve_arch
from forerun.runtime.cuda.driver.driver import driver
from forerun.runtime.cuda.driver.errors import BAD_IMAGE, CudaError
from forerun.support.diagnostics import InternalError, InvalidInput
from forerun.support.option_text import format_item
from forerun.support.options import check_values, non_default_texts, option

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from forerun.runtime.constants import ConstantMemory
    from forerun.runtime.cuda.program import CudaProgram

__all__ = ["CudaTarget"]

Progress: TypeAlias = Callable[[int, int], None]
"""Takes bytes on their way, and bytes in all."""

# What compiles and loads is imported where it is used: a target is made, and printed, without it.


@dataclass(frozen=True)
class CudaTarget:
    """Runs graphs on an NVIDIA GPU.

    Args:
        device: The GPU's number among those that this process sees.
        arch: What to compile for; empty for the device's own architecture.
        delays: 0 for none. Another number seeds pseudo-random delays in all kernels, other ones at every replay, which
            bring orders of events to light that are rare otherwise. For tests of programs that claim to have no races.
        timeline: Let every CTA note when it starts, waits, triggers and ends, for :meth:`CudaProgram.timeline`. That
            costs a little time.
        prove: Read the machine code back, and compare the order of its loads, waits and triggers with what the passes
            chose (docs/sass-proof.md). What is slower than meant becomes a remark; what would be a race is refused.
        splits: How a graph with work for the host is launched: as one graph with host nodes (``graph``), or one that
            waits for words that the host writes (``signals``); split by split, with host and device in parallel
            (``plans``), or one after another (``synchronous``); or in each of these ways in turn, and then in the
            fastest (``measured``).
        progress: Called with how many bytes of the weights are on their way to the device, and how many there are.

    Raises:
        InvalidInput: If an option is wrong.

    Example:
        >>> str(CudaTarget(delays=7))
        'cuda{delays=7}'
    """

    name: ClassVar[str] = "cuda"
    constant_alignment: ClassVar[int] = ALLOCATION_ALIGNMENT

    device: int = option(0, help="the GPU's number")
    arch: str = option("", help="what to compile for, such as sm_90; empty for the device's own")
    delays: int = option(0, help="seed of pseudo-random delays in all kernels; 0 for none")
    timeline: bool = option(False, help="note when each CTA starts, waits, triggers and ends")
    prove: bool = option(True, help="read the machine code back: hoisted loads must still be ahead of the wait")
    splits: Literal["graph", "signals", "plans", "synchronous", "measured"] = option(
        "graph", help="how graphs with work for the host are launched"
    )
    progress: Progress | None = field(default=None, init=False, repr=False, compare=False)

    def __init__(
        self,
        device: int = 0,
        arch: str = "",
        delays: int = 0,
        progress: Progress | None = None,
        *,
        timeline: bool = False,
        prove: bool = True,
        splits: Literal["graph", "signals", "plans", "synchronous", "measured"] = "graph",
    ) -> None:
        given: dict[str, Any] = {"device": device, "arch": arch, "delays": delays, "timeline": timeline, "prove": prove}
        given |= {"splits": splits, "progress": progress}
        for key, value in given.items():
            object.__setattr__(self, key, value)
        check_values(self, "target 'cuda'")
        if delays < 0:
            raise InvalidInput(f"target 'cuda': option 'delays' cannot be {delays}", hint="0 for none, or a seed")

    def load(
        self, graph: Graph, weights: Mapping[str, ArrayLike], memory: Mapping[str, Any] | None = None
    ) -> CudaProgram:
        """Compile a graph's kernels, and make it an executable CUDA graph.

        Args:
            graph: A valid graph.
            weights: A value for every weight, by name. Arrays on the device are used in place.
            memory: Arrays of the caller's, by the names of inputs, outputs and state that are to live there.

        Raises:
            InvalidInput: If the graph is not valid, a weight or array does not fit, or nobody vouches for code that
                the graph asks for.
            Unsupported: If there is no GPU, its driver or architecture is too old, or CUDA cannot run some node.
            CompileError: If a kernel does not compile.
            InternalError: If the machine code breaks an order that the absence of races rests on.
            CudaError: If the driver fails.
        """
        return self._load(graph, weights, memory, streamed=False)

    def can_stream(self, graph: Graph) -> bool:
        """Whether :meth:`load_streamed` takes a graph."""
        from forerun.runtime.cuda.streamed import can_stream

        return can_stream(graph)

    def load_streamed(
        self, graph: Graph, weights: Mapping[str, ArrayLike], memory: Mapping[str, Any] | None = None
    ) -> CudaProgram:
        """Load a graph without making a CUDA graph of it: its nodes are launched one by one. For graphs that run once.

        Raises what :meth:`load` raises.
        """
        return self._load(graph, weights, memory, streamed=True)

    def constant_memory(self) -> ConstantMemory:
        """Memory on the device for constants that programs have in common.

        Raises:
            Unsupported: If there is no GPU.
            CudaError: If the driver fails.
        """
        from forerun.runtime.cuda.memory.constants import DeviceConstants

        current = driver()
        return DeviceConstants(current, open_device(current, self.device))

    def _load(
        self, graph: Graph, weights: Mapping[str, ArrayLike], memory: Mapping[str, Any] | None, *, streamed: bool
    ) -> CudaProgram:
        from forerun.ir.verify import require_valid
        from forerun.runtime.cuda.codegen.build import build_code
        from forerun.runtime.cuda.loading import check_memory, load_graph
        from forerun.runtime.cuda.program import CudaProgram
        from forerun.runtime.cuda.sass.inspection import inspect_code

        require_valid(graph)
        require_vouched(graph, functions=False)
        check_memory(graph, memory or {})
        current = driver()
        device = open_device(current, self.device)
        arch = resolve_arch(device, self.arch)
        require_runnable(graph, device)

        def load(*, fresh: bool) -> CudaProgram:
            code = build_code(graph, arch, delays=self.delays != 0, timeline=self.timeline, fresh=fresh)
            multiprocessors = current.attribute(device.handle, "MULTIPROCESSOR_COUNT")
            inspection = inspect_code(graph, code, arch, multiprocessors) if self.prove else None
            given = current, device, graph, code, weights, memory or {}, self.delays, self.progress, self.splits
            loaded = load_graph(*given, streamed=streamed)
            return CudaProgram(graph, loaded, inspection)

        try:
            return load(fresh=False)
        except (CudaError, InternalError) as error:
            # An image of the cache may be whole and yet wrong, which the driver or the proof notices: then all are made
            # again, once.
            if isinstance(error, CudaError) and error.code not in BAD_IMAGE:
                raise
        return load(fresh=True)

    def identity(self) -> tuple[str, str]:
        """The GPU's name, and the CUDA release of its driver.

        Raises:
            Unsupported: If there is no GPU.
        """
        return open_device(driver(), self.device).name, release_of(driver())

    def multiprocessors(self) -> int:
        """How many streaming multiprocessors the GPU has."""
        return driver().attribute(open_device(driver(), self.device).handle, "MULTIPROCESSOR_COUNT")

    def assess(self, candidates: Sequence[Graph]) -> tuple[int, str]:
        """The first of some graphs that survives the assembler, and why not an earlier one; needs no GPU.

        Raises:
            Unsupported: If no architecture was asked for, and there is no GPU to ask.
        """
        from forerun.runtime.cuda.sass.inspection import assess

        return assess(candidates, self.arch or resolve_arch(open_device(driver(), self.device), ""))

    def precompile(self, graphs: Sequence[Graph]) -> int:
        """Compile the kernels of some graphs into the cache, all processors at once; what fails is left out."""
        from forerun.runtime.cuda.codegen.build import compile_ahead

        arch = resolve_arch(open_device(driver(), self.device), self.arch)
        return compile_ahead(graphs, arch, delays=self.delays != 0, timeline=self.timeline)

    def without_proof(self) -> CudaTarget:
        """The same target, which does not read the machine code back."""
        return replace(self, prove=False)

    def __str__(self) -> str:
        return format_item(self.name, non_default_texts(self))
