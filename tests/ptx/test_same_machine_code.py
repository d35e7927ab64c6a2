"""ptxas makes the same machine code of a text and of what is printed for it in the usual form."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import process_time

import pytest

from forerun.ptx import Instruction, parse_module, print_module, summarise
from forerun.runtime.toolchain import Source, compile_unit, missing_toolchain
from forerun.runtime.toolchain.locate import require_compiler
from forerun.runtime.toolchain.nvrtc import compile_to_ptx
from tests.kernels.cuda_cases import Case, small_cases
from tests.kernels.fast_cases import few_cases
from tests.kernels.on_cpu.runner import unit_of
from tests.ptx.cubins import at_fixed_addresses, code_of, machine_code
from tests.ptx.texts import DATA

MISSING = missing_toolchain()
pytestmark = [pytest.mark.toolchain, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]


def assert_same_machine_code(text: str, known: bytes | None = None) -> None:
    """The cubin of the text itself may be known."""
    module = parse_module(text)
    assert print_module(module) == text
    plain = print_module(module, plain=True)
    assert plain != text
    expected = machine_code(text, module.target[0]) if known is None else code_of(known)
    assert machine_code(plain, module.target[0]) == expected


@pytest.mark.parametrize("text", DATA.values(), ids=DATA)
def test_of_the_texts_here(text: str) -> None:
    with at_fixed_addresses() as fixed:
        if "tcgen05" in text and not fixed:
            pytest.skip("this system does not let ptxas choose the same registers twice")
        # ptxas of CUDA 13.0 reads versions up to 9.0.
        assert_same_machine_code(re.sub(r"^\.version 9\.[1-4]$", ".version 9.0", text, flags=re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_90", "sm_100a"])
@pytest.mark.parametrize("case", [*small_cases(), *few_cases()], ids=str)
def test_of_our_kernels(case: Case, arch: str) -> None:
    unit = unit_of(case.kernel, case.shapes, case.launch, **case.constants)
    assert isinstance(unit.source, Source)
    cubin = compile_unit(unit.source, arch)
    assert_same_machine_code(cubin.ptx, cubin.code)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_90a", "sm_100a"])
def test_of_all_that_cuda_can_do(arch: str) -> None:
    """Calls through pointers, recursion, printf, jump tables, textures, tensor maps, inline assembly with scopes."""
    source = Source("features.cu", (Path(__file__).parent / "data" / "features.cu").read_text(encoding="utf-8"))
    text, _ = compile_to_ptx(source, arch, (), require_compiler().include)
    assert_same_machine_code(text)
    found = {one.name: summarise(one) for one in parse_module(text).entries}
    roots = {name: {root for access in one.global_accesses for root in access.roots} for name, one in found.items()}
    assert roots["calls"] == {"&fns", "&name", "?", "calls_param_0"}
    assert roots["list"] == {"?", "list_param_0", "list_param_1"}  # pointers from memory
    assert roots["sw"] == {"&counter", "sw_param_0"}
    assert roots["tma"] == {"?", "tma_param_1"}
    assert "?" in roots["tex"] & roots["alloc_k"] & roots["bar"] & roots["strct"]


def test_a_changed_text_makes_other_machine_code() -> None:
    text = DATA["nvrtc130_rmsnorm_90"]
    module = parse_module(text)
    (kernel,) = module.entries
    waits = replace(
        kernel, body=(*islice(kernel.body or (), 10), Instruction("griddepcontrol.wait"), *kernel.body[10:])
    )
    printed = print_module(module.with_function(waits))
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
