"""What no code is made for: every message, and that it names the node and the kernel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from forerun.ir.affine import affine
from forerun.ir.kernel import (
    Access,
    Barrier,
    BufferParameter,
    Implementation,
    Kernel,
    Phase,
    Role,
    ScalarParameter,
)
from forerun.ir.nodes import BufferArgument, ConstantArgument, Launch, ScalarLoad
from forerun.ir.region import region
from forerun.ir.trust import trusting
from forerun.ir.types import DType
from forerun.kernels.builtin import KERNELS
from forerun.runtime.cuda.codegen.specialise import ForeignModule, Slot
from forerun.support.diagnostics import Unsupported
from tests.runtime.cuda.test_codegen import LAUNCH, unit_of

TURN = KERNELS["turn_i32"]
VECTOR = BufferParameter("v", DType.I32)


def refusal(kernel: Kernel, *arguments: object, **options: object) -> str:
    with pytest.raises(Unsupported) as caught:
        unit_of(kernel, *arguments, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    start = f"node 'n', kernel '{kernel.name}': "
    assert message.startswith(start)
    return message.removeprefix(start)


def hashed(function: str, **parts: object) -> Kernel:
    phase = Phase("p", reference=f"forerun.testing.hashing:{function}", **parts)  # type: ignore[arg-type]
    return Kernel("k", (VECTOR, ScalarParameter("s", DType.I32)), (Role("all", (phase,)),))


def test_no_implementation() -> None:
    message = refusal(replace(TURN, implementations=()))
    assert message.startswith("no implementation in CUDA (it has none at all)\nhint: declare one")
    metal = replace(TURN, implementations=(Implementation("metal", "turn.metal", "turn"),))
    assert refusal(metal).startswith("no implementation in CUDA (it has metal)")


def test_black_box() -> None:
    assert refusal(Kernel("k", (VECTOR,))).startswith("no implementation in CUDA (it has none at all)")
    assert refusal(replace(TURN, roles=None)) == "a black box cannot be compiled: its body is what the entry is made of"


def test_source_that_cannot_be_read(tmp_path: Path) -> None:
    for source, reason in (
        ("forerun.kernels.cuda:none.cu", "No such file or directory"),
        ("no_such_package:turn.cu", "No module named 'no_such_package'"),
        (str(tmp_path / "turn.cu"), "No such file or directory"),
    ):
        for language in ("cuda", "ptx", "cubin"):
            with trusting("no_such_package", tmp_path / "turn.cu"):
                message = refusal(replace(TURN, implementations=(Implementation(language, source, "turn"),)))
            assert message.startswith(f"its {language}, {source}, cannot be read: ")
            assert reason in message


def test_grid_barrier() -> None:
    kernel = TURN.with_roles("turn", (Role("all", (*TURN.phases, Barrier("grid"))),))
    assert refusal(kernel) == "a barrier of the whole grid is not generated: all CTAs would have to be resident"


def test_roles_that_do_not_fit_the_launch() -> None:
    two = TURN.with_roles("turn", (Role("a", TURN.phases), Role("b")))
    message = "roles are groups of warps, and 48 threads a CTA are not whole warps"
    assert refusal(two, launch=Launch(block=(48, 1, 1))) == message
    assert refusal(two, launch=Launch(block=(32, 1, 1))) == "its 2 roles need at least 2 warps a CTA, the launch has 1"
    three = TURN.with_roles("turn", (Role("a", TURN.phases, warps=2), Role("b")))
    assert refusal(three, launch=LAUNCH) == "its 2 roles need at least 3 warps a CTA, the launch has 2"


def test_phases_of_one_name() -> None:
    phases = (Phase("a.b"), Phase("a_b"))
    kernel = replace(TURN, roles=(Role("all", phases),))
    assert refusal(kernel) == "phases 'a.b' and 'a_b' would both be the function a_b"


def test_dimension_without_extent() -> None:
    kernel = replace(TURN, parameters=(BufferParameter("y", DType.I32, ("rows", "n")),))
    assert refusal(kernel) == "dimension 'rows' has no extent: 'y' has 2 dimensions, but %v has 1"
    assert refusal(replace(TURN, parameters=(BufferParameter("y", DType.I32, ()),))).startswith("a dimension has no")


def test_arguments_that_do_not_fit() -> None:
    assert refusal(TURN, {"y": ConstantArgument(1)}) == "no buffer is bound to 'y'"
    kernel = hashed("digest", defines=("x",), scalars=("s",))
    assert refusal(kernel, {"s": BufferArgument("v")}) == "no scalar is bound to 's'"


@pytest.mark.parametrize(
    ("dtype", "argument", "message"),
    [
        (DType.F16, ConstantArgument(1.0), "scalar 's' is f16, which cannot be passed by value: declare it f32"),
        (DType.BF16, ConstantArgument(1), "scalar 's' is bf16, which cannot be passed by value: declare it f32"),
        (DType.U8, ConstantArgument(-1), "scalar 's' is u8, but -1 is bound to it"),
        (DType.I32, ConstantArgument(2**31), "scalar 's' is i32, but 2147483648 is bound to it"),
        (DType.I32, ConstantArgument(0.5), "scalar 's' is i32, but 0.5 is bound to it"),
        (DType.I8, ScalarLoad("position", 0, 128), "scalar 's' is i8, but 128 is to be added to it"),
        (DType.F32, ScalarLoad("position"), "scalar 's' (f32) is loaded from %position (i64): both must be integers"),
    ],
)
def test_scalars_that_do_not_fit(dtype: DType, argument: ConstantArgument | ScalarLoad, message: str) -> None:
    kernel = hashed("digest", defines=("x",))
    kernel = replace(kernel, parameters=(VECTOR, ScalarParameter("s", dtype)))
    assert refusal(kernel, {"s": argument}) == message


def test_declarations_that_do_not_fit_their_function() -> None:
    write = Access("v")
    for function, parts, shape in (
        ("digest", {}, "writes 0 regions and defines 0 locals"),
        ("digest", {"writes": (write,)}, "writes 1 regions and defines 0 locals"),
        ("store_1", {"defines": ("x",)}, "writes 0 regions and defines 1 locals"),
        ("store_4", {"writes": (write, write)}, "writes 2 regions and defines 0 locals"),
    ):
        expected = f"phase 'p' {shape}, which forerun.testing.hashing:{function} does not return"
        assert refusal(hashed(function, **parts)) == expected
    for access, text in ((Access("v", region((0, 3))), "v[0:3]"), (Access("v", region((0, affine("s")))), "v[0:s]")):
        expected = f"phase 'p' writes {text}, which are not the 2 elements of forerun.testing.hashing:store_2"
        assert refusal(hashed("store_2", writes=(access,))) == expected


def test_stores_that_would_be_rounded() -> None:
    kernel = replace(
        hashed("store_2", writes=(Access("v", region((0, 2))),)),
        parameters=(replace(VECTOR, dtype=DType.F16), ScalarParameter("s", DType.I32)),
    )
    assert refusal(kernel) == "phase 'p' stores i32 as f16, which NumPy does not, or rounds otherwise"


def test_modules_are_loaded_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "scale.ptx"
    path.write_text(".version 9.0")
    parameters = (VECTOR, ScalarParameter("s", DType.F32))
    kernel = Kernel("k", parameters, None, (Implementation("ptx", str(path), "scale"),))
    with trusting(path):
        unit = unit_of(kernel, delays=True)
    assert unit.source == ForeignModule("ptx", str(path), b".version 9.0")
    assert unit.entry == "scale"
    assert unit.slots == (Slot("v", "pointer", DType.I32), Slot("s", "scalar", DType.F32))
    loads = replace(kernel, parameters=(VECTOR, ScalarParameter("s", DType.I32)))
    assert refusal(loads, {"s": ScalarLoad("position")}) == "'s' is loaded from memory, but ptx takes its value"
