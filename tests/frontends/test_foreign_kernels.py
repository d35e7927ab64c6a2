"""Kernels of PTX, NVRTC and Triton in graphs of one's own: phases from the text, waits and early loads put into it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import forerun
from forerun.frontends.foreign_kernels import ForeignKernel, foreign_kernel
from forerun.ir.graph import Graph
from forerun.ir.kernel import Phase, Wait
from forerun.ir.nodes import KernelNode, Launch
from forerun.passes.infra.manager import PassManager
from forerun.ptx import parse_module, summarise
from forerun.runtime.cuda.codegen.build import build_code
from forerun.support.diagnostics import InvalidInput
from tests.ptx.texts import DATA

GEMV = "y: bf16[N], w: bf16[N, K], x: bf16[K], rows: scalar i32, columns: scalar i32"

COPY = """.version 9.0
.target sm_90
.visible .entry copy(.param .u64 .ptr .global x, .param .u64 .ptr .global y, .param .u32 n)
{
.reg .b64 %rd<3>; .reg .b32 %r<2>;
ld.param.u64 %rd1, [x];
ld.param.u64 %rd2, [y];
ld.global.u32 %r1, [%rd1];
st.global.u32 [%rd2], %r1;
ret;
}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path / "cache"))


def triton(name: str, shared: int = 64) -> Any:
    return SimpleNamespace(asm={"ptx": DATA[name]}, metadata=SimpleNamespace(shared=shared))


def chain(made: ForeignKernel) -> Graph:
    """Two products, one after the other, on vectors of the same type."""
    builder = forerun.GraphBuilder("chain")
    x, y = builder.input("x", "bf16", 64), builder.output("y", "bf16", 64)
    between = builder.temp("between", "bf16", 64)
    own = {"rows": 64, "columns": 64, **(made.scratch or {})}
    for number, (source, target) in enumerate(((x, between), (between, y))):
        weight = builder.weight(f"w{number}", "bf16", (64, 64))
        builder.launch(made, launch=made.launch(64), w=weight, x=source, y=target, **own)
    return builder.build()


def test_a_kernel_of_triton() -> None:
    made = foreign_kernel(triton("triton_gemv"), GEMV, fills=["y"])
    assert (made.threads, made.shared_bytes, made.reason) == (128, 64, "")
    assert made.scratch == {"scratch0": 0, "scratch1": 0}
    assert made.launch(7, 2) == Launch((7, 2, 1), (128, 1, 1), 64)
    phases = {phase.name: phase for phase in made.KERNEL.phases}
    assert phases.keys() == {"load_w", "load_x", "store"}
    assert [access.parameter for access in phases["store"].writes] == ["y"]
    assert phases["store"].reads == ()


def test_passes_and_code_generation_take_it() -> None:
    made = foreign_kernel(triton("triton_gemv"), GEMV, fills=["y"])
    after = PassManager("exact").run(chain(made)).graph
    nodes = [node for node in after if isinstance(node, KernelNode) and node.kernel.startswith("gemv")]
    assert [after.kernels[node.kernel].has(Wait) for node in nodes] == [False, True]
    code = build_code(after, "sm_90a")
    for node in nodes:
        kernel = after.kernels[node.kernel]
        (text,) = {unit.source.code for number, unit in enumerate(code.units) if code.kernel_of[number] == node.kernel}
        summary = summarise(parse_module(text.decode()).entry("gemv"))
        assert bool(summary.waits) == kernel.has(Wait)
        steps = (kernel.roles or ())[0].steps
        if kernel.has(Wait):
            ahead = [step.name for step in steps[: steps.index(Wait())] if isinstance(step, Phase)]
            loads = [access for access in summary.global_accesses if not access.after_wait]
            assert ahead == ["load_w"] or not loads


def test_text_and_file(tmp_path: Path) -> None:
    path = tmp_path / "copy.ptx"
    path.write_text(COPY)
    of_file = foreign_kernel(path, "x: u32[1], y: u32[1], n: scalar i32")
    of_text = foreign_kernel(COPY, "x: u32[1], y: u32[1], n: scalar i32")
    assert of_file.KERNEL.implementations[0].source == str(path)
    assert Path(of_text.KERNEL.implementations[0].source).read_text() == COPY
    assert of_file.KERNEL.phases == of_text.KERNEL.phases
    # Which bytes it stores is not known, so it counts as reading them.
    assert [access.parameter for access in of_file.KERNEL.phases[-1].reads] == ["y"]
    with pytest.raises(InvalidInput, match=r"no \.reqntid") as caught:
        of_file.launch(1)
    assert "threads=128" in str(caught.value)
    assert of_file.launch(1, threads=32).block == (32, 1, 1)


def test_what_is_not_understood_is_a_black_box() -> None:
    lines = COPY.replace("ld.global.u32 %r1, [%rd1];", "ld.global.u64 %rd1, [%rd1];\nld.global.u32 %r1, [%rd1];")
    made = foreign_kernel(lines, "x: u32[1], y: u32[1], n: scalar i32")
    assert made.KERNEL.is_black_box
    assert "a pointer that is not a parameter" in made.reason


@pytest.mark.parametrize(
    ("source", "parameters", "more", "message"),
    [
        (COPY, "x: u32[1]", {}, "parameter 2 of its PTX has 4 bytes, and is not declared"),
        (COPY, "x: u32[1], y: u32[1], n: scalar i64", {}, "parameter 2 of its PTX has 4 bytes, and 'n' has 8"),
        (
            COPY,
            "x: u32[1], y: u32[1], n: scalar i32, m: scalar i32",
            {},
            "4 parameters are declared, and its PTX has 3",
        ),
        (COPY, "x: scalar u64, y: u32[1], n: scalar i32", {}, "accesses memory through 'x', a scalar"),
        (COPY, "x: u32[1], y: u32[1], n: scalar i32", {"fills": ["x"]}, "stores nothing through 'x'"),
        (COPY, "x: u32[1], y: u32[1], n: scalar i32", {"fills": ["z"]}, "stores nothing through 'z'"),
        (COPY, "x: u32[1], y: u32[1], n: scalar i32", {"entry": "cpoy"}, "the PTX has no kernel 'cpoy'"),
        (COPY, "x: u33[1]", {}, "u33"),
        (".version 9.0\n.target sm_90\n// .entry\n", "x: u32[1]", {}, "it has none"),
        (7, "x: u32[1]", {}, "int has no PTX"),
    ],
)
def test_what_does_not_fit_is_refused(source: Any, parameters: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        foreign_kernel(source, parameters, **more)
    assert message in str(caught.value)
