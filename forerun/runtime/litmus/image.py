"""Is the machine code what the test means? The assembler may move accesses, or leave things out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel, Phase, Step, Trigger, Wait
from forerun.ir.nodes import KernelNode
from forerun.runtime.cuda.codegen.specialise import Unit, specialise
from forerun.runtime.toolchain import Instruction, InstructionKind, Progress, Source, compile_units
from forerun.support.diagnostics import Unsupported

__all__ = ["compile_faithful", "require_faithful", "shown_kinds", "steps_as_kinds"]

_SHOWN: tuple[InstructionKind, ...] = ("load", "store", "bulk", "wait", "trigger")
_OF_PHASES: dict[str, InstructionKind] = {
    "draw": "load",
    "load": "load",
    "store": "store",
    "report": "store",
    "copy": "bulk",
    "dormant": "wait",
}


def steps_as_kinds(kernel: Kernel) -> tuple[InstructionKind, ...]:
    """The instructions that a body should become, in order; role by role."""
    return tuple(kind for _, _, step in kernel.steps() for kind in _kinds(step))


def _kinds(step: Step) -> Iterator[InstructionKind]:
    if isinstance(step, Wait):
        yield "wait"
    elif isinstance(step, Trigger):
        yield "trigger"
    elif isinstance(step, Phase) and (verb := step.name.partition("_")[0]) in _OF_PHASES:
        yield _OF_PHASES[verb]


def shown_kinds(instructions: Sequence[Instruction]) -> tuple[InstructionKind, ...]:
    """The instructions that matter, in order."""
    return tuple(instruction.kind for instruction in instructions if instruction.kind in _SHOWN)


def require_faithful(kernel: Kernel, instructions: Sequence[Instruction]) -> None:
    """Check the machine code of a litmus kernel.

    The code of a body of one role without loops must be its steps, one for one. Otherwise it must contain a wait
    and a trigger if, and only if, the body does. No load may be one that the memory model does not order.

    Raises:
        Unsupported: If it is another code.
    """
    wanted, found = steps_as_kinds(kernel), shown_kinds(instructions)
    straight = len(kernel.roles or ()) == 1 and not any(phase.name.startswith("poll") for phase in kernel.phases)
    if not straight:
        marks = ("wait", "trigger")
        wanted, found = (tuple(sorted({k for k in kinds if k in marks})) for kinds in (wanted, found))
    if wanted != found:
        message = f"the assembler made something else of '{kernel.name}': {_listed(found)}, not {_listed(wanted)}"
        raise Unsupported(message, hint="litmus tests say nothing with this version of ptxas")
    if any(instruction.constant for instruction in instructions):
        raise Unsupported(f"the machine code of '{kernel.name}' has loads that nothing orders (ld.global.nc)")


def compile_faithful(graphs: Iterable[Graph], arch: str, progress: Progress | None = None) -> None:
    """Compile the kernels of many tests at once, into the toolchain's cache, and check the machine code of each.

    Raises:
        Unsupported: If the assembler made something else of a body, or there is no compiler.
    """
    kernels: dict[Unit, Kernel] = {}
    for graph in graphs:
        for node in graph:
            if isinstance(node, KernelNode):
                kernels.setdefault(specialise(graph, node), graph.kernels[node.kernel])
    sources = {unit: unit.source for unit in kernels if isinstance(unit.source, Source)}
    cubins = compile_units(list(sources.values()), arch, progress=progress)
    for unit, cubin in zip(sources, cubins, strict=True):
        require_faithful(kernels[unit], cubin.entries[unit.entry].instructions)


def _listed(kinds: Sequence[InstructionKind]) -> str:
    return ", ".join(kinds) or "nothing"
