"""Includes: a unit sees what it brings and CUDA's headers, and no other file of the machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from forerun.runtime.toolchain import CompileError, Source, compile_unit, find_toolchain
from forerun.runtime.toolchain import compile as compile_module
from forerun.runtime.toolchain import nvrtc as nvrtc_module
from forerun.runtime.toolchain.includes import included_names, refused_includes

KERNEL = 'extern "C" __global__ void k(int* p) { *p = 1; }\n'
SECRET = "the words of another file"

DIRECTIVES = [
    '#include "{file}"',
    "#include <{file}>",
    '  #  include\t"{file}"',
    '#\finclude "{file}"',
    '#\r include "{file}"',
    '#include_next "{file}"',
    '#import "{file}"',
    '#embed "{file}"',
    '%:include "{file}"',
    '??=include "{file}"',
    '#inc\\\nlude "{file}"',
    '#i\\\r\nnclude "{file}"',
    '#/* a\n comment */include "{file}"',
    '/* a\n comment */ #include "{file}"',
    '#include/**/"{file}"',
    '#define FILE "{file}"\n#include FILE',
    "#define FILE <{file}>\n#include FILE",
    '#if __has_include("{file}")\n#error there\n#endif',
    "#if __has_include(<{file}>)\n#error there\n#endif",
    '#if __has_include /**/ ( "{file}" )\n#error there\n#endif',
    '#define FILE "{file}"\n#if __has_include(FILE)\n#error there\n#endif',
    '#define ASK __has_include\n#if ASK("{file}")\n#error there\n#endif',
    '// # /*\n#include "{file}"\n// */ include "ok.h"',
    '// # /*\n#include "{file}"\n// */ embed "ok.h"',
    '// %: /*\n%:include "{file}"\n// */ include "ok.h"',
    '#define A "# /*"\n#include "{file}"\n#define B "*/ include <ok.h>"',
    '// __has_include(/*\n#if __has_include("{file}")\n#error there\n#endif\n// */ "ok.h")',
    '#define ifdef\n#define ASK ifdef __has_include\n#if ASK("{file}")\n#error there\n#endif',
    '#define PASTE(a, b) a##b\n#if PASTE(__has_, include)("{file}")\n#error there\n#endif',
    '#define PASTE(a, b) a%:%:b\n#if PASTE(_, _has_include)("{file}")\n#error there\n#endif',
    '#define PASTE(a, b) a##b\n#if PASTE(__h\\\nas_, include)("{file}")\n#error there\n#endif',
    '#\x0binclude "{file}"',
    '#inc\\\r\r\r\nlude "{file}"',
    '#include <cuda/std/version>\n#if _CCCL_HAS_INCLUDE("{file}")\n#error there\n#endif',
    '#include <cuda/std/version>\n#define ASK _CCCL_HAS_INCLUDE\n#if ASK("{file}")\n#error there\n#endif',
    '#define ARGUMENT(...) #__VA_ARGS__\nstatic_assert(false, ARGUMENT(\n#include "{file}"\n));',
    '#include\x0c"{file}"',
    '#inc\\\r\nlude "{file}"',
    'const char* raw = R"(\n)"; /* */ \n#include "{file}"',
]


@pytest.fixture
def secret(tmp_path, monkeypatch):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    path = folder / "secret.txt"
    path.write_text(f"{SECRET}\n")
    monkeypatch.chdir(folder)
    return path


def from_include_folder(path: Path) -> str:
    from forerun.runtime.toolchain.locate import find_toolchain

    folders = find_toolchain().include
    return os.path.relpath(path, folders[0]) if folders else "../secret.txt"


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize("where", ["absolute", "upwards", "from the headers"])
@pytest.mark.parametrize("directive", DIRECTIVES)
def test_another_file_is_neither_opened_nor_shown(directive, where, secret, cache):
    name = {
        "absolute": str(secret),
        "upwards": "../elsewhere/secret.txt",
        "from the headers": from_include_folder(secret),
    }[where]
    for texts in ({}, {"inner.cuh": directive.format(file=name) + "\n"}):
        text = '#include "inner.cuh"\n' if texts else directive.format(file=name) + "\n"
        with pytest.raises(CompileError) as caught:
            compile_unit(Source("unit.cu", text + KERNEL, tuple(texts.items())), cache=cache)
        error = caught.value
        assert "include" in {diagnostic.code for diagnostic in error.diagnostics}
        assert SECRET not in f"{error} {error.drawn} {error.log} {error.hint}"
        assert "there" not in error.log


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize("directive", ['#include "secret.txt"', "#include <secret.txt>", '#include "./secret.txt"'])
def test_the_current_folder_is_not_searched(directive, secret, cache):
    with pytest.raises(CompileError, match=r"(could not|cannot) open source file") as caught:
        compile_unit(Source("unit.cu", f"{directive}\n{KERNEL}"), cache=cache)
    assert SECRET not in f"{caught.value} {caught.value.log}"


@pytest.mark.usefixtures("toolchain")
def test_the_current_folder_does_not_replace_a_header_of_cuda(secret, cache):
    (secret.parent / "cuda_fp16.h").write_text("#error taken over\n")
    for name in ('"cuda_fp16.h"', "<cuda_fp16.h>"):
        text = f'#include {name}\nextern "C" __global__ void k(__half* p) {{ *p = __half(1.f); }}\n'
        assert compile_unit(Source("unit.cu", text), cache=cache).entries["k"].registers


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize("name", ["given.cuh", "/given.cuh", "../given.cuh"])
def test_what_is_given_may_have_any_name(name, cache):
    source = Source("unit.cu", f'#include "{name}"\n{KERNEL}', ((name, "__device__ int given;\n"),))
    assert compile_unit(source, cache=cache).entries["k"].registers


@pytest.mark.usefixtures("toolchain")
def test_headers_for_other_compilers_may_be_asked_for_and_left_out(cache):
    text = (
        "#ifdef __has_include\n#if defined(__has_include) && __has_include(<cuda_fp16.h>)\n#endif\n#endif\n"
        "#ifndef __CUDACC_RTC__\n#include <cstdio>\n#endif\n// #include FILE\n" + KERNEL
    )
    assert compile_unit(Source("unit.cu", text), cache=cache).entries["k"].registers


@pytest.mark.usefixtures("toolchain")
def test_the_key_tells_contents_of_headers_apart(cache, monkeypatch, tmp_path):
    """Of those that are given, and of all of CUDA's, in subfolders, too."""
    tools = compile_module.require_compiler()
    include = tmp_path / "include"
    (include / "deep").mkdir(parents=True)
    (include / "top.h").write_text('#include "deep/inner.inl"\n')
    (include / "deep" / "inner.inl").write_text("#define VALUE 1\n")
    changed = compile_module.Compiler(tools.nvrtc, tools.ptxas, (include,))
    monkeypatch.setattr(compile_module, "require_compiler", lambda: changed)
    source = Source("unit.cu", '#include <top.h>\nextern "C" __global__ void k(int* p) { *p = VALUE; }\n')
    first = compile_unit(source, cache=cache).code
    (include / "deep" / "inner.inl").write_text("#define VALUE 2\n")
    compile_module._digest_of_headers.cache_clear()  # another process
    assert compile_unit(source, cache=cache).code != first
    compile_module._digest_of_headers.cache_clear()


def test_directives_are_found_where_they_stand():
    text = '#include "a.h"\n  # include <b.h> // why\nint x; #include "c.h"\n// #include "d.h"\n#in\\\nclude "e.h"\n'
    assert included_names(text) == ("a.h", "b.h", "e.h")
    found = refused_includes({"u.cu": 'int a;\n\\\n\n#include "/e"\n#include X\n', "n": "\0"}, frozenset())
    assert [(d.location.name, d.location.line) for d in found] == [("u.cu", 4), ("u.cu", 5), ("n", 0)]


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize("file", ["other.cuh", "/folder/other.cuh", "../other.cuh"])
def test_what_gets_through_is_not_shown(file, secret, cache, monkeypatch):
    """The second layer: were a file included all the same, its lines would not be in the message."""
    monkeypatch.setattr(nvrtc_module, "refused_includes", lambda *_: ())
    secret.write_text('password_of_root = 7;\n#error "password"\nint password_too = password_of_root;\n')
    text = f'__device__ int own = wrong;\n#include "{secret}"\n{KERNEL}'
    with pytest.raises(CompileError, match="errors") as caught:
        compile_unit(Source("unit.cu", text, ((file, ""),)), cache=cache)
    error = caught.value
    shown = f"{error} {error.drawn} {error.log} {error.hint} {error.diagnostics}"
    assert 'identifier "wrong" is undefined' in shown
    assert "it is not part of the unit" in shown
    assert "password" not in shown


@pytest.mark.usefixtures("toolchain")
def test_errors_in_headers_are_shown(cache):
    """In those that the unit brings, whatever they are called, and in CUDA's."""
    for name in ("a.cuh", "/folder/a.cuh"):
        with pytest.raises(CompileError, match='identifier "wrong" is undefined'):
            compile_unit(Source("u.cu", f'#include "{name}"\n{KERNEL}', ((name, "int x = wrong;\n"),)), cache=cache)
    with pytest.raises(CompileError) as caught:
        compile_unit(Source("u.cu", f"#define __half wrong!\n#include <cuda_fp16.h>\n{KERNEL}"), cache=cache)
    assert "cuda_fp16.h" in caught.value.drawn
    assert "not part of the unit" not in caught.value.log


@pytest.mark.usefixtures("toolchain")
def test_pasting_is_allowed(cache):
    text = "#define PASTE(a, b) a##b\n#ifdef __has_include\n#endif\n__device__ int PASTE(__has_it, b), PASTE(x_, y);\n"
    assert compile_unit(Source("u.cu", text + KERNEL), cache=cache).entries["k"].registers


@pytest.mark.usefixtures("toolchain")
def test_messages_of_the_assembler_do_not_show_where_it_worked(cache):
    text = 'extern "C" __global__ void k() { asm volatile("nonsense;"); }'
    with pytest.raises(CompileError) as caught:
        compile_unit(Source("u.cu", text), cache=cache)
    assert tempfile.gettempdir() not in f"{caught.value} {caught.value.drawn} {caught.value.log}"


BENT = [
    "#define thrust {folder}\n",
    "#define detail ../../../..{folder}\n",
    "#def\\\nine gather ../../../..{folder}/secret.txt>\n",
    "%:define/**/h ../secret.txt>\n",
    "// # /*\n#define system {folder}\n// */ define x\n",
    "#include <thrust/detail/config.h>\n#undef __THRUST_HOST_SYSTEM_ROOT\n#define __THRUST_HOST_SYSTEM_ROOT {folder}\n",
    "#define THRUST_MR_STD_MR_HEADER <{folder}/secret.txt>\n",
]


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize("bent", BENT)
@pytest.mark.parametrize("header", ["thrust/system/detail/adl/gather.h", "cub/block/block_reduce.cuh"])
def test_what_cuda_includes_by_macros_is_not_bent(bent, header, secret, cache):
    text = f"{bent.format(folder=secret.parent)}#include <{header}>\n{KERNEL}"
    for source in (Source("u.cu", text), Source("u.cu", f'#include "a.cuh"\n{KERNEL}', (("a.cuh", text),))):
        with pytest.raises(CompileError, match="cannot compile") as caught:
            compile_unit(source, cache=cache)
        assert any("may not be defined beside Thrust or CUB" in found.message for found in caught.value.diagnostics)
        assert SECRET not in f"{caught.value} {caught.value.drawn} {caught.value.log}"


@pytest.mark.usefixtures("toolchain")
def test_cub_can_be_used(cache):
    text = """#define CEILING(a, b) (((a) + (b) - 1) / (b))
#include <cub/block/block_reduce.cuh>
extern "C" __global__ void k(int* p) {
    __shared__ cub::BlockReduce<int, 128>::TempStorage storage;
    *p = cub::BlockReduce<int, 128>(storage).Sum(CEILING(p[threadIdx.x], 2));
}
"""
    if not any((folder / "cub").is_dir() for folder in find_toolchain().include):
        pytest.skip("no CUB here")
    assert compile_unit(Source("u.cu", text), cache=cache).entries["k"].registers
    assert compile_unit(Source("u.cu", "#define thrust 1\n#define h 2\n" + KERNEL), cache=cache).entries["k"]
