"""ptxas makes the same machine code of a text and of what is printed for it in the usual form."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from time import process_time

import pytest

from forerun.ptx import Instruction, parse_module, print_module
from forerun.runtime.toolchain import Source, compile_unit, missing_toolchain
from tests.kernels.cuda_cases import Case, small_cases
from tests.kernels.fast_cases import few_cases
from tests.kernels.on_cpu.runner import unit_of
from tests.ptx.cubins import machine_code
from tests.ptx.texts import DATA

MISSING = missing_toolchain()
pytestmark = [pytest.mark.toolchain, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]


def assert_same_machine_code(text: str) -> None:
    module = parse_module(text)
    assert print_module(module) == text
    plain = print_module(module, plain=True)
    assert plain != text
    assert machine_code(plain, module.target[0]) == machine_code(text, module.target[0])


@pytest.mark.parametrize("text", DATA.values(), ids=DATA)
def test_of_the_texts_here(text: str) -> None:
    # ptxas of CUDA 13.0 reads versions up to 9.0.
    assert_same_machine_code(text.replace(".version 9.4", ".version 9.0"))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_90", "sm_100a"])
@pytest.mark.parametrize("case", [*small_cases(), *few_cases()], ids=str)
def test_of_our_kernels(case: Case, arch: str) -> None:
    unit = unit_of(case.kernel, case.shapes, case.launch, **case.constants)
    assert isinstance(unit.source, Source)
    assert_same_machine_code(compile_unit(unit.source, arch).ptx)


def test_a_changed_text_makes_other_machine_code() -> None:
    text = DATA["nvrtc130_rmsnorm_90"]
    module = parse_module(text)
    (kernel,) = module.entries
    waits = replace(
        kernel, body=(*islice(kernel.body or (), 10), Instruction("griddepcontrol.wait"), *kernel.body[10:])
    )
    changed = replace(module, statements=tuple(waits if one is kernel else one for one in module.statements))
    printed = print_module(changed)
    assert printed.replace("\n\tgriddepcontrol.wait;", "", 1) == text
    assert machine_code(printed, "sm_90") != machine_code(text, "sm_90")


def test_a_megabyte_is_read_in_three_seconds() -> None:
    functions = DATA["triton_row_softmax"].partition(".visible")
    text = functions[0]
    count = 0
    while len(text) < 1_000_000:
        text += "".join(functions[1:]).partition("\t.file")[0].replace("row_softmax", f"row_softmax{count}")
        count += 1
    begin = process_time()
    module = parse_module(text)
    took = process_time() - begin
    print(f"{len(text)} characters in {took:.2f} s")
    assert len(module.entries) == count
    assert took < 3
