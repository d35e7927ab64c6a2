"""Litmus tests on a GPU: through the ``cuda`` target, as any other graph."""

from __future__ import annotations

from collections.abc import Sequence

from forerun.ir.graph import Graph
from forerun.runtime.base import Target
from forerun.runtime.cuda.driver.device import open_device, resolve_arch
from forerun.runtime.cuda.driver.driver import driver
from forerun.runtime.litmus.image import compile_faithful
from forerun.runtime.litmus.measurement import LitmusProgram
from forerun.runtime.toolchain import Progress

__all__ = ["GpuRunner"]


class GpuRunner:
    """Runs tests on a GPU.

    Raises:
        Unsupported: If there is no GPU that can run them.
    """

    def __init__(self, device: int = 0) -> None:
        from forerun.runtime.cuda.target import CudaTarget

        self._target = CudaTarget(device=device)
        self._arch = resolve_arch(open_device(driver(), device), "")

    def prepare(self, graphs: Sequence[Graph], progress: Progress | None = None) -> None:
        """Compile all kernels at once, and look at their machine code.

        Raises:
            Unsupported: If the assembler made something else of a test, or there is no compiler.
        """
        compile_faithful(graphs, self._arch, progress)

    def open(self, graph: Graph) -> LitmusProgram:
        """Load a graph."""
        return _GpuProgram(graph, self._target)


class _GpuProgram:
    def __init__(self, graph: Graph, target: Target) -> None:
        program = target.load(graph, {})
        self.run, self.read, self.close = program.run, program.read, program.close

    def settle(self) -> None:
        """A graph that is not drained is complete for its stream while some of its nodes still run."""
        driver().call("cuCtxSynchronize")
