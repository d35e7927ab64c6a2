"""Compiling: what comes out, what is kept, and many at once."""

from __future__ import annotations

import dataclasses

import pytest
from toolchain_samples import dot_kernel, kernel

from forerun.runtime.toolchain import Cache, CompileError, Source, compile_unit, compile_units
from forerun.runtime.toolchain import compile as compile_module
from forerun.support.diagnostics import InvalidInput

pytestmark = pytest.mark.usefixtures("toolchain")


@pytest.fixture
def builds(monkeypatch):
    """The names of the units that were really built."""
    built = []
    original = compile_module._build

    def build(source, *rest):
        built.append(source.name)
        return original(source, *rest)

    monkeypatch.setattr(compile_module, "_build", build)
    return built


def test_a_cubin_and_its_resources(cache):
    cubin = compile_unit(dot_kernel(), cache=cache)
    assert cubin.code.startswith(b"\x7fELF")
    assert ".target sm_90" in cubin.ptx
    assert (cubin.arch, cubin.log) == ("sm_90", "")
    entry = cubin.entries["entry"]
    assert 4 <= entry.registers <= 40
    assert (entry.shared_bytes, entry.stack_bytes, entry.spill_store_bytes, entry.spill_load_bytes) == (0, 0, 0, 0)
    assert entry.constant_bytes >= 3 * 8  # the parameters


def test_what_is_kept_is_what_was_made(cache, builds):
    first = compile_unit(dot_kernel(), cache=cache)
    again = compile_unit(dot_kernel(), cache=cache)
    assert builds == ["unit.cu"]
    assert again == first
    assert list(again.entries["entry"].instructions) == list(first.entries["entry"].instructions)


def test_a_damaged_entry_is_made_again(cache, builds):
    first = compile_unit(dot_kernel(), cache=cache)
    (path,) = cache.folder.glob("*/*")
    path.write_bytes(path.read_bytes()[:-7])
    assert compile_unit(dot_kernel(), cache=cache) == first
    assert builds == ["unit.cu", "unit.cu"]
    compile_unit(dot_kernel(), cache=cache)
    assert builds == ["unit.cu", "unit.cu"]


@pytest.mark.parametrize(
    "changed",
    [
        {"source": dataclasses.replace(dot_kernel(), name="other.cu")},
        {"source": dataclasses.replace(dot_kernel(), text=dot_kernel().text + "\n")},
        {"source": dataclasses.replace(dot_kernel(), headers=(*dot_kernel().headers, ("unused.cuh", "")))},
        {"arch": "sm_90a"},
        {"options": ["--use_fast_math"]},
        {"assembler_options": ["--maxrregcount=32"]},
    ],
    ids=["name", "text", "headers", "arch", "options", "assembler_options"],
)
def test_whatever_is_changed_is_built_anew(cache, builds, changed):
    request = {"source": dot_kernel(), "arch": "sm_90", "options": (), "assembler_options": ()}
    compile_unit(**request, cache=cache)
    compile_unit(**{**request, **changed}, cache=cache)
    assert len(builds) == 2


def test_equal_sources_give_equal_cubins_wherever_they_are_built(tmp_path, monkeypatch):
    built = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        built.append(compile_unit(dot_kernel(), cache=Cache(tmp_path / place / "cache")))
    assert built[0] == built[1]
    assert str(tmp_path) not in built[0].ptx


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert compile_unit(kernel("*p = 1.f;"), cache=Cache(tmp_path / "file")).entries["k"]


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path / "moved"))
    compile_unit(kernel("*p = 1.f;"))
    assert len(list((tmp_path / "moved" / "toolchain").glob("*/*.entry"))) == 1


def test_cuda_headers(cache, builds):
    text = '#include <cuda_bf16.h>\nextern "C" __global__ void k(__nv_bfloat16* p) { p[0] = __float2bfloat16(1.f); }'
    assert Source("k.cu", text).foreign_includes == ("cuda_bf16.h",)
    assert compile_unit(Source("k.cu", text), cache=cache).entries["k"].of_kind("store")


def test_many_units_at_once(cache, builds):
    sources = [kernel(f"*p = {number}.f;", name=f"k{number}.cu") for number in range(4)]
    told = []
    cubins = compile_units([*sources, sources[1]], jobs=2, cache=cache, progress=lambda *state: told.append(state))
    assert [cubin.ptx for cubin in cubins[:4]] == [compile_unit(source, cache=cache).ptx for source in sources]
    assert len({cubin.ptx for cubin in cubins}) == 4
    assert cubins[4] is cubins[1]
    assert sorted(builds) == ["k0.cu", "k1.cu", "k2.cu", "k3.cu"]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_units():
    assert compile_units([]) == []


@pytest.mark.parametrize("jobs", [1, 3])
def test_of_many_errors_the_first_in_order_is_raised(cache, jobs):
    good = [kernel(f"*p = {number}.f;", name=f"good{number}.cu") for number in range(3)]
    bad = [kernel(f"*p = wrong{number};", name=f"bad{number}.cu") for number in range(3)]
    with pytest.raises(CompileError, match=r"cannot compile bad0\.cu"):
        compile_units([good[0], bad[0], good[1], bad[1], good[2], bad[2]], jobs=jobs, cache=cache)


@pytest.mark.parametrize("arch", ["90", "compute_90", "sm_", "sm_90 -o x"])
def test_no_architecture(arch, cache):
    with pytest.raises(InvalidInput, match="no architecture"):
        compile_unit(dot_kernel(), arch, cache=cache)


def test_an_architecture_or_an_option_that_nvrtc_does_not_know(cache):
    with pytest.raises(InvalidInput, match="NVRTC refuses an option"):
        compile_unit(dot_kernel(), "sm_20", cache=cache)
    with pytest.raises(InvalidInput, match="--bogus"):
        compile_unit(dot_kernel(), options=["--bogus"], cache=cache)
    with pytest.raises(InvalidInput, match="bogus"):
        compile_unit(dot_kernel(), assembler_options=["--bogus"], cache=cache)


def test_a_source_that_asks_for_features_of_sm_90a_is_compiled_for_it(cache):
    asks = "#ifdef __CUDA_ARCH_FEAT_SM90_ALL\n#define VALUE 1\n#else\n#define VALUE 0\n#endif\n"
    texts = {
        name: f'{text}extern "C" __global__ void fill(int* y) {{ *y = {value}; }}'
        for name, text, value in (("asks", asks, "VALUE"), ("one", "", "1"))
    }
    cubins = {name: compile_unit(Source("fill.cu", text), cache=cache) for name, text in texts.items()}
    assert (cubins["asks"].arch, cubins["one"].arch) == ("sm_90a", "sm_90")
    assert ".target sm_90a" in cubins["asks"].ptx
    assert compile_unit(Source("fill.cu", texts["asks"]), "sm_80", cache=cache).arch == "sm_80"
