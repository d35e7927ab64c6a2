"""Random graphs for the second oracle, from a seed: small, and with everything that decides what bytes hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from forerun.ir.affine import affine
from forerun.ir.buffer import Allocation, Buffer, Paged, Ragged
from forerun.ir.graph import Graph
from forerun.ir.kernel import (
    Access,
    Barrier,
    BufferParameter,
    Implementation,
    Kernel,
    Parameter,
    Phase,
    Role,
    ScalarParameter,
    Step,
    Trigger,
    Wait,
)
from forerun.ir.launches import ANY_LAUNCH
from forerun.ir.nodes import (
    AllocNode,
    Argument,
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    ConstantArgument,
    EmptyNode,
    EventRecordNode,
    EventWaitNode,
    FreeNode,
    HostCallbackNode,
    KernelNode,
    MemcpyNode,
    MemsetNode,
    Node,
    ScalarLoad,
)
from forerun.ir.region import WHOLE, BufferView, Region, region
from forerun.ir.types import HOST, BufferRole, DType
from tests.oracle.clear import is_clear
from tests.oracle.ordering import chain, ordered, touched

__all__ = ["CONSTANTS", "handing_on", "program"]

CONSTANTS = (0.0, -0.0, 1.0, float("nan"), 2.5)
"""Values of floating point constants."""

_STATE, _TEMP = BufferRole.STATE, BufferRole.TEMP
_DTYPES = (DType.I8, DType.I8, DType.I16, DType.F32)


def _buffers(dtype: DType) -> dict[str, Buffer]:
    """All buffers that may occur: views of each other, temporaries, what is indexed, what is chosen from."""
    size = dtype.itemsize

    def plain(name: str, role: BufferRole) -> Buffer:
        return Buffer(name, dtype, (4,), role, name)

    found = [
        plain("x", BufferRole.INPUT),
        plain("w", BufferRole.WEIGHT),
        plain("o", BufferRole.OUTPUT),
        plain("o2", BufferRole.OUTPUT),
        Buffer("s0", dtype, (4,), _STATE, "S", 0),
        Buffer("s1", dtype, (4,), _STATE, "S", 2 * size),
        Buffer("mtx", dtype, (3, 2), _STATE, "S", 4 * size),
        *(plain(f"t{i}", _TEMP) for i in range(4)),
        Buffer("ta", dtype, (4,), _TEMP, "T", 0),
        Buffer("tb", dtype, (4,), _TEMP, "T", 2 * size),
        Buffer("pg", dtype, (4, 1), _TEMP, "P", 0, Paged("table", 1)),
        Buffer("pf", dtype, (4,), _TEMP, "P", 0),
        Buffer("kv", dtype, (4, 1), _STATE, "K", 0, Paged("table", 1)),
        Buffer("kf", dtype, (4,), _STATE, "K", 0),
        Buffer("rg", dtype, (4, 1), _STATE, "R", 0, Ragged("ends")),
        Buffer("rf", dtype, (4,), _STATE, "R", 0),
        Buffer("m0", dtype, (4,), _TEMP, "M", 0),
        plain("h0", _STATE),
        plain("h1", _STATE),
        Buffer("pos", DType.I8, (2,), _STATE, "pos", 0, bounds=(0, 3)),
        Buffer("row", DType.I8, (1,), BufferRole.INPUT, "row", 0, bounds=(0, 3)),
        Buffer("table", DType.I8, (4,), BufferRole.INPUT, "table", 0, bounds=(0, 3)),
        Buffer("ends", DType.I8, (2,), BufferRole.INPUT, "ends", 0, bounds=(0, 4)),
        Buffer("c", DType.I8, (1,), _STATE, "c", 0, bounds=(0, 2)),
    ]
    return {buffer.name: buffer for buffer in found}


_ALL = {dtype: _buffers(dtype) for dtype in set(_DTYPES)}
_READ = ("x", "w", "s0", "s1", "mtx", "kv", "kf", "rg", "rf", "o")
_WRITE = (
    "o",
    "o2",
    "s0",
    "s1",
    "mtx",
    "kv",
    "kf",
    "rg",
    "rf",
    "t0",
    "t0",
    "t1",
    "t1",
    "t2",
    "t3",
    "ta",
    "tb",
    "pf",
    "pg",
)
_HOSTED = ("h0", "h1")
_FUNCTIONS = tuple(f"m:f{i}" for i in range(5))


@dataclass
class _Maker:
    chooser: Random
    dtype: DType
    used: dict[str, None] = field(default_factory=dict)
    filled: list[str] = field(default_factory=list)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    sizes: int = 0

    def uses(self, name: str) -> str:
        self.used[name] = None
        return name

    def source(self) -> str:
        """A buffer to read: temporaries only once something has been written there."""
        chooser = self.chooser
        if self.filled and chooser.random() < 0.55:
            return self.uses(chooser.choice(self.filled))
        return self.uses(chooser.choice(_READ))

    def target(self) -> str:
        chooser = self.chooser
        if self.filled and chooser.random() < 0.2:
            return self.uses(chooser.choice(self.filled))
        return self.uses(chooser.choice(_WRITE))

    def fills(self, name: str) -> None:
        if _ALL[self.dtype][name].role is _TEMP and name not in self.filled:
            self.filled.append(name)
        if name == "pf" and "pg" not in self.filled:
            self.filled.append("pg")

    def nodes(self, count: int, prefix: str, *, outer: bool) -> list[Node]:
        return [self.node(f"{prefix}{i}", outer) for i in range(count)]

    def node(self, name: str, outer: bool) -> Node:
        chooser = self.chooser
        kind = chooser.random()
        if kind < 0.74:
            return self.launch(name)
        if kind < 0.80:
            source, target = self.source(), self.target()
            if source in ("pg", "kv", "rg", "mtx") or target in ("pg", "kv", "rg", "mtx") or source == target:
                source, target = self.uses("x"), self.uses("o")
            if {source, target} == {"s0", "s1"} or {source, target} == {"ta", "tb"}:
                source = self.uses("w")
            self.fills(target)
            return MemcpyNode(name, BufferView(source), BufferView(target))
        if kind < 0.86:
            target = chooser.choice(["c", "pos", "t0", "s0", "o", "t1"])
            self.fills(self.uses(target))
            part = region((0, 2)) if target != "c" and chooser.random() < 0.4 else WHOLE
            most = 0 if self.dtype.is_float else 2
            return MemsetNode(name, BufferView(target, part), chooser.randint(0, most))
        if kind < 0.88 or not outer:
            return EmptyNode(name)
        if kind < 0.91:
            reads = tuple(BufferView(self.uses(h)) for h in chooser.sample(_HOSTED, chooser.randint(0, 1)))
            writes = tuple(BufferView(self.uses(h)) for h in chooser.sample(_HOSTED, chooser.randint(0, 1)))
            return HostCallbackNode(name, f"m:host{chooser.randint(0, 2)}", reads, writes, pure=chooser.random() < 0.4)
        if kind < 0.93:
            return chooser.choice([EventRecordNode, EventWaitNode])(name, "e")
        return self.nested(name)

    def nested(self, name: str) -> Node:
        chooser, filled = self.chooser, list(self.filled)
        kind = chooser.choice(["child", "if", "while", "switch"])
        count = 1 if kind in ("child", "while") else chooser.randint(1, 2)
        bodies = []
        for number in range(count):
            inner = self.nodes(chooser.randint(1, 3), f"{name}b{number}_", outer=False)
            bodies.append(Graph("body", nodes=inner, dependencies=chain(inner)))
            if kind != "child":
                self.filled = list(filled)
        if kind == "child":
            return ChildGraphNode(name, bodies[0])
        return ConditionalNode(name, kind, self.uses(chooser.choice(["c", "row"])), tuple(bodies))

    def launch(self, name: str) -> KernelNode:
        """A launch of a kernel that has no race with itself."""
        known, filled = dict(self.used), list(self.filled)
        for _ in range(20):
            node = self.attempt(name)
            if is_clear(self.kernels[node.kernel], node, _ALL[self.dtype]):
                break
            self.used, self.filled = dict(known), list(filled)
        return node

    def attempt(self, name: str) -> KernelNode:
        """A launch of a new kernel."""
        chooser = self.chooser
        shape = chooser.random()
        if shape < 0.04:
            source, target = self.source(), self.target()
            parameters = tuple(
                BufferParameter(p, self.dtype, (None,) * len(_ALL[self.dtype][b].shape))
                for p, b in (("p0", source), ("p1", target))
            )
            self.kernels[f"k{name}"] = Kernel(f"k{name}", parameters)
            bound: list[tuple[str, Argument]] = [("p0", BufferArgument(source)), ("p1", BufferArgument(target))]
            return KernelNode(name, f"k{name}", tuple(bound))
        parameters2: list[Parameter] = []
        bound, scalars = [], set[str]()
        roles, late = [], list[str]()
        two = chooser.random() < 0.15
        for number in range(2 if two else 1):
            steps = self.steps(name, number, parameters2, bound, scalars, late, first=number == 0)
            roles.append((f"r{number}", steps))
        for scalar in sorted(scalars):
            floating = scalar.startswith("f")
            parameters2.append(ScalarParameter(scalar, DType.F32 if floating else DType.I32))
            bound.append((scalar, self.scalar(floating)))
        if two:
            place = [chooser.randint(0, len(steps)) for _, steps in roles]
            roles = [(n, [*s[:at], Barrier(), *s[at:]]) for (n, s), at in zip(roles, place, strict=True)]
        wait, trigger = chooser.random(), chooser.random()
        made = []
        for number, (role, steps) in enumerate(roles):
            found = list(steps)
            if wait < 0.6 and not (number and chooser.random() < 0.3):
                found.insert(0 if wait < 0.35 else chooser.randint(0, len(found)), Wait())
            if trigger < 0.5 and chooser.random() < 0.8:
                found.insert(chooser.randint(0, len(found)), Trigger(chooser.random() < 0.4))
            made.append(Role(role, tuple(found)))
        implementations = (Implementation("cuda", "m:k.cu", "k"),) if chooser.random() < 0.5 else ()
        self.kernels[f"k{name}"] = Kernel(
            f"k{name}", tuple(parameters2), tuple(made), implementations, ANY_LAUNCH if chooser.random() < 0.3 else None
        )
        return KernelNode(name, f"k{name}", tuple(bound))

    def steps(
        self,
        name: str,
        number: int,
        parameters: list[Parameter],
        bound: list[tuple[str, Argument]],
        scalars: set[str],
        late: list[str],
        *,
        first: bool,
    ) -> list[Step]:
        chooser = self.chooser
        steps: list[Step] = []
        given: list[str] = []
        written: list[str] = []
        count = chooser.choice([1, 1, 2, 2, 3])
        for i in range(count):
            stem = f"{chr(97 + number)}{i}"
            reads = [
                self.access(self.source(), parameters, bound, scalars) for _ in range(chooser.choice([0, 1, 1, 2]))
            ]
            writes = []
            if chooser.random() < 0.6 or (i == count - 1 and not written):
                target = self.target()
                writes.append(self.access(target, parameters, bound, scalars))
                written.append(target)
            uses = tuple(given) if given and chooser.random() < 0.6 else ()
            defines = (f"{stem}v",) if not writes or chooser.random() < 0.3 else ()
            used = tuple(s for s in ("fs", "is") if chooser.random() < 0.12)
            scalars.update(used)
            asynchronous = chooser.random() < 0.2
            reference = chooser.choice(_FUNCTIONS)
            steps.append(Phase(stem, tuple(reads), tuple(writes), uses, defines, used, asynchronous, reference))
            given += defines
        for target in written:
            self.fills(target)
        return steps

    def access(
        self, buffer: str, parameters: list[Parameter], bound: list[tuple[str, Argument]], scalars: set[str]
    ) -> Access:
        """An access of a buffer, through a parameter of its own or one that is there."""
        present = next((p for p, a in bound if a == BufferArgument(buffer)), None)
        view = _ALL[self.dtype][buffer]
        if present is None:
            present = f"p{len(bound)}"
            parameters.append(BufferParameter(present, view.dtype, (None,) * len(view.shape)))
            bound.append((present, BufferArgument(buffer)))
        return Access(present, self.part(view, scalars))

    def part(self, view: Buffer, scalars: set[str]) -> Region:
        chooser, first = self.chooser, view.shape[0]
        kind = chooser.random()
        if kind < 0.55:
            return WHOLE
        if len(view.shape) == 2 and view.shape[1] == 2 and kind < 0.75:
            start = chooser.randint(0, 1)
            return region(None, (start, start + 1))
        if kind < 0.85 or first < 4:
            start = chooser.randint(0, first - 1)
            return region((start, chooser.randint(start + 1, first)))
        scalars.add("i")
        return region(("i", affine("i") + 1)) if chooser.random() < 0.7 else region((0, "i"))

    def scalar(self, floating: bool) -> Argument:
        chooser = self.chooser
        if floating:
            return ConstantArgument(chooser.choice(CONSTANTS))
        if chooser.random() < 0.5:
            return ConstantArgument(chooser.randint(0, 3))
        return ScalarLoad(self.uses(chooser.choice(["pos", "row"])), 0, 0)


def program(chooser: Random, least: int = 2, most: int = 5) -> Graph:
    """A graph of some nodes, most of which are ordered as the data demands."""
    maker = _Maker(chooser, chooser.choice(_DTYPES))
    nodes = maker.nodes(chooser.randint(least, most), "n", outer=True)
    if chooser.random() < 0.12:
        nodes = _with_memory(maker, nodes)
    buffers = _ALL[maker.dtype]
    for name in list(maker.used):
        index = buffers[name].index
        if index is not None:
            maker.uses(index.table if isinstance(index, Paged) else index.offsets)
    declared = [buffer for name, buffer in buffers.items() if name in maker.used]
    sizes: dict[str, int] = {}
    for buffer in buffers.values():
        sizes[buffer.allocation] = max(sizes.get(buffer.allocation, 0), buffer.stop)
    homes = dict.fromkeys(buffer.allocation for buffer in declared)
    allocations = [Allocation(a, sizes[a], HOST) if a in _HOSTED else Allocation(a, sizes[a]) for a in homes]
    unused = [b.name for b in declared if b.role is BufferRole.OUTPUT and not _is_written(nodes, maker.kernels, b.name)]
    if unused:
        nodes += [MemsetNode(f"last{i}", BufferView(name)) for i, name in enumerate(unused)]
    graph = Graph("g", allocations, declared, maker.kernels.values(), nodes, chain(nodes))
    return ordered(chooser, graph)


def handing_on(chooser: Random) -> Graph:
    """Kernels that hand on a temporary, of which another one, in between, writes pages that a table chooses."""
    buffers = _ALL[chooser.choice(_DTYPES)]
    declared = [buffers[name] for name in ("x", "o", "o2", "s0", "pg", "pf", "table")]
    dtype = declared[0].dtype
    kernels, nodes = list[Kernel](), list[Node]()
    steps = [("x", "pf"), ("pf", "o"), (chooser.choice(["x", "s0"]), chooser.choice(["pg", "pg", "s0"])), ("pf", "o2")]
    if chooser.random() < 0.3:
        steps.insert(chooser.randint(0, 3), ("s0", "s0"))
    for i, (source, target) in enumerate(steps):
        parameters = tuple(
            BufferParameter(p, dtype, (None,) * len(buffers[b].shape)) for p, b in (("a", source), ("b", target))
        )
        phases: tuple[Step, ...] = (
            Phase("load", (Access("a"),), defines=("v",), reference=chooser.choice(_FUNCTIONS)),
            Phase("store", (), (Access("b"),), ("v",), reference=chooser.choice(_FUNCTIONS)),
        )
        kernels.append(Kernel(f"k{i}", parameters, (Role("main", phases),)))
        nodes.append(KernelNode(f"n{i}", f"k{i}", (("a", BufferArgument(source)), ("b", BufferArgument(target)))))
    sizes: dict[str, int] = {}
    for buffer in buffers.values():
        sizes[buffer.allocation] = max(sizes.get(buffer.allocation, 0), buffer.stop)
    homes = dict.fromkeys(buffer.allocation for buffer in declared)
    return Graph("g", [Allocation(a, sizes[a]) for a in homes], declared, kernels, nodes, chain(nodes))


def _with_memory(maker: _Maker, nodes: list[Node]) -> list[Node]:
    """Some nodes with an allocation between its alloc and its free, and nodes that use it."""
    chooser = maker.chooser
    at = chooser.randint(0, len(nodes))
    maker.uses("m0")
    source = maker.uses(chooser.choice(["x", "w"]))
    target = maker.uses("o")
    maker.kernels["kin"] = Kernel(
        "kin",
        (BufferParameter("a", maker.dtype, (None,)), BufferParameter("b", maker.dtype, (None,))),
        (Role("r", (Wait(), Phase("p", (Access("a"),), (Access("b"),), reference="m:f0"))),),
    )
    fill = KernelNode("use0", "kin", (("a", BufferArgument(source)), ("b", BufferArgument("m0"))))
    take = KernelNode("use1", "kin", (("a", BufferArgument("m0")), ("b", BufferArgument(target))))
    between = nodes[at : at + 1]
    return [*nodes[:at], AllocNode("al", "M"), fill, *between, take, FreeNode("fr", "M"), *nodes[at + 1 :]]


def _is_written(nodes: Sequence[Node], kernels: dict[str, Kernel], buffer: str) -> bool:
    return any(buffer in found for node in nodes for found in [touched(node, kernels)[1]])
