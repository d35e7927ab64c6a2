"""From a graph's kernels to images: specialise and compile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from forerun.ir.graph import Graph
from forerun.ir.nodes import ConditionalNode, KernelNode, MemcpyNode, is_host_work
from forerun.ir.types import BufferRole
from forerun.ir.walk import all_nodes, kernel_nodes
from forerun.runtime.cuda.codegen.condition import CONDITION_ENTRY, CONDITION_SOURCE
from forerun.runtime.cuda.codegen.hand_over import HAND_OVER_ENTRY, HAND_OVER_SOURCE
from forerun.runtime.cuda.codegen.saved_state import SAVE_ENTRY, SAVE_SOURCE
from forerun.runtime.cuda.codegen.specialise import units as units_of
from forerun.runtime.cuda.codegen.stamp import STAMP_ENTRY, STAMP_SOURCE
from forerun.runtime.cuda.codegen.unit import ForeignModule, Unit
from forerun.runtime.toolchain import Cubin, EntryFacts, Source, compile_unit, compile_units, processors
from forerun.support.diagnostics import ForerunError

__all__ = ["Code", "build_code", "compile_ahead"]

_CONDITION = Source(f"{CONDITION_ENTRY}.cu", CONDITION_SOURCE)
_SAVE = Source(f"{SAVE_ENTRY}.cu", SAVE_SOURCE)
_STAMP = Source(f"{STAMP_ENTRY}.cu", STAMP_SOURCE)
_HAND_OVER = Source(f"{HAND_OVER_ENTRY}.cu", HAND_OVER_SOURCE)


@dataclass(frozen=True)
class Code:
    """What the nodes of a graph run, compiled; nothing of it is on a device yet.

    Attributes:
        units: The specialisations.
        images: An image for each of them.
        unit_of: Which one each kernel node launches, by its path: ``outer/inner`` for a node in a body.
        kernel_of: The name of a kernel that became each unit, for messages.
        condition: The image of the kernel that sets conditions; ``None`` if there are none.
        facts: What is known of the compiled entries, by name; a number is added to names that several units share.
        entries: The same for each unit; ``None`` for modules that are given.
        save: The image of the kernel that copies the state that a replay writes; ``None`` if no host function can raise
            in one, or there is no state.
        stamp: The image of the kernel that notes the time before and after copies; ``None`` if nobody asked for times,
            or nothing but kernels has any.
        hand_over: The image of the kernel that hands over to the host; ``None`` if no kernel of the host runs, or
            functions of the caller's are called.
    """

    units: Sequence[Unit]
    images: Sequence[bytes]
    unit_of: Mapping[str, int]
    kernel_of: Sequence[str]
    condition: bytes | None
    facts: Mapping[str, EntryFacts]
    entries: Sequence[EntryFacts | None] = ()
    save: bytes | None = None
    stamp: bytes | None = None
    hand_over: bytes | None = None


def build_code(
    graph: Graph,
    arch: str,
    *,
    delays: bool = False,
    timeline: bool = False,
    progress: Callable[[int, int], object] | None = None,
    fresh: bool = False,
) -> Code:
    """Compile all kernels of a graph. Needs no GPU.

    Delays and timeline are as for :func:`~forerun.runtime.cuda.codegen.specialise.specialise`; ``progress`` is told how
    many units are compiled, and how many there are; ``fresh`` compiles them even if the cache has them.

    Raises:
        Unsupported: If a kernel has no code, or there is no toolchain.
        CompileError: If the compiler refuses it.
    """
    units, unit_of = units_of(graph, delays=delays, timeline=timeline)
    sources = [unit.source for unit in units if isinstance(unit.source, Source)]
    own = [source for source, is_needed in _own_kernels(graph, timeline) if is_needed]
    cubins = compile_units([*sources, *own], arch, progress=progress, fresh=fresh)
    images = {source: cubins.pop().code for source in reversed(own)}
    compiled = iter(cubins)
    made = [next(compiled) if isinstance(unit.source, Source) else unit.source for unit in units]
    has_entry = (isinstance(m, ForeignModule) or unit.entry in m.entries for m, unit in zip(made, units, strict=True))
    if not fresh and not all(has_entry):  # of another unit, in spite of its key
        return build_code(graph, arch, delays=delays, timeline=timeline, progress=progress, fresh=True)
    kernels = _kernel_names(graph, unit_of, len(units))
    both = zip(units, made, strict=True)
    entries = [item.entries[unit.entry] if isinstance(item, Cubin) else None for unit, item in both]
    images_of_units = [_image(item) for item in made]
    condition, save, stamp, hand_over = (images.get(source) for source in (_CONDITION, _SAVE, _STAMP, _HAND_OVER))
    return Code(
        units, images_of_units, unit_of, kernels, condition, _facts(units, made), entries, save, stamp, hand_over
    )


def compile_ahead(graphs: Sequence[Graph], arch: str, *, delays: bool = False, timeline: bool = False) -> int:
    """Fill the cache with what :func:`build_code` would compile for some graphs, all processors at once.

    What does not compile is left out. Returns how many units there were.
    """
    found: dict[Source, None] = {}
    for graph in graphs:
        try:
            units, _ = units_of(graph, delays=delays, timeline=timeline)
        except ForerunError:
            continue
        found.update((unit.source, None) for unit in units if isinstance(unit.source, Source))
    if found:
        with ThreadPoolExecutor(min(processors(), len(found))) as pool:
            list(pool.map(lambda source: _try_to_compile(source, arch), found))
    return len(found)


def _try_to_compile(source: Source, arch: str) -> None:
    with suppress(ForerunError):
        compile_unit(source, arch)


def _image(made: Cubin | ForeignModule) -> bytes:
    # PTX is text that ends in a zero.
    return made.code + b"\0" if isinstance(made, ForeignModule) and made.language == "ptx" else made.code


def _facts(units: Sequence[Unit], made: Sequence[Cubin | ForeignModule]) -> dict[str, EntryFacts]:
    facts: dict[str, EntryFacts] = {}
    for unit, item in zip(units, made, strict=True):
        if isinstance(item, Cubin):
            name, number = unit.entry, 1
            while name in facts:
                number += 1
                name = f"{unit.entry}#{number}"
            facts[name] = item.entries[unit.entry]
    return facts


def _own_kernels(graph: Graph, timeline: bool) -> list[tuple[Source, bool]]:
    """Forerun's own kernels, and whether a graph needs them."""
    return [
        (_CONDITION, _has_condition(graph)),
        (_SAVE, _has_state_and_host(graph)),
        (_STAMP, timeline and _has_other_work(graph)),
        (_HAND_OVER, _may_hand_over(graph)),
    ]


def _has_other_work(graph: Graph) -> bool:
    """Whether a graph has copies, or work for the host."""
    return any(isinstance(node, MemcpyNode) or is_host_work(node) for _, node in all_nodes(graph))


def _may_hand_over(graph: Graph) -> bool:
    """Whether a graph has kernels of the host, and no other work for it."""
    found = [node for _, node in all_nodes(graph) if is_host_work(node)]
    return bool(found) and all(isinstance(node, KernelNode) for node in found)


def _has_condition(graph: Graph) -> bool:
    return any(isinstance(node, ConditionalNode) for _, node in all_nodes(graph))


def _has_state_and_host(graph: Graph) -> bool:
    """Whether a graph has state, and work for the host."""
    has_state = any(buffer.role is BufferRole.STATE for buffer in graph.buffers.values())
    return has_state and any(is_host_work(node) for _, node in all_nodes(graph))


def _kernel_names(graph: Graph, unit_of: Mapping[str, int], count: int) -> list[str]:
    names = [""] * count
    for path, node in kernel_nodes(graph):
        if path in unit_of:
            names[unit_of[path]] = node.kernel
    return names
