"""From a kernel node to CUDA C++: one translation unit for each specialisation of a kernel.

The entry is written from the kernel's body: phases, waits, triggers and barriers in its order. What a pass did to the
body is there to read. A specialisation is the body together with the dimensions of the buffers, the launch, and
what kind of argument is bound to each scalar; names of nodes and buffers, and the values of constants, do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from forerun.ir.graph import Graph
from forerun.ir.kernel import Implementation, Kernel
from forerun.ir.nodes import BufferArgument, KernelNode, ScalarLoad
from forerun.ir.types import DType
from forerun.ir.walk import kernel_nodes
from forerun.runtime.cuda.codegen.body import CannotGenerate, RoleWarps, body_lines, warps_of_roles
from forerun.runtime.cuda.codegen.foreign import follow_body
from forerun.runtime.cuda.codegen.generated import PhaseGenerator, generator_of
from forerun.runtime.cuda.codegen.names import entry_name, identifier
from forerun.runtime.cuda.codegen.parameters import bind, structs
from forerun.runtime.cuda.codegen.sources import LIBRARY, file_name, included, read_source, require_source
from forerun.runtime.cuda.codegen.unit import DELAY_SEED, TIMELINE, ForeignModule, Slot, Unit
from forerun.runtime.toolchain import Source
from forerun.support.diagnostics import Unsupported

__all__ = ["DELAY_SEED", "TIMELINE", "ForeignModule", "Slot", "Unit", "specialise", "units"]

_Contents = TypeVar("_Contents")

_MAX_LINE = 120

_HINT = "declare one: Kernel(..., implementations=(Implementation('cuda', 'package:file.cu', 'namespace'),))"


def specialise(graph: Graph, node: KernelNode, *, delays: bool = False, timeline: bool = False) -> Unit:
    """The unit of a kernel node.

    Args:
        graph: A valid graph whose tables the node names: for nodes in bodies, the enclosing graph.
        node: The node.
        delays: Put pseudo-random delays of some microseconds between all steps; for tests that look for races. An
            entry that is made here then takes the address of a seed as a further parameter.
        timeline: Note when each CTA starts, when its wait returns, when it triggers, and when it ends. An entry that is
            made here then takes the address of its records as its last parameter.

    Raises:
        Unsupported: If there is no code to make it of, or it cannot be made.

    Example:
        >>> from forerun import GraphBuilder
        >>> from forerun.ir.types import DType
        >>> from forerun.kernels.builtin import KERNELS
        >>> builder = GraphBuilder("g")
        >>> x, y = builder.input("x", DType.I32, (4,)), builder.output("y", DType.I32, (4,))
        >>> node = builder.launch(KERNELS["copy_i32"], x=x, y=y)
        >>> graph = builder.build()
        >>> unit = specialise(graph, graph.nodes[node])
        >>> unit.entry, [slot.parameter for slot in unit.slots]
        ('copy_i32_kernel', ['x', 'y'])
    """
    kernel = graph.kernels[node.kernel]
    try:
        return _Specialiser(graph, node, kernel, delays, timeline).unit()
    except CannotGenerate as reason:
        raise Unsupported(f"node '{node.name}', kernel '{kernel.name}': {reason}") from reason


def units(graph: Graph, *, delays: bool = False, timeline: bool = False) -> tuple[list[Unit], dict[str, int]]:
    """The different units of a graph, and which one each kernel node is launched from.

    Delays and timeline are as for :func:`specialise`.

    Returns:
        The units, and an index into them by node, without those that run on the host; a node in a body has the path
        ``outer/inner``, and ``outer/1/inner`` in the second body of a conditional, and so on.

    Raises:
        Unsupported: If some node has none.
    """
    numbers: dict[Unit, int] = {}
    known: dict[object, int] = {}
    found: dict[str, int] = {}
    for path, node in kernel_nodes(graph):
        if node.place.kind == "host":
            continue  # its NumPy functions run there
        key = _key(graph, node)
        if key not in known:
            unit = specialise(graph, node, delays=delays, timeline=timeline)
            known[key] = numbers.setdefault(unit, len(numbers))
        found[path] = known[key]
    return list(numbers), found


def _key(graph: Graph, node: KernelNode) -> object:
    """Equal only for nodes with the same unit: what it depends on, without making the text."""
    kinds: list[object] = []
    for _, argument in node.arguments:
        if isinstance(argument, BufferArgument):
            kinds.append(graph.buffers[argument.buffer].shape)
        elif isinstance(argument, ScalarLoad):
            kinds.append(graph.buffers[argument.buffer].dtype)
        else:
            kinds.append((type(argument.value), argument.value))
    return node.kernel, node.launch, tuple(kinds)


class _Specialiser:
    """One node and its kernel."""

    def __init__(self, graph: Graph, node: KernelNode, kernel: Kernel, delays: bool, timeline: bool) -> None:
        self.node = node
        self.kernel = kernel
        self.delays = delays
        self.timeline = timeline
        self.binding = bind(graph, node, kernel)

    def unit(self) -> Unit:
        implementations = self.kernel.implementations
        ours = next((i for i in implementations if i.language == "cuda"), None)
        if ours is not None:
            return self.compiled(ours)
        foreign = next((i for i in implementations if i.language in ("ptx", "cubin")), None)
        if foreign is not None:
            return self.foreign(foreign)
        if self.kernel.roles is not None and (generator := generator_of(self.kernel)) is not None:
            return self.compiled(generator)
        languages = ", ".join(i.language for i in implementations) or "none at all"
        message = (
            f"node '{self.node.name}', kernel '{self.kernel.name}': no implementation in CUDA (it has {languages})"
        )
        raise Unsupported(message, hint=_HINT)

    def foreign(self, implementation: Implementation) -> Unit:
        """The unit of a module that somebody else wrote; neither delays nor timestamps are put into it.

        Machine code is loaded as it is; PTX gets the waits, triggers and early loads of the body.
        """
        loads = [slot.parameter for slot in self.binding.slots if slot.kind == "address"]
        if loads:
            raise CannotGenerate(f"'{loads[0]}' is loaded from memory, but {implementation.language} takes its value")
        code = _read(implementation, read_source)
        if implementation.language == "ptx":
            code = follow_body(code.decode(errors="replace"), self.kernel, implementation.entry).text.encode()
        module = ForeignModule(implementation.language, implementation.source, code)
        return Unit(implementation.entry, module, self.binding.slots, self.node.launch)

    def compiled(self, phases_from: Implementation | PhaseGenerator) -> Unit:
        """The unit of phases that are given, or made from their declarations."""
        if self.kernel.roles is None:
            raise CannotGenerate("a black box cannot be compiled: its body is what the entry is made of")
        entry = entry_name(self.kernel.name)
        roles = warps_of_roles(self.kernel, self.node.launch)
        extras = {"delay.cuh": self.delays, "timeline.cuh": self.timeline}
        shared = ["device.cuh", *(header for header, wanted in extras.items() if wanted)]
        headers = {name: text for header in shared for name, text in included(f"{LIBRARY}:{header}")}
        if isinstance(phases_from, Implementation):
            namespace = identifier(phases_from.entry)
            headers |= _read(phases_from, included)
            phases = f'#include "{file_name(phases_from.source)}"'
        else:
            made = phases_from(self.kernel, self.binding.buffers, self.binding.members, roles)
            namespace = "generated"
            headers |= included(made.source)
            phases = f'#include "{file_name(made.source)}"\n\n{made.text}'
        parts = [
            "\n".join(f'#include "{name}"' for name in shared),
            f"namespace {namespace} {{",
            "\n".join(structs(self.kernel, self.binding, self.node.launch, roles)),
            phases,
            f"}}  // namespace {namespace}",
            "\n".join(self.entry(entry, namespace, roles)),
        ]
        source = Source(f"{entry}.cu", "\n\n".join(parts) + "\n", tuple(sorted(headers.items())))
        hidden = [Slot(DELAY_SEED, "pointer", DType.U32)] if self.delays else []
        hidden += [Slot(TIMELINE, "pointer", DType.U64)] if self.timeline else []
        return Unit(entry, source, (*self.binding.slots, *hidden), self.node.launch)

    def entry(self, entry: str, namespace: str, roles: Sequence[RoleWarps]) -> Iterator[str]:
        """The ``__global__`` function."""
        binding = self.binding
        parameters = [f"{text} {name}" for text, name in zip(binding.types, binding.names, strict=True)]
        parameters += [f"const unsigned* {DELAY_SEED}"] if self.delays else []
        parameters += [f"unsigned long long* {TIMELINE}"] if self.timeline else []
        threads = math.prod(self.node.launch.block)
        yield f'extern "C" __global__ void __launch_bounds__({threads})'
        yield f"{entry}({_wrapped(parameters, len(entry) + len('() {'))}) {{"
        arguments = f"    const {namespace}::Arguments arguments"
        yield f"{arguments}{{{_wrapped(binding.initialisers, len(arguments) + len('{};'))}}};"
        yield f"    {namespace}::Locals locals;"
        if self.delays:
            pointers = (
                n for s, n in zip(binding.slots, binding.names, strict=True) if s.kind in ("pointer", "address")
            )
            yield f"    const unsigned key = delay_key({DELAY_SEED}, {next(pointers, 'nullptr')});"
        yield ""
        timeline = TIMELINE if self.timeline else ""
        body = body_lines(self.kernel, roles, namespace, delays=self.delays, timeline=timeline)
        yield from (f"    {line}" for line in body)
        yield "}"


def _wrapped(items: Sequence[str], taken: int) -> str:
    """A list on one line, of which some columns are taken, or else on a line for each item."""
    line = ", ".join(items)
    return line if taken + len(line) <= _MAX_LINE else "\n        " + ",\n        ".join(items)


def _read(implementation: Implementation, reader: Callable[[str], _Contents]) -> _Contents:
    require_source(implementation.language, implementation.source)
    try:
        return reader(implementation.source)
    except (OSError, ImportError, UnicodeDecodeError) as error:
        raise CannotGenerate(
            f"its {implementation.language}, {implementation.source}, cannot be read: {error}"
        ) from error
