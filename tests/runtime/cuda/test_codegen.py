"""The text of generated units: for a few bodies in full, for random ones the order of the steps, and who shares."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from forerun import GraphBuilder
from forerun.ir.affine import affine
from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Graph
from forerun.ir.kernel import (
    Access,
    Barrier,
    BufferParameter,
    Implementation,
    Kernel,
    Phase,
    Role,
    ScalarParameter,
    Step,
    Trigger,
    Wait,
)
from forerun.ir.nodes import (
    Argument,
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    ConstantArgument,
    KernelNode,
    Launch,
    ScalarLoad,
)
from forerun.ir.region import region
from forerun.ir.types import BufferRole, DType
from forerun.kernels.builtin import KERNELS
from forerun.runtime.cuda.codegen.specialise import DELAY_SEED, Slot, Unit, specialise, units
from forerun.testing import graphs
from tests.strategies import portion

LAUNCH = Launch((2, 1, 1), (64, 1, 1))


def graph_of(kernel: Kernel, arguments: dict[str, Argument], launch: Launch = LAUNCH, extent: int = 8) -> Graph:
    """A graph with one node, ``n``; buffers ``v`` and ``position`` exist."""
    kinds = {p.name: p for p in kernel.buffer_parameters}
    dtype = next((p.dtype for p in kinds.values()), DType.I32)
    buffers = [
        Buffer("v", dtype, (extent,), BufferRole.STATE, "v"),
        Buffer("position", DType.I64, (2,), BufferRole.INPUT, "position", bounds=(0, 3)),
    ]
    node = KernelNode("n", kernel.name, tuple(arguments.items()), launch)
    allocations = [Allocation("v", buffers[0].size), Allocation("position", 16)]
    return Graph("g", allocations, buffers, [kernel], [node])


def unit_of(
    kernel: Kernel,
    arguments: dict[str, Argument] | None = None,
    launch: Launch = LAUNCH,
    *,
    extent: int = 8,
    delays: bool = False,
) -> Unit:
    bound: dict[str, Argument] = {p.name: BufferArgument("v") for p in kernel.buffer_parameters}
    bound |= {p.name: ConstantArgument(1) for p in kernel.scalar_parameters}
    graph = graph_of(kernel, bound | (arguments or {}), launch, extent)
    node = graph.nodes["n"]
    assert isinstance(node, KernelNode)
    return specialise(graph, node, delays=delays)


def stream_of(kernel: Kernel, dtype: DType, count: int, launch: Launch) -> Graph:
    """Two launches of a kernel, with an input for each of its operands; what it writes is state."""
    build = GraphBuilder("twice")
    written = {access.parameter for phase in kernel.phases for access in phase.writes}
    names: dict[str, str | int | ScalarLoad] = {}
    build.input("chosen", DType.I32, (2,), bounds=(0, 1))
    for parameter in kernel.buffer_parameters:
        shape = (3, count) if parameter.name == "m" else (count,)
        make = build.state if parameter.name in written else build.input
        names[parameter.name] = make(parameter.name, dtype, shape)
    for scalar in (1, ScalarLoad("chosen", 1, 1)):
        bound = names | {p.name: scalar for p in kernel.scalar_parameters}
        build.launch(kernel, launch=launch, **bound)  # type: ignore[arg-type]
    return build.build()


def text_of(unit: Unit) -> str:
    text = getattr(unit.source, "text", None)
    assert isinstance(text, str)
    return text


def entry_of(unit: Unit) -> str:
    return 'extern "C"' + text_of(unit).partition('extern "C"')[2]


ADD = """\
#include "device.cuh"

namespace builtin {

struct Dims {
    static constexpr int n = 8;
};
struct Types {
    using a = int;
    using b = int;
    using y = int;
};
struct Launch {
    static constexpr int grid_x = 2, grid_y = 1, grid_z = 1;
    static constexpr int block_x = 64, block_y = 1, block_z = 1;
    static constexpr int threads = 64, shared_bytes = 0;
};
struct Arguments {
    const int* a;
    const int* b;
    int* y;
};

#include "builtin.cu"

}  // namespace builtin

extern "C" __global__ void __launch_bounds__(64)
add_i32_pdl_kernel(const int* a, const int* b, int* y) {
    const builtin::Arguments arguments{a, b, y};
    builtin::Locals locals;

    trigger();
    builtin::load(arguments, locals);
    wait();
    builtin::add(arguments, locals);
}
"""


def test_unit_of_phases_that_are_given() -> None:
    add = KERNELS["add_i32"]
    load, store = add.phases
    kernel = add.with_roles("add_i32.pdl2", (Role("all", (Trigger(), load, Wait(), store)),))
    unit = unit_of(kernel)
    assert text_of(unit) == ADD
    assert unit.entry == "add_i32_pdl_kernel"
    assert unit.slots == tuple(Slot(name, "pointer", DType.I32) for name in "aby")
    assert unit.launch == LAUNCH
    assert [name for name, _ in unit.source.headers] == ["builtin.cu", "device.cuh"]  # type: ignore[union-attr]


ROLES = """\
extern "C" __global__ void __launch_bounds__(128)
two_kernel(const int* x, int* y, const long long* pos_address, int pos_offset, const unsigned* __delay_seed) {
    const generated::Arguments arguments{x, y, {pos_address, pos_offset}};
    generated::Locals locals;
    const unsigned key = delay_key(__delay_seed, x);

    const int warp_in_cta = thread_in_cta() / 32;
    if (warp_in_cta < 1) {  // role loader
        delay(key, 0);
        generated::load(arguments, locals);
        delay(key, 1);
        wait();
        delay(key, 2);
        cta_barrier();
        delay(key, 3);
    } else if (warp_in_cta < 3) {  // role main
        delay(key, 4);
        cta_barrier();
        delay(key, 5);
        generated::store(arguments, locals);
        delay(key, 6);
        fenced_trigger();
        delay(key, 7);
    } else {  // no role, but all threads of the CTA do this
        cta_barrier();
    }
}
"""

PHASES = """\
__shared__ int shared_x;
struct Locals {
};

// reads x[0:pos]; defines x
__device__ __forceinline__ void load(const Arguments& a, Locals& l) {
    if (!is_alone(0)) return;
    const long long scalar_pos = a.pos();
    Hash hash(1);
    for (long long i0 = 0; i0 < scalar_pos; ++i0)
        hash.add(load_global(a.x + i0));
    shared_x = hash.element(0);
}

// uses x; scalars pos; writes y[pos:pos + 1]
__device__ __forceinline__ void store(const Arguments& a, Locals& l) {
    if (!is_alone(32)) return;
    const long long scalar_pos = a.pos();
    Hash hash(2);
    hash.add(shared_x);
    hash.add(scalar_pos);
    int k = 0;
    for (long long i0 = scalar_pos; i0 < scalar_pos + 1; ++i0)
        a.y[i0] = static_cast<int>(hash.element(k++));
}
"""


def two_roles() -> Kernel:
    past, row = region((0, "pos")), region(("pos", affine("pos") + 1))
    digest, store_1 = "forerun.testing.hashing:digest", "forerun.testing.hashing:store_1"
    load = Phase("load", reads=(Access("x", past),), defines=("x",), reference=digest)
    store = Phase("store", writes=(Access("y", row),), uses=("x",), scalars=("pos",), reference=store_1)
    roles = (
        Role("loader", (load, Wait(), Barrier()), warps=1),
        Role("main", (Barrier(), store, Trigger(fenced=True)), warps=2),
    )
    vectors = (BufferParameter("x", DType.I32, ("n",)), BufferParameter("y", DType.I32, ("n",)))
    return Kernel("two", (*vectors, ScalarParameter("pos", DType.I32)), roles)


def test_unit_of_roles_that_are_declared_only() -> None:
    unit = unit_of(two_roles(), {"pos": ScalarLoad("position", 1, 2)}, Launch(block=(128, 1, 1)), delays=True)
    assert entry_of(unit) == ROLES
    assert PHASES in text_of(unit)
    assert "struct loader { static constexpr int first_thread = 0, threads = 32; };" in text_of(unit)
    assert "Loaded<int, long long> pos;" in text_of(unit)
    assert unit.slots[2:] == (
        Slot("pos", "address", DType.I64),
        Slot("pos", "offset", DType.I32),
        Slot(DELAY_SEED, "pointer", DType.U32),
    )


def test_slots_have_sizes() -> None:
    assert [Slot("p", kind, DType.U16).size for kind in ("pointer", "address", "scalar", "offset")] == [8, 8, 2, 2]


def test_names_are_made_safe() -> None:
    names = ["float", "a.b", "a_b", "2", "warp_in_cta", "__delay_seed", "_Big", "arguments"]
    parameters = tuple(BufferParameter(name, DType.I32) for name in names)
    phase = Phase("new.phase", (Access("float"),), defines=("int",), reference="forerun.testing.hashing:digest")
    unit = unit_of(Kernel("while", parameters, (Role("class", (phase,)),)))
    assert unit.entry == "while_kernel"
    expected = ["float_", "a_b2", "a_b", "_2", "warp_in_cta_", "_delay_seed", "n_Big", "arguments_"]
    assert re.findall(r"const int\* (\w+)[,)]", entry_of(unit)) == expected
    assert "generated::new_phase(arguments, locals);" in text_of(unit)
    assert "    int int_;" in text_of(unit)
    assert [slot.parameter for slot in unit.slots] == names


def test_long_signatures_are_wrapped() -> None:
    parameters = tuple(BufferParameter(f"a_rather_long_name_{i}", DType.I32) for i in range(9))
    phase = Phase("p", defines=("x",), reference="forerun.testing.hashing:digest")
    unit = unit_of(Kernel("k", parameters, (Role("all", (phase,)),)))
    assert "k_kernel(\n        const int* a_rather_long_name_0,\n" in text_of(unit)
    assert all(len(line) <= 120 for line in text_of(unit).splitlines())


def test_roles_that_claim_no_warps_share_the_rest() -> None:
    steps = (Phase("p", defines=("x",), reference="forerun.testing.hashing:digest"),)
    roles = (Role("a", steps), Role("b", (), warps=1), Role("c"), Role("d", warps=0))
    text = text_of(unit_of(Kernel("k", (), roles), launch=Launch(block=(128, 1, 1))))
    assert re.findall(r"warp_in_cta < (\d)\) {  // role (\w)", text) == [("2", "a"), ("3", "b")]
    assert re.findall(r"else {  // role (\w)", text) == ["c"]  # all other warps; none is left for d


_STATEMENTS = {"wait": Wait(), "trigger": Trigger(), "fenced_trigger": Trigger(fenced=True), "cta_barrier": Barrier()}


@settings(portion(60))
@given(graphs(nodes=["kernel"]), st.booleans())
def test_order_in_the_text_is_the_order_of_the_body(graph: Graph, delays: bool) -> None:
    for node in graph:
        assert isinstance(node, KernelNode)
        kernel = graph.kernels[node.kernel]
        entry = entry_of(specialise(graph, node, delays=delays))
        phases = {phase.name: phase for phase in kernel.phases}
        found: list[Step] = [
            phases[phase] if phase else _STATEMENTS[step]
            for phase, step in re.findall(r"generated::(\w+)\(|(\w*wait|\w*trigger|cta_barrier)\(\)", entry)
        ]
        assert found == [step for _, _, step in kernel.steps()]
        event(f"steps: {min(len(found), 6)}, roles: {len(kernel.roles or ())}")
        # A delay before, after and between all of them.
        delayed = len(found) + len(kernel.roles or ()) if delays else 0
        assert re.findall(r"delay\(key, (\d+)\)", entry) == [str(i) for i in range(delayed)]


@settings(portion(60))
@given(graphs(max_nodes=4, nodes=["kernel"]))
def test_units_are_what_nodes_have_in_common(graph: Graph) -> None:
    made, indices = units(graph)
    assert len(set(made)) == len(made)
    for node in graph:
        assert isinstance(node, KernelNode)
        assert made[indices[node.name]] == specialise(graph, node)
    event(f"nodes that share a unit: {len(indices) - len(made)}")


def test_names_of_nodes_and_buffers_and_values_are_no_part_of_a_unit() -> None:
    kernel = KERNELS["scale_row_f32"]
    buffers = [Buffer(name, DType.F32, (3, 4), BufferRole.STATE, "m", offset) for name, offset in (("m", 0), ("k", 48))]
    buffers += [
        Buffer(name, DType.F32, (4,), BufferRole.STATE, "m", offset) for name, offset in (("x", 96), ("y", 112))
    ]
    nodes = [
        KernelNode(
            name, kernel.name, (("x", BufferArgument(x)), ("m", BufferArgument(m)), ("row", ConstantArgument(i)))
        )
        for name, x, m, i in (("first", "x", "m", 0), ("second", "y", "k", 2))
    ]
    graph = Graph("g", [Allocation("m", 128)], buffers, [kernel], nodes)
    made, indices = units(graph)
    assert len(made) == 1
    assert indices == {"first": 0, "second": 0}
    wider = replace(nodes[1], launch=Launch((2, 1, 1)))
    assert len(units(Graph("g", [Allocation("m", 128)], buffers, [kernel], [nodes[0], wider]))[0]) == 2


def test_nodes_in_bodies_have_paths() -> None:
    body = Graph("body", nodes=[KernelNode("n", "turn_i32", (("y", BufferArgument("v")),))])
    outer = Graph("outer", nodes=[ChildGraphNode("child", body)])
    graph = Graph(
        "g",
        [Allocation("v", 32), Allocation("c", 4)],
        [Buffer("v", DType.I32, (8,), BufferRole.STATE, "v"), Buffer("c", DType.I32, (1,), BufferRole.INPUT, "c")],
        [KERNELS["turn_i32"]],
        [ConditionalNode("if", "if", "c", (body, outer))],
    )
    made, indices = units(graph)
    assert indices == {"if/n": 0, "if/1/child/n": 0}
    assert [unit.entry for unit in made] == ["turn_i32_kernel"]


def test_every_builtin_kernel_has_cuda() -> None:
    cuda = Implementation("cuda", "forerun.kernels.cuda:builtin.cu", "builtin")
    assert all(kernel.implementations == (cuda,) for kernel in KERNELS.values())
