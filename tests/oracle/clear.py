"""Whether what a kernel computes depends on nothing but what it reads: no two of its own phases race."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from forerun.ir.buffer import Buffer, Paged
from forerun.ir.kernel import Barrier, Kernel, Phase
from forerun.ir.nodes import BufferArgument, KernelNode, ScalarLoad

__all__ = ["is_clear"]


def is_clear(kernel: Kernel, node: KernelNode, buffers: Mapping[str, Buffer]) -> bool:
    """Whether each two phases that share memory are in order, whatever the copy engine and the roles do."""
    placed = []
    for number, role in enumerate(kernel.roles or ()):
        epoch = 0
        for at, step in enumerate(role.steps):
            if isinstance(step, Barrier):
                epoch += 1
            elif isinstance(step, Phase):
                placed.append((number, at, epoch, step))
    for first, second in combinations(placed, 2):
        if first[2] > second[2] or (first[0] == second[0] and first[1] > second[1]):
            first, second = second, first
        in_order = (first[0] == second[0] and first[1] < second[1]) or first[2] < second[2]
        reads, writes = _touched(first[3], node, buffers)
        later = _touched(second[3], node, buffers)
        read_first = _meet(reads, later[1])
        if not in_order:
            if read_first or _meet(writes, later[0]) or _meet(writes, later[1]):
                return False
        elif first[3].asynchronous and not first[3].writes:
            taken = any(
                set(other[3].uses) & set(first[3].defines) and other[0] == second[0] and other[1] <= second[1]
                for other in placed
            )
            if read_first and not taken:
                return False
    return True


def _touched(phase: Phase, node: KernelNode, buffers: Mapping[str, Buffer]) -> tuple[set[str], set[str]]:
    found = []
    for accesses in (phase.reads, phase.writes):
        names = set[str]()
        for access in accesses:
            argument = node.argument(access.parameter)
            if isinstance(argument, BufferArgument):
                names.add(argument.buffer)
        found.append(names)
    symbols = {s for access in (*phase.reads, *phase.writes) for s in access.region.symbols}
    for scalar in {*phase.scalars, *symbols}:
        argument = node.argument(scalar)
        if isinstance(argument, ScalarLoad):
            found[0].add(argument.buffer)
    for name in (*found[0], *found[1]):
        index = buffers[name].index
        if index is not None:
            found[0] = found[0] | {index.table if isinstance(index, Paged) else index.offsets}
    return tuple(frozenset((buffers[n].allocation, buffers[n].offset, buffers[n].stop) for n in s) for s in found)


def _meet(first: frozenset[tuple[str, int, int]], second: frozenset[tuple[str, int, int]]) -> bool:
    return any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a in first for b in second)
