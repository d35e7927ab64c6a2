"""Where buffers are: the caller's memory, weights, out of memory."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.ir.builder import GraphBuilder
from forerun.ir.types import BufferRole, DType
from forerun.kernels.builtin import KERNELS
from forerun.runtime.cuda import CudaError, CudaTarget
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.graphs import I32, N, numbers, started
from tests.runtime.cuda.support import W, X, i32_at, load, rich, twice


class Foreign:
    """An array of another library in the fake driver's memory."""

    def __init__(self, api: FakeCuda, values: np.ndarray, **changes: Any) -> None:
        _, self.address = api._allocate(api.memory, values.nbytes)
        self._api = api
        self._values = values
        self._changes = changes
        self.view = i32_at(self.address, values.size)
        self.view[:] = values.ravel()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        described = {"shape": self._values.shape, "typestr": self._values.dtype.str, "data": (self.address, False)}
        return {**described, "strides": None, "version": 3, **self._changes}

    def free(self) -> None:
        del self._api.memory[self.address]


# Memory of the caller


def test_memory_of_the_caller_is_used_in_place(api: FakeCuda) -> None:
    x, total, y = Foreign(api, X), Foreign(api, X), Foreign(api, X)
    with on_memory(x=x, total=total, y=y) as program:
        program.run({})
        np.testing.assert_array_equal(total.view, 2 * X + X + 100)
        np.testing.assert_array_equal(y.view, total.view)
        program.run({"x": X + 1})
        np.testing.assert_array_equal(x.view, X + 1)
        assert program.buffer("total").address == total.address
        program.reset()
        assert total.view.tolist() == [0] * N
    for array in (x, total, y):
        array.free()


def on_memory(**memory: Foreign) -> Any:
    return forerun.compile(rich(), CudaTarget(), None, weights=W, memory=memory, instruments=())


def test_memory_that_does_not_fit(api: FakeCuda) -> None:
    good, wide = Foreign(api, X), Foreign(api, np.arange(2 * N, dtype=np.int32))
    shifted = {**good.__cuda_array_interface__, "data": (wide.address + 4, False)}
    view = SimpleNamespace(__cuda_array_interface__=shifted)
    strided = Foreign(api, X, strides=(8,))
    fixed = SimpleNamespace(__cuda_array_interface__={**good.__cuda_array_interface__, "data": (good.address, True)})
    other = Foreign(api, X.astype(np.float32), typestr="<f4")
    for memory, expected in (
        ({"z": good}, "the graph has no buffer '%z'"),
        ({"w": good}, r"memory '%w' is a weight.*\nhint: pass it in weights="),
        ({"sum": good}, r"memory '%sum' is a temp.*\nhint: temporaries are the program's own"),
        ({"x": X}, "memory '%x': ndarray is not an array on a GPU"),
        ({"x": wide}, r"memory '%x': expected i32\[8\], given i32\[16\]"),
        ({"x": other}, r"expected i32\[8\], given f32\[8\]"),
        ({"x": strided}, "not dense and row-major"),
        ({"total": fixed}, "memory '%total': its owner lets nobody write it"),
        ({"x": view}, "not at a multiple of 16 bytes"),
        ({"x": good, "y": good}, "memory '%x' and '%y' overlap"),
        ({"there": good}, "memory '%there' is on the host"),
    ):
        with pytest.raises(InvalidInput, match=expected):
            on_memory(**memory)
    for array in (good, wide, strided, other):
        array.free()


def test_the_reference_target_has_no_memory_of_the_caller() -> None:
    with pytest.raises(Unsupported, match="target 'reference' cannot use memory of yours"):
        forerun.compile(twice(), memory={"x": X})
    with forerun.compile(twice()) as program:
        assert program.facts == {}
        for use in (program.launch, program.synchronize, lambda: program.buffer("x")):
            with pytest.raises(Unsupported, match="needs a GPU"):
                use()


def doubled(align: int) -> Any:
    """y = 2 w, by a kernel that needs an alignment; x, which is added, stands in for memory of the caller."""
    kernel = KERNELS["add_i32"]
    parameters = tuple(replace(p, align=align) for p in kernel.buffer_parameters)
    builder = GraphBuilder("doubled")
    w, x, y = builder.weight("w", I32, (N,)), builder.input("x", I32, (N,)), builder.output("y", I32, (N,))
    builder.launch(replace(kernel, parameters=parameters), a=w, b=x, y=y)
    return builder.build()


def test_memory_of_the_caller_is_aligned_as_kernels_need_it(api: FakeCuda) -> None:
    wide = Foreign(api, np.arange(4 * N, dtype=np.int32))
    assert wide.address % 64 == 0
    x = {**wide.__cuda_array_interface__, "shape": (N,), "data": (wide.address + 16, False)}
    view = SimpleNamespace(__cuda_array_interface__=x)
    with pytest.raises(InvalidInput, match=r"memory '%x': the array begins at .*, not at a multiple of 64 bytes"):
        load(doubled(64), W, memory={"x": view})
    load(doubled(16), W, memory={"x": view}).close()
    wide.free()


def test_weights_that_are_not_aligned_as_kernels_need_it_are_copied(api: FakeCuda) -> None:
    wide = Foreign(api, np.arange(4 * N, dtype=np.int32))
    w = SimpleNamespace(
        __cuda_array_interface__={**wide.__cuda_array_interface__, "shape": (N,), "data": (wide.address + 16, False)}
    )
    for align in (16, 64):
        program = load(doubled(align), {"w": w})
        assert (program.buffer("w").address == wide.address + 16) == (align == 16)
        assert program.buffer("w").address % align == 0
        np.testing.assert_array_equal(program.run({"x": X})["y"], np.arange(4, 4 + N) + X)
        program.close()
    wide.free()


def test_weights_on_the_device(api: FakeCuda) -> None:
    w = Foreign(api, W["w"], stream=1)
    before = len(api.memory)
    program = load(rich(), {"w": w})
    assert program.buffer("w").address == w.address
    np.testing.assert_array_equal(program.run({"x": X})["y"], X + 100)
    program.close()
    assert len(api.memory) == before
    w.free()


def test_weights_on_the_device_do_not_overlap_what_is_written(api: FakeCuda) -> None:
    both = Foreign(api, X)
    with pytest.raises(InvalidInput, match=r"memory '%(total|w)' and '%(total|w)' overlap"):
        load(rich(), {"w": both}, memory={"total": both})
    both.free()


def test_weights_that_share_an_allocation_are_copied(api: FakeCuda) -> None:
    builder, _, _ = started("tied")
    builder.allocation("both", 8 * N)
    for i, name in enumerate(("one", "two")):
        builder.buffer(name, I32, (N,), BufferRole.WEIGHT, allocation="both", offset=4 * N * i)
        builder.copy(name, builder.output(f"{name}_copy", I32, (N,)))
    one = Foreign(api, X)
    program = load(builder.build(), {"one": one, "two": 3 * X})
    given = program.run({"x": X})
    np.testing.assert_array_equal(given["one_copy"], X)
    np.testing.assert_array_equal(given["two_copy"], 3 * X)
    program.close()
    one.free()


def test_an_input_on_the_device(api: FakeCuda) -> None:
    program, x = load(twice()), Foreign(api, X)
    assert program.run({"x": x})["y"].tolist() == (2 * X).tolist()
    program.close()
    x.free()


# Weights and memory


def test_weights_go_in_chunks_with_progress(api: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forerun.runtime.cuda.memory.upload._CHUNK", 1000)
    builder, _, _ = started("large")
    values = {name: np.random.default_rng(1).integers(0, 99, 1100).astype(np.int32) for name in ("v", "w")}
    for name in values:
        builder.copy(builder.weight(name, I32, (1100,)), builder.output(f"{name}_copy", I32, (1100,)))
    seen: list[tuple[int, int]] = []
    asked: list[str] = []

    class Lazy(dict[str, np.ndarray]):
        def __getitem__(self, name: str) -> np.ndarray:
            asked.append(name)
            return super().__getitem__(name)

    program = load(builder.build(), Lazy(values), progress=lambda done, total: seen.append((done, total)))
    assert asked == ["v", "w"]
    assert seen[-1] == (8800, 8800)
    assert [done for done, _ in seen] == [1000, 2000, 3000, 4000, 4400, 5400, 6400, 7400, 8400, 8800]
    given = program.run({"x": X})
    for name, value in values.items():
        np.testing.assert_array_equal(given[f"{name}_copy"], value)
    program.close()


def test_bf16_weights(api: FakeCuda) -> None:
    import ml_dtypes

    builder = GraphBuilder("bf16")
    builder.copy(builder.weight("w", DType.BF16, (5, 3)), builder.output("y", DType.BF16, (5, 3)))
    values = np.arange(15).reshape(5, 3).astype(ml_dtypes.bfloat16)
    program = load(builder.build(), {"w": values})
    np.testing.assert_array_equal(program.run({})["y"], values)
    program.close()


def test_device_memory_comes_in_few_pieces(api: FakeCuda) -> None:
    program = load(rich(), W)
    assert api.log.count("cuMemAlloc") == 4  # one is the copy of state
    assert {program.buffer(name).address % 256 for name in ("x", "y", "sum", "total", "w", "here")} == {0}
    program.close()


def test_out_of_memory_says_what_was_asked_and_what_is_free(api: FakeCuda) -> None:
    api.capacity = 100_000
    builder = GraphBuilder("huge")
    builder.fill(builder.output("huge", I32, (1_000_000,)))
    with pytest.raises(CudaError) as caught:
        load(builder.build())
    assert caught.value.is_out_of_memory
    assert caught.value.exit_status == 3
    expected = "4 MB were asked for inputs, outputs and temporaries; 100 kB of 100 kB are free"
    assert str(caught.value).splitlines()[0].endswith(f"there is not enough memory: {expected}")


def test_other_devices_are_not_for_one_graph(api: FakeCuda) -> None:
    from forerun.ir.types import Place

    builder, _, y = started("two")
    builder.copy(y, builder.buffer("far", I32, (N,), BufferRole.OUTPUT, place=Place("device", 1)))
    with pytest.raises(Unsupported, match=r"allocation '\$far' is on device:1"):
        load(builder.build())


def test_numbers_of_inputs(api: FakeCuda) -> None:
    program = load(twice())
    assert program.run({"x": numbers(3).tolist()})["y"].tolist() == (2 * numbers(3)).tolist()
    program.close()
