"""From a graph's kernels to functions on the device: specialise, compile, load."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forerun.ir.graph import Graph
from forerun.ir.nodes import ConditionalNode, Launch
from forerun.ir.walk import all_nodes, kernel_nodes
from forerun.runtime.cuda.codegen import units as units_of
from forerun.runtime.cuda.codegen_unit import ForeignModule, Unit
from forerun.runtime.cuda.conditional import CONDITION_ENTRY, CONDITION_SOURCE
from forerun.runtime.cuda.errors import CudaError
from forerun.runtime.cuda.ledger import Scope
from forerun.runtime.toolchain import Cubin, EntryFacts, Source, compile_units

__all__ = ["Code", "Functions", "build_code", "load_functions"]

_CONDITION = Source(f"{CONDITION_ENTRY}.cu", CONDITION_SOURCE)


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
    """

    units: Sequence[Unit]
    images: Sequence[bytes]
    unit_of: Mapping[str, int]
    kernel_of: Sequence[str]
    condition: bytes | None
    facts: Mapping[str, EntryFacts]
    entries: Sequence[EntryFacts | None] = ()


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

    Args:
        graph: A valid graph.
        arch: The architecture, such as ``sm_90``.
        delays: Put pseudo-random delays into the kernels.
        timeline: Let the kernels note their times.
        progress: Told how many units are compiled, and how many there are.
        fresh: Compile them even if the cache has them.

    Raises:
        Unsupported: If a kernel has no code, or there is no toolchain.
        CompileError: If the compiler refuses it.
    """
    units, unit_of = units_of(graph, delays=delays, timeline=timeline)
    sources = [unit.source for unit in units if isinstance(unit.source, Source)]
    has_condition = _has_condition(graph)
    cubins = compile_units([*sources, *([_CONDITION] if has_condition else [])], arch, progress=progress, fresh=fresh)
    condition = cubins.pop().code if has_condition else None
    compiled = iter(cubins)
    made = [next(compiled) if isinstance(unit.source, Source) else unit.source for unit in units]
    if not fresh and not all(map(_has_entry, made, units)):  # of another unit, in spite of its key
        return build_code(graph, arch, delays=delays, timeline=timeline, progress=progress, fresh=True)
    kernels = _kernel_names(graph, unit_of, len(units))
    both = zip(units, made, strict=True)
    entries = [item.entries[unit.entry] if isinstance(item, Cubin) else None for unit, item in both]
    return Code(units, [_image(item) for item in made], unit_of, kernels, condition, _facts(units, made), entries)


def _has_entry(made: Cubin | ForeignModule, unit: Unit) -> bool:
    return isinstance(made, ForeignModule) or unit.entry in made.entries


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


def _has_condition(graph: Graph) -> bool:
    return any(isinstance(node, ConditionalNode) for _, node in all_nodes(graph))


def _kernel_names(graph: Graph, unit_of: Mapping[str, int], count: int) -> list[str]:
    names = [""] * count
    for path, node in kernel_nodes(graph):
        names[unit_of[path]] = node.kernel
    return names


@dataclass(frozen=True)
class Functions:
    """A program's functions on the device.

    Attributes:
        code: What they were loaded from.
        of_unit: ``CUfunction`` of each unit.
        condition: That of the kernel that sets conditions, or 0.
    """

    code: Code
    of_unit: Sequence[int]
    condition: int


def load_functions(scope: Scope, code: Code) -> Functions:
    """Load a graph's code into the current context.

    Raises:
        CudaError: If the driver refuses an image.
    """
    functions = [
        _load(scope, image, unit.entry, unit.launch, kernel)
        for image, unit, kernel in zip(code.images, code.units, code.kernel_of, strict=True)
    ]
    launch = Launch(block=(1, 1, 1))
    condition = 0 if code.condition is None else _load(scope, code.condition, CONDITION_ENTRY, launch, CONDITION_ENTRY)
    return Functions(code, functions, condition)


def _load(scope: Scope, image: bytes, entry: str, launch: Launch, kernel: str) -> int:
    driver = scope.driver
    try:
        module = scope.own("module", driver.call("cuModuleLoadData", image), "cuModuleUnload")
        function: Any = driver.call("cuModuleGetFunction", module, entry.encode())
        for kind, value in _attributes(driver.api, launch):
            driver.call("cuFuncSetAttribute", function, kind, value)
    except CudaError as error:
        shared = launch.shared_bytes
        detail = f"{shared} bytes of dynamic shared memory were asked for" if shared else ""
        raise error.about(kernel=kernel, detail=detail) from error
    return int(function)


_PORTABLE_CLUSTER = 8
"""CTAs in a cluster that every GPU can run (CUDA C++ Programming Guide, "Thread Block Clusters")."""


def _attributes(api: Any, launch: Launch) -> Iterator[tuple[Any, int]]:
    kinds = api.CUfunction_attribute
    # The driver gives an SM as much shared memory as the running kernel needs. A neighbour that needs more could then
    # not start beside it, and a programmatic dependency would win nothing: so all that there is, for every kernel.
    yield kinds.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100
    if launch.shared_bytes:
        # Without it a kernel gets 48 KB at most, its static shared memory included.
        yield kinds.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, launch.shared_bytes
    if launch.cluster is not None and math.prod(launch.cluster) > _PORTABLE_CLUSTER:
        yield kinds.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1
