"""What fits on a multiprocessor together: whether a programmatic dependent can start beside its source at all.

A dependent overlaps with its source only if one of its CTAs finds registers, shared memory and threads on a
multiprocessor while CTAs of the source still hold theirs (docs/pdl.md, rule 12). And where a kernel is launched with
one CTA a multiprocessor, two of them should not fit on one: the scheduler may put both there, and leave another
multiprocessor without any. It cannot while a kernel before it holds so much of each that only one fits beside.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Literal

from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode, Launch
from forerun.ir.types import DependencyKind
from forerun.ir.walk import all_bodies
from forerun.runtime.toolchain import EntryFacts
from forerun.support.diagnostics import Diagnostic, Location, Severity

__all__ = ["LIMITS", "EdgeOccupancy", "Footprint", "KernelOccupancy", "Limits", "Occupancy", "footprint", "occupancy"]

_WARP = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """What one multiprocessor has, by the CUDA C++ Programming Guide, "Compute Capabilities".

    Attributes:
        registers: Of 32 bits.
        register_unit: They are given to a warp in multiples of that.
        shared_bytes: Shared memory with the largest carve-out.
        reserved_bytes: What the system takes of it for each CTA.
        shared_unit: It is given in multiples of that.
        threads: Resident threads.
        ctas: Resident CTAs.
    """

    registers: int = 65536
    register_unit: int = 256
    shared_bytes: int = 228 * 1024
    reserved_bytes: int = 1024
    shared_unit: int = 128
    threads: int = 2048
    ctas: int = 32


LIMITS: Mapping[str, Limits] = {
    "sm_90": Limits(),
    "sm_90a": Limits(),
    "sm_100": Limits(),
    "sm_100a": Limits(),
    "sm_120": Limits(shared_bytes=100 * 1024, threads=1536, ctas=24),
}
"""The architectures that have programmatic dependencies and are known."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What CTAs hold while they are resident.

    Attributes:
        registers: All of them.
        shared_bytes: Dynamic, static and reserved.
        threads: In whole warps.
        ctas: How many CTAs it is about.
    """

    registers: int
    shared_bytes: int
    threads: int
    ctas: int = 1

    def times(self, count: int) -> Footprint:
        """The footprint of that many such CTAs."""
        return Footprint(*(held * count for held in astuple(self)))

    def beside(self, other: Footprint) -> Footprint:
        """That of both."""
        return Footprint(*map(operator.add, astuple(self), astuple(other)))

    def shortage(self, limits: Limits) -> str:
        """What one multiprocessor has too little of, in words; empty if it all fits."""
        for what, needed, there in (
            ("registers", self.registers, limits.registers),
            ("bytes of shared memory", self.shared_bytes, limits.shared_bytes),
            ("threads", self.threads, limits.threads),
            ("CTAs", self.ctas, limits.ctas),
        ):
            if needed > there:
                return f"{needed:,} {what} of {there:,}"
        return ""


def footprint(launch: Launch, facts: EntryFacts, limits: Limits | None = None) -> Footprint:
    """What one CTA holds.

    Example:
        >>> footprint(Launch(block=(256, 1, 1), shared_bytes=98304), EntryFacts(registers=120))
        Footprint(registers=30720, shared_bytes=99328, threads=256, ctas=1)
    """
    limits = limits or LIMITS["sm_90"]
    warps = -(-math.prod(launch.block) // _WARP)
    of_warp = _up(facts.registers * _WARP, limits.register_unit)
    shared = _up(launch.shared_bytes + facts.shared_bytes + limits.reserved_bytes, limits.shared_unit)
    return Footprint(of_warp * warps, shared, warps * _WARP)


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


@dataclass(frozen=True, slots=True)
class KernelOccupancy:
    """How many CTAs of a node's kernel a multiprocessor takes.

    Attributes:
        node: The node's path.
        footprint: Of one CTA.
        fit: How many CTAs fit on a multiprocessor.
        resident: How many of the grid's are there if they are spread evenly.
        doubles: Whether the grid is one CTA a multiprocessor, and yet two fit on one that has nothing else.
        everywhere: Whether every multiprocessor has some if they are spread evenly.
    """

    node: str
    footprint: Footprint
    fit: int
    resident: int
    doubles: bool
    everywhere: bool


@dataclass(frozen=True, slots=True)
class EdgeOccupancy:
    """Whether the target of a programmatic dependency can start beside its source.

    Attributes:
        source: The source's path.
        target: The target's path.
        overlap: ``whole``: a CTA fits beside all of the source's on a multiprocessor; ``tail``: only after some of
            these have left; ``none``: not even beside one.
        reason: What there is too little of.
        apart: Whether beside all of the source's CTAs, which are on every multiprocessor, two of the target's do not
            fit.
    """

    source: str
    target: str
    overlap: Literal["whole", "tail", "none"]
    reason: str = ""
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What fits together in a graph."""

    kernels: Mapping[str, KernelOccupancy]
    edges: tuple[EdgeOccupancy, ...]

    def remarks(self) -> tuple[Diagnostic, ...]:
        """Edges that cannot overlap, and kernels that may double up: one remark for each kind of kernel."""
        found: dict[object, list[Diagnostic]] = {}
        for kind, remark in [*self._of_edges(), *self._of_kernels()]:
            found.setdefault(kind, []).append(remark)
        return tuple(_with_count(*same) for same in found.values())

    def _of_edges(self) -> Iterator[tuple[object, Diagnostic]]:
        for edge in self.edges:
            if edge.overlap == "none":
                words = f"cannot overlap: a CTA of the target does not fit beside one of the source ({edge.reason})"
                location = Location("dependency", f"{edge.source} -> {edge.target}")
                hint = "smaller launches, or less shared memory, let neighbours be resident together"
                kind = "edge", self.kernels[edge.source].footprint, self.kernels[edge.target].footprint
                yield kind, Diagnostic("R1", words, location, hint, Severity.WARNING)

    def _of_kernels(self) -> Iterator[tuple[object, Diagnostic]]:
        apart = {edge.target for edge in self.edges if edge.apart}
        for kernel in self.kernels.values():
            if kernel.doubles and kernel.node not in apart:
                words = f"one CTA a multiprocessor is launched, but {kernel.fit} fit on one and may double up"
                location = Location("node", kernel.node)
                hint = "pad its shared memory, or that of the kernel before it, so that two do not fit"
                yield ("kernel", kernel.footprint), Diagnostic("R2", words, location, hint, Severity.NOTE)


def _with_count(remark: Diagnostic, *others: Diagnostic) -> Diagnostic:
    return replace(remark, message=f"{remark.message}; so do {len(others)} more like it") if others else remark


def occupancy(
    graph: Graph, facts: Mapping[str, EntryFacts], arch: str = "sm_90", multiprocessors: int = 132
) -> Occupancy | None:
    """What fits together, for all kernel nodes and programmatic dependencies of a graph and its bodies.

    Facts are by the nodes' paths; nodes without are left out. The default is the multiprocessors of an H100.

    Returns:
        ``None`` if the architecture is not known.
    """
    limits = LIMITS.get(arch)
    if limits is None:
        return None
    kernels: dict[str, KernelOccupancy] = {}
    edges: list[EdgeOccupancy] = []
    for prefix, body in all_bodies(graph):
        for node in body:
            path = prefix + node.name
            if isinstance(node, KernelNode) and path in facts:
                kernels[path] = _of_kernel(path, node.launch, facts[path], limits, multiprocessors)
        for dependency in body.dependencies:
            source, target = (kernels.get(prefix + name) for name in dependency.pair)
            if dependency.kind is DependencyKind.PROGRAMMATIC and source is not None and target is not None:
                edges.append(_of_edge(source, target, limits))
    return Occupancy(kernels, tuple(edges))


def _of_kernel(path: str, launch: Launch, facts: EntryFacts, limits: Limits, multiprocessors: int) -> KernelOccupancy:
    held = footprint(launch, facts, limits)
    fit = 0
    while fit < limits.ctas and not held.times(fit + 1).shortage(limits):
        fit += 1
    grid = math.prod(launch.grid)
    resident = max(1, min(fit, -(-grid // multiprocessors)))
    # A cluster's CTAs are placed together, by rules that are not known.
    one_each = multiprocessors // 2 < grid <= multiprocessors and launch.cluster is None
    return KernelOccupancy(path, held, fit, resident, one_each and fit > 1, grid >= multiprocessors)


def _of_edge(source: KernelOccupancy, target: KernelOccupancy, limits: Limits) -> EdgeOccupancy:
    held = source.footprint.times(source.resident)
    reason = held.beside(target.footprint).shortage(limits)
    apart = source.everywhere and bool(held.beside(target.footprint.times(2)).shortage(limits))
    if not reason:
        return EdgeOccupancy(source.node, target.node, "whole", apart=apart)
    alone = source.footprint.beside(target.footprint).shortage(limits)
    return EdgeOccupancy(source.node, target.node, "none" if alone else "tail", alone or reason, apart)
