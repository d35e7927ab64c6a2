"""Launches of every kernel with random operands, and what the NumPy functions make of them.

The tests of the CUDA C++ run them: on the CPU, and on a GPU where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from forerun.ir.kernel import BufferParameter, Kernel
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels import (
    add,
    advance,
    argmax,
    argmax_merge,
    argmax_partial,
    attention,
    attention_merge,
    attention_split,
    embedding,
    gemv,
    head_norm,
    read_all,
    rmsnorm,
    rope_append,
    silu_mul,
)
from forerun.kernels.shapes import elementwise_launch
from forerun.runtime.dtypes import numpy_dtype
from tests.kernel_runner import run_kernel

__all__ = ["Case", "Make", "all_cases", "small_cases", "written_cases"]

F32, BF16, F16, I32 = DType.F32, DType.BF16, DType.F16, DType.I32

Make = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A launch, to be run for each of several values of the scalars in memory.

    Attributes:
        name: For the test's id.
        kernel: What is launched.
        shapes: Of the buffers, by parameter.
        launch: How.
        constants: Scalars, by parameter.
        loaded: Scalars in memory, for each run.
        make: How operands are made that are not to be normal random numbers.
        tolerance: Relative, and absolute for numbers of size 1.
        scale: The size of the results.
        compared: What is compared of a buffer, by parameter, where it is not its elements one by one.
    """

    name: str
    kernel: Kernel
    shapes: Mapping[str, tuple[int, ...]]
    launch: Launch
    constants: Mapping[str, float] = field(default_factory=dict)
    loaded: tuple[Mapping[str, int], ...] = ({},)
    make: Mapping[str, Make] = field(default_factory=dict)
    tolerance: float = 1e-5
    scale: float = 1.0
    compared: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def written(self) -> frozenset[str]:
        """The parameters that the kernel writes."""
        return frozenset(access.parameter for phase in self.kernel.phases for access in phase.writes)

    def operands(self, seed: int) -> dict[str, np.ndarray]:
        """Arrays for all buffers. What is only written is poisoned."""
        chooser = np.random.default_rng(seed)
        read = {access.parameter for phase in self.kernel.phases for access in phase.reads}
        return {
            parameter.name: self._operand(parameter, chooser, parameter.name in read)
            for parameter in self.kernel.parameters
            if isinstance(parameter, BufferParameter)
        }

    def _operand(self, parameter: BufferParameter, chooser: np.random.Generator, read: bool) -> np.ndarray:
        shape, dtype = self.shapes[parameter.name], numpy_dtype(parameter.dtype)
        if parameter.name in self.make:
            return self.make[parameter.name](chooser, shape).astype(dtype)
        if not parameter.dtype.is_float:
            return np.full(shape, -77, dtype)
        return chooser.normal(size=shape).astype(dtype) if read else np.full(shape, np.nan, dtype)

    def expected(self, operands: Mapping[str, np.ndarray], loaded: Mapping[str, int]) -> dict[str, np.ndarray]:
        """What the NumPy functions leave in the buffers that the kernel writes."""
        arrays = {name: array.copy() for name, array in operands.items()}
        run_kernel(self.kernel, arrays, **self.constants, **loaded)
        return {name: arrays[name] for name in self.written}

    def compare(self, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
        """Require the same values: equal integers, numbers within the tolerance (or a bit of a short type)."""
        assert set(found) == set(expected)
        for name, all_values in expected.items():
            seen = self.compared.get(name, np.asarray)
            values, others = seen(all_values), seen(found[name])
            if values.dtype.kind == "i":
                np.testing.assert_array_equal(others, values, name)
                continue
            tolerance = max(self.tolerance, {2: 2.0**-7}.get(values.itemsize, 0.0))
            limits = {"rtol": tolerance, "atol": self.tolerance * self.scale}
            np.testing.assert_allclose(others.astype(np.float64), values.astype(np.float64), **limits, err_msg=name)


def _grid(ctas: int, threads: int) -> Launch:
    return Launch((ctas, 1, 1), (threads, 1, 1))


def _named(launch: Launch) -> str:
    return f"{prod(launch.grid)}x{prod(launch.block)}"


def _gemv(rows: int, columns: int, dtype: DType, launch: Launch | None = None) -> Case:
    launch = launch or gemv.launch_for(rows, columns, dtype)
    shapes = {"w": (rows, columns), "x": (columns,), "y": (rows,)}
    name = f"gemv-{dtype}-{rows}x{columns}-{_named(launch)}"
    return Case(name, gemv.declare(dtype), shapes, launch, scale=float(np.sqrt(columns)))


def _rmsnorm(width: int, launch: Launch | None = None) -> Case:
    launch = launch or rmsnorm.launch_for(width)
    shapes = dict.fromkeys("xwy", (width,))
    return Case(f"rmsnorm-{width}-{_named(launch)}", rmsnorm.KERNEL, shapes, launch, {"eps": 1e-5})


def _head_norm(heads: int, size: int, launch: Launch | None = None) -> Case:
    launch = launch or head_norm.launch_for(heads)
    shapes = {"x": (heads, size), "w": (size,), "y": (heads, size)}
    return Case(f"head_norm-{heads}-{size}-{_named(launch)}", head_norm.KERNEL, shapes, launch, {"eps": 1e-6})


def _elementwise(width: int, launch: Launch | None = None) -> Iterator[Case]:
    launch = launch or elementwise_launch(width)
    size = f"{width}-{_named(launch)}"
    yield Case(f"add-{size}", add.KERNEL, dict.fromkeys("aby", (width,)), launch, tolerance=0.0)
    yield Case(f"silu_mul-{size}", silu_mul.KERNEL, dict.fromkeys(("gate", "up", "y"), (width,)), launch)


def _embedding(width: int, dtype: DType) -> Case:
    shapes = {"table": (11, width), "y": (width,)}
    loaded = tuple({"token": token} for token in (0, 4, 10))
    launch = elementwise_launch(width)
    return Case(f"embedding-{dtype}-{width}", embedding.declare(dtype), shapes, launch, {}, loaded, tolerance=0.0)


def _angles(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Radians a position, from 1 down: at the last positions a single f32 step of the angle is hundredths."""
    return chooser.uniform(0.0, 1.0, shape) ** 4


def _rope(heads: int, kv_heads: int, size: int, dtype: DType, positions: tuple[int, ...]) -> Case:
    rows = max(positions) + 1
    shapes = {"q": (heads, size), "k": (kv_heads, size), "v": (kv_heads, size), "frequencies": (size // 2,)}
    shapes |= {"q_out": (heads, size)} | dict.fromkeys(("k_cache", "v_cache"), (rows, kv_heads, size))
    launch = rope_append.launch_for(heads, kv_heads, size)
    loaded = tuple({"pos": position} for position in positions)
    name = f"rope_append-{dtype}-{heads}-{kv_heads}-{size}"
    kernel = rope_append.declare(dtype)
    return Case(name, kernel, shapes, launch, {}, loaded, {"frequencies": _angles}, tolerance=2e-6, scale=4.0)


def _caches(rows: int, kv_heads: int, size: int) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(("k_cache", "v_cache"), (rows, kv_heads, size))


def _attention(
    heads: int, kv_heads: int, size: int, dtype: DType, positions: tuple[int, ...], launch: Launch | None = None
) -> Case:
    shapes = dict.fromkeys(("q", "y"), (heads, size)) | _caches(max(positions) + 1, kv_heads, size)
    launch = launch or attention.launch_for(heads)
    loaded = tuple({"pos": position} for position in positions)
    name = f"attention-{dtype}-{heads}-{kv_heads}-{size}-{_named(launch)}"
    return Case(name, attention.declare(dtype), shapes, launch, {}, loaded)


def _split(
    heads: int,
    kv_heads: int,
    size: int,
    splits: int,
    dtype: DType,
    positions: tuple[int, ...],
    launch: Launch | None = None,
) -> Case:
    shapes = {"q": (heads, size), "partial": (splits, heads, size), "statistics": (splits, heads, 2)}
    shapes |= _caches(max(positions) + 1, kv_heads, size)
    launch = launch or attention_split.launch_for(kv_heads, splits)
    loaded = tuple({"pos": position} for position in positions)
    name = f"attention_split-{dtype}-{heads}-{kv_heads}-{size}-by-{splits}-{_named(launch)}"
    kernel = attention_split.declare(dtype)
    return Case(name, kernel, shapes, launch, {"splits": splits}, loaded, scale=4.0)


def _statistics(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Of parts of which some are empty, but not the first."""
    values = np.stack((chooser.normal(size=shape[:2]) * 5, chooser.uniform(1, 50, shape[:2])), axis=2)
    empty = chooser.random(shape[0]) < 0.3
    empty[0] = False
    values[empty] = -np.inf, 0.0
    return values


def _merge(splits: int, heads: int, size: int) -> Case:
    shapes = {"partial": (splits, heads, size), "statistics": (splits, heads, 2), "y": (heads, size)}
    launch = attention_merge.launch_for(heads, size)
    name = f"attention_merge-{heads}-{size}-by-{splits}"
    return Case(name, attention_merge.KERNEL, shapes, launch, make={"statistics": _statistics})


def _equal_logits(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Few different values, so that many are greatest; both zeros, which are equal."""
    return chooser.choice(np.array([-3.0, -0.0, 0.0]), shape)


def _some_nan(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.where(chooser.random(shape) < 0.05, np.nan, np.where(chooser.random(shape) < 0.2, np.inf, -np.inf))


_LOGITS: dict[str, Make] = {
    "normal": lambda chooser, shape: chooser.normal(size=shape) * 5,
    "equal": _equal_logits,
    "nan": _some_nan,
    "lowest": lambda _, shape: np.full(shape, -np.inf),
}


def _argmax(vocabulary: int, parts: int, kind: str) -> Iterator[Case]:
    make = {"logits": _LOGITS[kind]}
    loaded = ({"index": 0}, {"index": 2})
    size = f"{vocabulary}-{kind}"
    shapes = {"logits": (vocabulary,), "token": (3,)}
    yield Case(f"argmax-{size}", argmax.KERNEL, shapes, argmax.LAUNCH, {}, loaded, make)
    shapes = {"logits": (vocabulary,), "best": (parts,), "place": (parts,)}
    launch = argmax_partial.launch_for(parts)
    yield Case(f"argmax_partial-{size}-{parts}", argmax_partial.KERNEL, shapes, launch, {"parts": parts}, make=make)
    shapes = {"best": (parts,), "place": (parts,), "token": (3,)}
    make = {"best": _LOGITS[kind], "place": lambda _, shape: 3 * np.arange(shape[0]) + 1}
    launch = argmax_merge.launch_for(parts)
    yield Case(f"argmax_merge-{kind}-{parts}", argmax_merge.KERNEL, shapes, launch, {}, loaded, make)


def _read_all(rows: int, words: int, launch: Launch) -> Case:
    shapes = {"x": (rows, words), "y": (rows,)}
    make: dict[str, Make] = {"x": lambda chooser, shape: chooser.integers(-(2**31), 2**31, shape)}
    return Case(f"read_all-{rows}x{words}-{_named(launch)}", read_all.KERNEL, shapes, launch, make=make)


def _advance(position: int, chosen: int) -> Case:
    shapes = dict.fromkeys(("chosen", "count", "token", "position", "running"), (1,)) | {"tokens": (5,)}
    make: dict[str, Make] = {
        "chosen": lambda _, shape: np.full(shape, chosen),
        "position": lambda _, shape: np.full(shape, position),
    }
    loaded = tuple({"index": index, "limit": limit} for index, limit in ((0, 5), (4, 5), (1, 2), (0, 1)))
    constants = {"end": 9, "context": 20}
    name = f"advance-{position}-{chosen}"
    return Case(name, advance.KERNEL, shapes, advance.LAUNCH, constants, loaded, make)


def small_cases() -> Iterator[Case]:
    """Every plain kernel and every path of its code, in sizes for the CPU; derived ones where none are written."""
    from tests.kernels.discovered import derived_cases
    from tests.kernels.fast_cases import few_cases
    from tests.kernels.packed_cases import exact_cases

    written = *written_cases(), *exact_cases()
    yield from written
    yield from derived_cases({case.kernel.implementations[0].entry for case in (*written, *few_cases())})


def written_cases() -> Iterator[Case]:
    """Those that are aimed at paths of the code."""
    yield _gemv(37, 576, BF16)
    yield _gemv(37, 576, BF16, _grid(1, 128))  # tiles after the first, two chunks of sums
    yield _gemv(9, 2048, F32, _grid(2, 128))  # two warps a row
    yield _gemv(9, 8192, BF16, _grid(1, 256))  # four warps a row, of eight
    yield _gemv(5, 20000, F16, _grid(3, 128))  # rows that do not fit in registers
    yield _gemv(3, 20, BF16)  # rows of which no vector is aligned
    yield _gemv(1, 8, F32)
    yield _gemv(21, 64, BF16, Launch((2, 1, 2), (8, 4, 2)))
    yield _rmsnorm(576)
    yield _rmsnorm(1002, _grid(3, 64))
    yield _head_norm(9, 128)
    yield _head_norm(5, 40, _grid(2, 32))  # several heads a warp, lanes without an element
    yield from _elementwise(700)
    yield from _elementwise(2500, _grid(3, 32))
    yield from _elementwise(500, Launch((2, 3, 1), (16, 2, 2)))
    yield _embedding(40, BF16)
    yield _embedding(40, F16)
    yield _rope(4, 2, 16, F32, (0, 1, 77))
    yield _rope(3, 3, 12, BF16, (0, 900))
    yield _rope(2, 1, 64, F16, (5,))
    yield _attention(4, 2, 64, BF16, (0, 1, 63, 200))
    yield _attention(6, 2, 8, F32, (0, 13), _grid(2, 64))  # three heads a CTA
    yield _attention(2, 1, 6, BF16, (0, 40), _grid(1, 32))  # not aligned; a CTA with two items
    yield _attention(2, 2, 200, F32, (9,))  # more than a vector a lane, and a piece missing
    yield _split(4, 1, 64, 5, BF16, (0, 3, 130))
    yield _split(4, 2, 64, 2, BF16, (200,))  # two tiles a part
    yield _split(6, 2, 128, 3, F16, (7, 64), _grid(2, 128))  # several parts a CTA
    yield _split(10, 1, 16, 2, F32, (30,))  # more heads than are taken together
    yield _merge(5, 3, 24)
    yield from _argmax(1000, 7, "equal")
    yield from _argmax(70, 70, "nan")
    yield _advance(3, 7)
    yield _advance(19, 7)
    yield _advance(3, 9)
    yield _read_all(5, 4100, _grid(2, 128))  # a thread's loads are not all there; several rows a CTA
    yield _read_all(3, 77, _grid(3, 64))  # rows that are not aligned


def all_cases() -> Iterator[Case]:
    """The small ones, and the shapes of models."""
    yield from small_cases()
    for dtype in (BF16, F16, F32):
        for rows in (1, 3, 576):
            for columns in (8, 576, 1536, 2048, 8192, 20000):
                yield _gemv(rows, columns, dtype)
        yield _gemv(2048, 8192, dtype)
        yield _gemv(3001, 2048, dtype, _grid(132, 256))
        yield _embedding(2048, dtype)
        for size in (64, 128):
            lengths = (0, 1, 31, 64, 511, 2047, 2999)
            yield _attention(9, 3, size, dtype, lengths)
            yield _attention(8, 2, size, dtype, lengths, _grid(2, 256))
            yield _split(9, 3, size, 42, dtype, lengths)
            yield _split(32, 8, size, 16, dtype, lengths)
        yield _split(14, 2, 64, 32, dtype, (0, 100, 2000))
        yield _rope(32, 8, 64, dtype, (0, 511, 8191))
        yield _rope(9, 3, 128, dtype, (2047,))
    for width in (576, 2048, 4099, 16384):
        yield _rmsnorm(width)
        yield from _elementwise(width)
    for splits in (1, 16, 42, 100):
        yield _merge(splits, 32, 64)
        yield _merge(splits, 9, 128)
    for kind in _LOGITS:
        yield from _argmax(128256, 132, kind)
        yield from _argmax(49152, 128, kind)
