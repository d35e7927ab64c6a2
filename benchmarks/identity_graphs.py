"""Random graphs that run on a GPU and provoke races there, and faults planted into what passes made of them.

Kernels come from a pool, so that many graphs share few translation units: generated ones, whose phases hash what
they read (one thread each), and built-in ones on vectors of up to 2,048 elements (several CTAs).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from hypothesis import HealthCheck, Phase, given, settings

from forerun.ir.buffer import Buffer
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter, Kernel, Role, Step, Wait
from forerun.ir.nodes import KernelNode, Launch, ScalarLoad
from forerun.ir.semantics import check
from forerun.ir.types import BufferRole, DType
from forerun.ir.verify import verify
from forerun.kernels.builtin import DTYPES, KERNELS
from forerun.testing import kernels
from forerun.testing.kernel_strategy import written_parameters

__all__ = ["FAULTS", "Fault", "Pool", "kernel_pool", "planted", "random_graph"]

EXTENTS = (192, 2048)
SMALL = 4
ROWS = 3
_BUILTIN_LAUNCHES = {192: Launch((3, 1, 1), (32, 1, 1)), 2048: Launch((8, 1, 1), (64, 1, 1))}


@dataclass(frozen=True)
class Pooled:
    """A generated kernel and how it is launched."""

    kernel: Kernel
    dtype: DType
    launch: Launch


Pool = tuple[Pooled, ...]


def kernel_pool(count: int) -> Pool:
    """That many different kernels, the same at every call. A quarter of them may have waits and triggers already."""
    own = max(1, count // 4)
    found = [*_drawn(own, waits=True), *_drawn(count - own, waits=False)]
    chooser = Random(count)
    pool = []
    for i, kernel in enumerate(found):
        dtype = DTYPES[i % 4 == 3]
        parameters = [replace(p, dtype=dtype) if isinstance(p, BufferParameter) else p for p in kernel.parameters]
        launch = Launch((chooser.choice([1, 1, 2, 4]), 1, 1), (chooser.choice([64, 128]), 1, 1))
        pool.append(Pooled(replace(kernel, name=f"h{i}", parameters=tuple(parameters)), dtype, launch))
    return tuple(pool)


def _drawn(count: int, *, waits: bool) -> list[Kernel]:
    found: dict[Kernel, None] = {}
    drawing = settings(
        max_examples=4 * count,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    @drawing
    @given(kernels("h", waits=waits))
    def draw(kernel: Kernel) -> None:
        found[kernel] = None

    draw()
    # The first examples are the simplest ones.
    return list(found)[-count:]


def random_graph(chooser: Random, pool: Pool) -> Graph:
    """A stream of 3 to 10 nodes on memory that is shared in every way: each node depends on the one before."""
    make = _Maker(chooser, pool)
    for _ in range(chooser.randint(3, 10)):
        make.node()
    return make.finished()


class _Maker:
    """A graph while it is made."""

    def __init__(self, chooser: Random, pool: Pool) -> None:
        self.chooser = chooser
        self.pool = pool
        self.extent = chooser.choice(EXTENTS)
        self.build = GraphBuilder("random")
        self.build.input("row", DType.I32, (1,), bounds=(0, ROWS - 1))
        self.build.state("choice", DType.I32, (1,), bounds=(0, ROWS - 1))
        self.views: dict[DType, dict[str, Buffer]] = {}
        for dtype in DTYPES:
            self.views[dtype] = self.declared(dtype)

    def declared(self, dtype: DType) -> dict[str, Buffer]:
        """Views of one piece of memory: vectors, a matrix, and small ones, which overlap."""
        n, arena = self.extent, f"arena_{dtype}"
        self.build.allocation(arena, 6 * n * dtype.itemsize)
        shapes = {"v0": (0, (n,)), "v1": (n // 2, (n,)), "v2": (n, (n,)), "v3": (2 * n, (n,)), "m": (3 * n, (ROWS, n))}
        shapes |= {"row1": (4 * n, (n,)), "s0": (0, (SMALL,)), "s1": (2, (SMALL,)), "s2": (n - 2, (SMALL,))}
        shapes |= {"s3": (2 * n + 7, (SMALL,)), "s4": (4 * n, (SMALL,)), "all": (0, (6 * n,))}
        found = {}
        for name, (start, shape) in shapes.items():
            buffer = Buffer(f"{name}_{dtype}", dtype, shape, BufferRole.STATE, arena, start * dtype.itemsize)
            self.build.buffer(
                buffer.name, dtype, shape, buffer.role, allocation=buffer.allocation, offset=buffer.offset
            )
            found[name] = buffer
        self.build.input(f"x_{dtype}", dtype, (n,))
        self.build.input(f"xs_{dtype}", dtype, (SMALL,))
        self.build.weight(f"w_{dtype}", dtype, (SMALL,))
        self.build.output(f"y_{dtype}", dtype, (n,))
        for name, shape, role in (("x", (n,), BufferRole.INPUT), ("xs", (SMALL,), BufferRole.INPUT)):
            found[name] = Buffer(f"{name}_{dtype}", dtype, shape, role, f"{name}_{dtype}")
        found["w"] = Buffer(f"w_{dtype}", dtype, (SMALL,), BufferRole.WEIGHT, f"w_{dtype}")
        return found

    def node(self) -> None:
        kind = self.chooser.choices(["hashing", "builtin", "copy", "fill"], [11, 6, 1, 2])[0]
        dtype = self.chooser.choice(DTYPES)
        views = self.views[dtype]
        if kind == "hashing":
            self.hashing(self.chooser.choice(self.pool))
        elif kind == "builtin":
            self.builtin(dtype)
        elif kind == "copy":
            source, target = self.chooser.choice([("x", "v0"), ("v0", "v2"), ("v3", "v1"), ("s3", "s0"), ("xs", "s4")])
            self.build.copy(views[source].name, views[target].name)
        elif self.chooser.random() < 0.4:
            self.build.fill("choice", self.chooser.randint(0, ROWS - 1))
        else:
            self.build.fill(views[self.chooser.choice(["v1", "v3", "s1", "row1"])].name, self.chooser.randint(0, 2))

    def hashing(self, pooled: Pooled) -> None:
        """A generated kernel on small views; what other warps or the copy engine read is not written by it."""
        kernel, views = pooled.kernel, self.views[pooled.dtype]
        written = written_parameters(kernel)
        small = ["s0", "s1", "s2", "s3", "s4"]
        names = {
            p.name: self.chooser.choice(
                [v for v in (small if p.name in written else [*small, "xs", "w"]) if views[v].offset % p.alignment == 0]
            )
            for p in kernel.buffer_parameters
        }
        if len(kernel.roles or ()) > 1 or any(phase.asynchronous for phase in kernel.phases):
            targets = [views[names[p]] for p in names if p in written]
            for p in names:
                if p not in written and any(_overlap(views[names[p]], target) for target in targets):
                    names[p] = "w"
        bound: dict[str, str | int | ScalarLoad] = {p: views[name].name for p, name in names.items()}
        self.launch(kernel, bound, pooled.launch)

    def builtin(self, dtype: DType) -> None:
        """A built-in kernel on vectors; of two that overlap in part, none is written."""
        kernel = KERNELS[self.chooser.choice([name for name in KERNELS if name.endswith(f"_{dtype}")])]
        views, written = self.views[dtype], written_parameters(kernel)
        while True:
            names = {
                p.name: "m" if p.name == "m" else self.chooser.choice(["v0", "v1", "v2", "v3", "row1", "x"])
                for p in kernel.buffer_parameters
            }
            if "x" not in {names[p] for p in written} and not _partial(names, written, views):
                break
        self.launch(kernel, {p: views[name].name for p, name in names.items()}, _BUILTIN_LAUNCHES[self.extent])

    def launch(self, kernel: Kernel, bound: dict[str, str | int | ScalarLoad], launch: Launch) -> None:
        scalars: list[str | int | ScalarLoad] = [0, 2, ScalarLoad("row"), ScalarLoad("choice")]
        bound |= {p.name: self.chooser.choice(scalars) for p in kernel.scalar_parameters}
        self.build.launch(kernel, launch=launch, **bound)  # type: ignore[arg-type]

    def finished(self) -> Graph:
        """The graph, whose outputs hold a vector each."""
        for dtype in DTYPES:
            source = self.views[dtype][self.chooser.choice(["v0", "v1", "v2", "v3", "row1"])]
            launch = _BUILTIN_LAUNCHES[self.extent]
            self.build.launch(KERNELS[f"copy_{dtype}"], launch=launch, x=source.name, y=f"y_{dtype}")
        return self.build.build()


def _overlap(a: Buffer, b: Buffer) -> bool:
    return a.allocation == b.allocation and a.offset < b.stop and b.offset < a.stop


def _partial(names: dict[str, str], written: frozenset[str], views: dict[str, Buffer]) -> bool:
    """Whether a vector that is written overlaps another one that is not the same."""
    return any(
        names[p] != names[q] and _overlap(views[names[p]], views[names[q]]) for p in written for q in names if p != q
    )


FAULTS = ("edge removed", "wait removed", "wait last")
"""The kinds of faults that are planted."""


@dataclass(frozen=True)
class Fault:
    """A graph with a race that was planted.

    Attributes:
        kind: One of :data:`FAULTS`.
        place: The dependency or node.
        graph: With the fault.
    """

    kind: str
    place: str
    graph: Graph


def planted(graph: Graph, chooser: Random) -> Iterator[Fault]:
    """Graphs with one fault each that the checker refutes, in random order."""
    edges = [("edge removed", d.source, d.target) for d in graph.dependencies]
    waits = [n.name for n in graph if isinstance(n, KernelNode) and graph.kernels[n.kernel].has(Wait)]
    faults = [*edges, *((kind, name, "") for name in waits for kind in FAULTS[1:])]
    chooser.shuffle(faults)
    for kind, source, target in faults:
        edit = graph.edit()
        if target:
            edit.remove_dependency(source, target)
        else:
            node = edit.node(source)
            assert isinstance(node, KernelNode)
            kernel = graph.kernels[node.kernel]
            roles = tuple(_without_wait(role, last=kind == "wait last") for role in kernel.roles or ())
            suffix = "late" if kind == "wait last" else "unwaited"
            edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, roles, suffix).name))
            edit.drop_unused_kernels()
        candidate = edit.commit()
        if not verify(candidate) and check(candidate).status == "refuted":
            yield Fault(kind, f"{source} -> {target}" if target else source, candidate)


def _without_wait(role: Role, *, last: bool) -> Role:
    rest: list[Step] = [step for step in role.steps if not isinstance(step, Wait)]
    moved = [Wait()] if last and len(rest) < len(role.steps) else []
    return replace(role, steps=(*rest, *moved))
