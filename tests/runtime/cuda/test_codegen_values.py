"""Generated units compute what the reference target computes: their text, run on the host by a C++ compiler.

Each thread of each CTA runs by itself, one after the other. That is right for what is tested here: built-in kernels
work element by element, and in random kernels of two roles, the one that gives locals is played by the first warps.
"""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from numpy.typing import NDArray

from forerun import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import BufferArgument, ConstantArgument, KernelNode, Launch, ScalarLoad
from forerun.ir.types import BufferRole, DType
from forerun.kernels.builtin import KERNELS
from forerun.runtime.c_types import C_TYPES
from forerun.runtime.cuda.codegen.specialise import Unit, specialise
from forerun.runtime.dtypes import numpy_dtype
from forerun.runtime.reference import ReferenceTarget
from forerun.runtime.reference.memory import POISON
from forerun.testing import graphs, inputs_of, weights_of
from forerun.testing.kernel_strategy import KernelShape
from tests.runtime.cuda.test_codegen import stream_of

COMPILER = shutil.which("g++")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="no g++ to run generated text on the host")]

DEVICE = """\
#include <cstring>
#define __device__
#define __global__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(threads)
struct Triple { int x, y, z; };
static Triple threadIdx, blockIdx, blockDim, gridDim;
struct bf16 { unsigned short bits; };
struct f16 { unsigned short bits; };
inline void wait() {}
inline void trigger() {}
inline void fenced_trigger() {}
inline void cta_barrier() {}
inline int thread_in_cta() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
inline int cta_in_grid() { return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z); }
template <class T> T load_global(const T* p) { return *p; }
template <class T> struct Constant { T value; T operator()() const { return value; } };
template <class T, class Stored = T> struct Loaded {
    const Stored* address;
    T offset;
    T operator()() const { return static_cast<T>(*address) + offset; }
};
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline unsigned __float_as_uint(float x) { unsigned bits; std::memcpy(&bits, &x, 4); return bits; }
inline long long __double_as_longlong(double x) { long long bits; std::memcpy(&bits, &x, 8); return bits; }
"""

LOOPS = """
extern "C" void run({parameters}) {{
    gridDim = {{{grid}}};
    blockDim = {{{block}}};
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
    for (threadIdx.z = 0; threadIdx.z < blockDim.z; ++threadIdx.z)
    for (threadIdx.y = 0; threadIdx.y < blockDim.y; ++threadIdx.y)
    for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x)
        {entry}({names});
}}
"""


class Host:
    """Builds units for the host, each once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.built: dict[Unit, ctypes.CDLL] = {}

    def function(self, unit: Unit) -> ctypes.CDLL:
        if unit not in self.built:
            self.built[unit] = self.build(unit, self.folder / str(len(self.built)))
        return self.built[unit]

    def build(self, unit: Unit, folder: Path) -> ctypes.CDLL:
        folder.mkdir()
        names = [f"p{i}" for i in range(len(unit.slots))]
        stars = ["*" if slot.kind in ("pointer", "address") else "" for slot in unit.slots]
        types = [C_TYPES[slot.dtype] + star for slot, star in zip(unit.slots, stars, strict=True)]
        loops = LOOPS.format(
            parameters=", ".join(f"{t} {n}" for t, n in zip(types, names, strict=True)),
            grid=", ".join(map(str, unit.launch.grid)),
            block=", ".join(map(str, unit.launch.block)),
            entry=unit.entry,
            names=", ".join(names),
        )
        for name, text in dict(unit.source.headers).items():  # type: ignore[union-attr]
            (folder / name).write_text(DEVICE if name == "device.cuh" else text)
        (folder / "unit.cpp").write_text(unit.source.text + loops)  # type: ignore[union-attr]
        command = [str(COMPILER), "-std=c++17", "-O1", "-w", "-ffp-contract=off", "-fPIC", "-shared", "-o", "unit.so"]
        subprocess.run([*command, "unit.cpp"], cwd=folder, check=True)
        return ctypes.CDLL(str(folder / "unit.so"))

    def run(self, graph: Graph, inputs: dict[str, NDArray], weights: dict[str, NDArray]) -> dict[str, NDArray]:
        """All buffers after the nodes of a graph of kernels have run in order, state being zero at the start."""
        memory = {a.name: np.full(a.size, POISON, np.uint8) for a in graph.allocations.values()}
        views = {
            b.name: memory[b.allocation][b.offset : b.stop].view(numpy_dtype(b.dtype)).reshape(b.shape)
            for b in graph.buffers.values()
        }
        zeros = {b.name: np.zeros(b.shape) for b in graph.buffers.values() if b.role is BufferRole.STATE}
        for name, value in (zeros | inputs | weights).items():
            views[name][...] = value
        for node in graph:
            assert isinstance(node, KernelNode)
            unit = specialise(graph, node)
            self.function(unit).run(*arguments_of(node, unit, views))
        return views


def arguments_of(node: KernelNode, unit: Unit, views: dict[str, NDArray]) -> list[object]:
    found: list[object] = []
    for slot in unit.slots:
        match slot.kind, node.argument(slot.parameter):
            case "pointer", BufferArgument(buffer=name):
                found.append(ctypes.c_void_p(views[name].ctypes.data))
            case "address", ScalarLoad(buffer=name, index=index):
                found.append(ctypes.c_void_p(views[name].ctypes.data + index * views[name].itemsize))
            case "offset", ScalarLoad(offset=offset):
                found.append(ctypes.c_int(offset))
            case "scalar", ConstantArgument(value=value):
                found.append(ctypes.c_int(int(value)))
            case mismatch:
                raise AssertionError(mismatch)
    return found


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(tmp_path_factory.mktemp("host"))


def assert_same(host: Host, graph: Graph, inputs: dict[str, NDArray], weights: dict[str, NDArray]) -> None:
    program = ReferenceTarget().load(graph, weights)
    outputs = program.run(inputs)
    found = host.run(graph, inputs, weights)
    for buffer in graph.buffers.values():
        if buffer.role is BufferRole.STATE:
            assert found[buffer.name].tobytes() == program.read(buffer.name).tobytes(), buffer.name
        elif buffer.role is BufferRole.OUTPUT:
            assert found[buffer.name].tobytes() == outputs[buffer.name].tobytes(), buffer.name


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_builtin_kernels(name: str, host: Host) -> None:
    chooser = np.random.default_rng(0)
    dtype = DType.F32 if name.endswith("f32") else DType.I32
    for count, launch in ((5, Launch(block=(128, 1, 1))), (333, Launch((2, 2, 1), (8, 2, 2))), (300, Launch())):
        graph = stream_of(KERNELS[name], dtype, count, launch)
        inputs: dict[str, NDArray] = {
            b.name: chooser.integers(-(2**31), 2**31, b.shape, np.int64).astype(np.int32)
            if dtype is DType.I32
            else chooser.normal(size=b.shape).astype(np.float32)
            for b in graph.buffers.values()
            if b.role is BufferRole.INPUT and b.name != "chosen"
        }
        assert_same(host, graph, inputs | {"chosen": np.array([0, 1], np.int32)}, {})


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(graphs(max_nodes=4, nodes=["kernel"], kernel_shape=KernelShape(waits=False)))
def test_random_kernels(host: Host, graph: Graph) -> None:
    assert_same(host, graph, inputs_of(graph), weights_of(graph))
    kernels = [graph.kernels[node.kernel] for node in graph if isinstance(node, KernelNode)]
    event(f"roles: {max(len(kernel.roles or ()) for kernel in kernels)}")
    event(f"types: {sorted({str(b.dtype) for b in graph.buffers.values()})}")
    loads = [
        a for node in graph if isinstance(node, KernelNode) for _, a in node.arguments if isinstance(a, ScalarLoad)
    ]
    event(f"scalars from memory: {bool(loads)}")


def test_matrices_and_dimensions_in_bounds(host: Host) -> None:
    from forerun.ir.affine import affine
    from forerun.ir.kernel import Access, BufferParameter, Phase, Role, ScalarParameter
    from forerun.ir.region import region

    hashing = "forerun.testing.hashing"
    box = region((1, affine("rows") - 1), None, ("s", affine("s") + 2))
    end = region((affine("rows") + affine("s") * 2 - 3, affine("rows") + affine("s") * 2 - 1))
    phases = (
        Phase("load", (Access("m", box), Access("m")), defines=("x",), reference=f"{hashing}:digest"),
        Phase("store", (), (Access("y", end),), ("x",), (), ("s",), reference=f"{hashing}:store_2"),
    )
    parameters = (
        BufferParameter("m", DType.I64, ("rows", 2, None)),
        BufferParameter("y", DType.F64, (None,)),
        ScalarParameter("s", DType.I8),
    )
    build = GraphBuilder("g")
    m, y = build.input("m", DType.I64, (4, 2, 3)), build.state("y", DType.F64, (5,))
    build.launch(Kernel("k", parameters, (Role("all", phases),)), m=m, y=y, s=1)
    graph = build.build()
    value = np.arange(math.prod((4, 2, 3)), dtype=np.int64).reshape(4, 2, 3) * -(2**33 + 5)
    assert_same(host, graph, {"m": value}, {})
