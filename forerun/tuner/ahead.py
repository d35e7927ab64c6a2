"""Kernels of what is to be tried, compiled ahead: all processors at once, and while nothing is timed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from forerun.ir.graph import Graph
from forerun.runtime.base import Target
from forerun.support.diagnostics import ForerunError

if TYPE_CHECKING:
    from forerun.runtime.cuda import CudaTarget
    from forerun.runtime.toolchain import Source

__all__ = ["Ahead"]


class Ahead:
    """Fills the cache of compiled kernels for a target. Does nothing for targets that compile none."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._begun: set[object] = set()

    def compile(self, graphs: Sequence[Graph]) -> int:
        """Compile the kernels of some graphs that were not asked for before, and wait for all.

        What does not compile is left out: loading the graph will say why.

        Returns:
            How many there were.
        """
        from forerun.runtime.cuda import CudaTarget

        if not isinstance(self._target, CudaTarget):
            return 0
        return self._compile(self._target, graphs)

    def _compile(self, target: CudaTarget, graphs: Sequence[Graph]) -> int:
        from forerun.runtime.cuda.driver.device import open_device, resolve_arch
        from forerun.runtime.cuda.driver.driver import driver
        from forerun.runtime.toolchain import compile_unit, processors

        arch = resolve_arch(open_device(driver(), target.device), target.arch)
        found: list[Source] = []
        for graph in graphs:
            found += (source for source in _sources(target, graph, arch) if source not in self._begun)
            self._begun.update(found)
        if not found:
            return 0

        def build(source: Source) -> None:
            try:
                compile_unit(source, arch)
            except ForerunError:
                return

        with ThreadPoolExecutor(min(processors(), len(found))) as pool:
            list(pool.map(build, found))
        return len(found)


def _sources(target: CudaTarget, graph: Graph, arch: str) -> list[Source]:
    """What :meth:`CudaTarget.load` would compile."""
    from forerun.runtime.cuda.codegen.specialise import units
    from forerun.runtime.toolchain import Source

    try:
        specialised, _ = units(graph, delays=target.delays != 0, timeline=target.timeline)
    except ForerunError:
        return []
    return [unit.source for unit in specialised if isinstance(unit.source, Source)]
