"""Sources that are refused: the message shows the line."""

from __future__ import annotations

import pytest
from toolchain_samples import kernel

from forerun.runtime.toolchain import CompileError, Source, compile_unit
from forerun.support.diagnostics import InvalidInput

pytestmark = pytest.mark.usefixtures("toolchain")


@pytest.fixture
def refusal(cache):
    """The error that compiling a source raises."""

    def refused(source, **options):
        with pytest.raises(CompileError) as caught:
            compile_unit(source, cache=cache, **options)
        return caught.value

    return refused


def test_an_error_is_drawn_in_its_own_file(refusal):
    helper = "__device__ void helper(float* p) {\n    p[0] = missing;\n}\n"
    error = refusal(Source("unit.cu", '#include "helper.cuh"\n__device__ int x = ;\n', (("helper.cuh", helper),)))
    assert error.message == "cannot compile unit.cu: 2 errors"
    assert error.drawn == (
        'error[nvrtc]: identifier "missing" is undefined\n'
        " --> helper.cuh:2:12\n"
        "  |\n"
        "1 | __device__ void helper(float* p) {\n"
        "2 |     p[0] = missing;\n"
        "  |            ^^^^^^^\n"
        "3 | }\n"
        "\n"
        "error[nvrtc]: expected an expression\n"
        " --> unit.cu:2:20\n"
        "  |\n"
        '1 | #include "helper.cuh"\n'
        "2 | __device__ int x = ;\n"
        "  |                    ^"
    )
    assert error.__notes__ == [error.drawn]
    assert isinstance(error, InvalidInput)
    assert error.exit_status == 2


def test_instructions_that_do_not_exist_are_drawn_in_the_source(refusal):
    error = refusal(kernel('asm volatile("bogus %0;" :: "l"(p));'))
    assert "bogus" in error.diagnostics[0].message
    assert error.diagnostics[0].code == "ptxas"
    assert "--> k.cu:3:" in error.drawn
    assert "aborted" not in error.drawn


def test_too_much_shared_memory(refusal):
    error = refusal(kernel("__shared__ float s[100000];\ns[threadIdx.x] = *p;\n__syncthreads();\n*p = s[1];"))
    assert error.message == "cannot compile k.cu: an error"
    assert "error[ptxas]: unit k.cu: " in error.drawn
    assert "too much shared" in error.drawn


def test_a_header_that_nobody_has(refusal):
    assert 'cannot open source file "nobody.cuh"' in refusal(kernel('}\n#include "nobody.cuh"\n{')).drawn


def test_an_error_in_a_header_of_cuda(refusal):
    error = refusal(Source("k.cu", "#define __half what the\n#include <cuda_fp16.h>\n"))
    assert any(d.location.kind == "file" and "cuda_fp16" in d.location.name for d in error.diagnostics)
    assert "cuda_fp16" in error.drawn


def test_very_many_errors(refusal):
    error = refusal(Source("k.cu", "\n".join(f"int a{i} = b{i};" for i in range(50))))
    assert error.drawn.count(" --> ") == 20
    assert error.drawn.endswith(f"... and {len(error.diagnostics) - 20} more")
    assert "b49" in error.log


def test_warnings_are_kept(cache):
    cubin = compile_unit(kernel("int unused = 3;\n*p = 1.f;"), cache=cache)
    assert "k.cu(3): warning #177-D" in cubin.log
    assert compile_unit(kernel("int unused = 3;\n*p = 1.f;"), cache=cache).log == cubin.log


def test_warnings_of_the_assembler_are_kept(cache):
    values = "\n".join(f"float v{i} = p[{i}];" for i in range(60))
    stores = "\n".join(f"p[{i}] = v{59 - i};" for i in range(60))
    options = ["--maxrregcount=24", "--warn-on-spills"]
    cubin = compile_unit(kernel(f"{values}\nwait();\n{stores}"), assembler_options=options, cache=cache)
    assert "warning[ptxas]" in cubin.log
    assert "spill" in cubin.log.lower()
