"""Kernels of one's own: what ``forerun.kernel`` makes of functions, and what it refuses."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.ir.kernel import Kernel, Wait
from forerun.ir.launches import ANY_LAUNCH
from forerun.ir.text import print_kernel
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.toolchain import compile_unit, missing_toolchain
from forerun.support.diagnostics import InvalidInput


def load(w: Any) -> Any:
    return w


def combine(x: Any, load: Any) -> Any:
    return x * load


@forerun.phase(defines="low, high", writes="z")
def split(x: Any) -> Any:
    return x, x - 1, x + 1


def total(low: Any, high: Any) -> Any:
    return low + high


@forerun.kernel("table: f32[V, D], token: scalar i32 -> y: f32[D]", reads="table[token:token + 1]")
def gather(table: Any) -> Any:
    return table[0]


@forerun.kernel("x: f32[N], m: f32[R, N], row: scalar i32, by: scalar f32 -> m[row:row + 1]", reads="m[row:row + 1]")
def scale_row(x: Any, m: Any, by: float) -> Any:
    return by * m + x


@forerun.phase(asynchronous=True)
def fetch(w: Any) -> Any:
    return w


def identity(x: Any) -> Any:
    return x


def body(kernel: Kernel) -> list[str]:
    lines = [line.strip() for line in print_kernel(kernel).splitlines()]
    return [line.partition(" ref ")[0] for line in lines[2:-2]]


def test_functions_are_phases() -> None:
    made = forerun.kernel("w: f32[N], x: f32[N] -> y: f32[N]", load, "wait", combine, name="scale")
    assert print_kernel(made).splitlines()[0] == "kernel @scale(w: f32[N], x: f32[N], y: f32[N]) {"
    assert body(made) == ["phase load reads w defines load", "wait", "phase combine reads x uses load writes y"]
    assert made == forerun.kernel("w: f32[N], x: f32[N] -> y: f32[N]", load, Wait(), combine, name="scale")


def test_phases_say_what_arguments_do_not() -> None:
    made = forerun.kernel("x: f32[N] -> y: f32[N], z: f32[N]", split, total)
    assert made.name == "total"
    assert body(made) == ["phase split reads x defines low, high writes z", "phase total uses low, high writes y"]
    fetched = forerun.kernel("w: f32[N], x: f32[N] -> y: f32[N]", fetch, combine_fetched)
    assert body(fetched)[0].startswith("phase fetch reads w defines fetch")
    assert fetched.phases[0].asynchronous


def combine_fetched(x: Any, fetch: Any) -> Any:
    return x * fetch


def test_regions_and_scalars() -> None:
    assert body(gather.KERNEL) == ["phase gather reads table[token:token + 1] writes y"]
    row = "m[row:row + 1]"
    phase = scale_row.KERNEL.phases[0]
    assert [str(access) for access in (*phase.reads, *phase.writes)] == ["x", row, row]
    assert phase.scalars == ("by",)


def test_a_decorated_function_is_still_one() -> None:
    assert gather(np.eye(3)).tolist() == [1, 0, 0]
    assert gather.KERNEL.launches is None
    assert forerun.kernel("x: f32[N] -> y: f32[N]", identity, launches=ANY_LAUNCH).launches == ANY_LAUNCH


@pytest.mark.parametrize("seed", range(5))
def test_kernels_of_ones_own_run_under_any_schedule(seed: int) -> None:
    build = forerun.GraphBuilder("g")
    x, row, w = build.input("x", "f32", 4), build.input("row", "i32", 1, bounds=(0, 2)), build.weight("w", "f32", 4)
    m, z = build.state("m", "f32", (3, 4)), build.output("z", "f32", 4)
    t, y = build.temp("t", "f32", 4), build.output("y", "f32", 4)
    build.launch(forerun.kernel("w: f32[N], x: f32[N] -> y: f32[N]", load, combine), w, x, t)
    build.launch(scale_row, t, m, row, 2.0)
    build.launch(forerun.kernel("x: f32[N] -> y: f32[N], z: f32[N]", split, total), t, y, z)
    target = forerun.ReferenceTarget("adversarial", seed=seed)
    with forerun.compile(build.build(), target, weights={"w": [1, 2, 3, 4]}) as program:
        first = program(x=[1, 1, 1, 1], row=1)
        program(x=[1, 1, 1, 1], row=1)
        assert first["y"].tolist() == [2, 4, 6, 8]
        assert first["z"].tolist() == [1, 2, 3, 4]
        assert program.read("m").tolist() == [[0] * 4, [3, 6, 9, 12], [0] * 4]


def late(eps: Any, x: Any) -> Any:
    return x


SIMPLE = "x: f32[N] -> y: f32[N]"


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: forerun.kernel(identity), r'needs its signature, .*\nhint: such as @forerun.kernel\("x: f32\[N\]'),
        (
            lambda: forerun.kernel("x: f33[N] -> y: f32[N]")(identity),
            r"'identity': unknown .*'f33', at column 4 of .*\n.*'f32'",
        ),
        (lambda: forerun.kernel("x: f32[N] => y: f32[N]")(identity), "expected ',', '->' or the end, found '='"),
        (lambda: forerun.kernel("x: f32[N]")(identity), "nothing is written"),
        (lambda: forerun.kernel("")(identity), "argument 'x' is not a buffer"),
        (lambda: forerun.kernel("x: f32[N] -> y")(identity), r"hint: y is new, so say what it is, such as y: f32\[N\]"),
        (lambda: forerun.kernel("x: f32[N] -> x: f32[N]")(identity), "hint: x has its type already"),
        (lambda: forerun.kernel("x: f32[N], x: f32[N] -> y: f32[N]")(identity), "two parameters have the same name"),
        (lambda: forerun.kernel("x: scalar f32 -> x")(identity), "scalar 'x' cannot be written"),
        (lambda: forerun.kernel("x: f32[N], w: f32[N] -> y: f32[N]")(identity), "no function has an argument 'w'"),
        (
            lambda: forerun.kernel("x: f32[N], eps: scalar f32 -> y: f32[N]")(late),
            "argument 'x' stands too late",
        ),
        (lambda: forerun.kernel(SIMPLE)(combine), r"argument 'load' is not a buffer"),
        (lambda: forerun.kernel(SIMPLE)(lambda x: x), "is not a function that graphs can name"),
        (lambda: forerun.kernel(SIMPLE)(np.add), "is not a step of a kernel"),
        (lambda: forerun.kernel(SIMPLE, identity, "wiat"), "'wiat' is not a step of a kernel"),
        (lambda: forerun.kernel(SIMPLE, "wait"), "has at least one function"),
        (lambda: forerun.kernel(SIMPLE, reads="w[0:1]")(identity), "has no argument 'w' to read"),
        (lambda: forerun.kernel(SIMPLE, reads="y[0:1]")(identity), "has no argument 'y' to read"),
        (lambda: forerun.kernel(SIMPLE, reads="x[0]")(identity), "hint: one element is written 0:1"),
        (lambda: forerun.kernel(SIMPLE, split, identity), "'z' is not a buffer of the kernel"),
        (lambda: forerun.kernel(SIMPLE, cuda="no.cu")(identity), "there is no file .*no.cu"),
        (lambda: forerun.kernel(SIMPLE, cuda="../x.cu")(identity), "neither CUDA C\\+\\+ nor the name of a .cu file"),
        (lambda: forerun.kernel(SIMPLE, cuda="x.ptx")(identity), "neither CUDA C\\+\\+ nor the name of a .cu file"),
    ],
)
def test_what_is_no_kernel(act: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        act()


CUDA = """
struct Locals {};

__device__ __forceinline__ void triple(const Arguments& a, Locals&) {
    for_each_element<Launch, Dims::N>([&](int, int i) { a.y[i] = FACTOR * load_global(a.x + i); });
}
"""
MODULE = """
import forerun

@forerun.kernel("x: f32[N] -> y: f32[N]", cuda={cuda!r})
def triple(x):
    return 3 * x
"""


SCRIPT = """
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.toolchain import compile_unit

build = forerun.GraphBuilder("g")
build.launch(triple, build.input("x", "f32", 64), build.output("y", "f32", 64))
((unit,), _) = units(build.build())
assert compile_unit(unit.source).entries[unit.entry].instructions
print(__name__, "compiles", triple.KERNEL.implementations[0].source)
"""


@pytest.mark.toolchain
@pytest.mark.parametrize("inline", [True, False])
def test_cuda_beside_it(inline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (missing := missing_toolchain()) is not None:
        pytest.skip(missing)
    name = f"own_{'inline' if inline else 'file'}"
    text = CUDA.replace("FACTOR", "3.0f") if inline else f'#include "factor.cuh"\n{CUDA}'
    (tmp_path / f"{name}.py").write_text(MODULE.format(cuda=text if inline else "triple.cu"))
    (tmp_path / "triple.cu").write_text(text)
    (tmp_path / "factor.cuh").write_text("#define FACTOR 3.0f\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module(name)
    try:
        build = forerun.GraphBuilder("g")
        build.launch(module.triple, build.input("x", "f32", 64), build.output("y", "f32", 64))
        ((unit,), _) = units(build.build())
        found = compile_unit(unit.source).entries[unit.entry]
        assert any(i.opcode.startswith("FMUL") for i in found.instructions)
    finally:
        del sys.modules[name]


@pytest.mark.toolchain
def test_cuda_beside_a_script_that_is_not_imported_again(tmp_path: Path) -> None:
    if (missing := missing_toolchain()) is not None:
        pytest.skip(missing)
    lines = MODULE.format(cuda="triple.cu"), SCRIPT
    (tmp_path / "script.py").write_text("".join(lines))
    (tmp_path / "triple.cu").write_text(f'#include "factor.cuh"\n{CUDA}')
    (tmp_path / "factor.cuh").write_text("#define FACTOR 3.0f\n")
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "__main__ compiles script:triple.cu\n"), done.stderr


def test_another_text_is_another_source() -> None:
    first, second = (forerun.kernel(SIMPLE, identity, cuda=f"struct Locals {{}}; // {i}\n") for i in (1, 2))
    assert first.implementations != second.implementations
    build = forerun.GraphBuilder("g")
    x, y = build.input("x", "f32", 4), build.output("y", "f32", 4)
    build.launch(first, x, y)
    with pytest.raises(InvalidInput, match="was declared differently"):
        build.launch(second, x, y)
