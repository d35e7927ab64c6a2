"""Machine code of whole graphs, made by the toolchain without a GPU, and the kernel that sets conditions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forerun.runtime.cache_folder import cache_folder
from forerun.runtime.cuda.codegen.build import build_code
from forerun.runtime.cuda.codegen.condition import CONDITION_ENTRY, CONDITION_SOURCE
from forerun.runtime.toolchain import Cache, CompileError, Source, compile_unit, missing_toolchain
from tests.runtime.cuda.graphs import CASES, case

needs_toolchain = pytest.mark.skipif(missing_toolchain() is not None, reason=str(missing_toolchain()))
pytestmark = needs_toolchain


@pytest.mark.parametrize("name", ["every_kernel", "loop", "child", "programmatic"])
def test_code_of_a_graph(name: str) -> None:
    code = build_code(case(name).graph, "sm_90")
    assert len(code.units) == len(code.images) == len(code.kernel_of)
    assert all(image.startswith(b"\x7fELF") for image in code.images)
    assert (code.condition is not None) == (name == "loop")
    assert code.facts.keys() == {unit.entry for unit in code.units}
    for unit, image in zip(code.units, code.images, strict=True):
        assert unit.entry.encode() in image
    assert set(code.unit_of) == set(_paths(name))


def _paths(name: str) -> list[str]:
    return {
        "every_kernel": list(case(name).graph.nodes),
        "loop": ["plus_one", "minus_one", "loop/down", "loop/up", *_CHOICES],
        "child": ["first", "child/c", "child/inner/a", "child/inner/b"],
        "programmatic": list(case(name).graph.nodes),
    }[name]


_CHOICES = ["loop/choice/never", "loop/choice/1/never", "loop/choice/2/never"]


def test_several_units_with_one_name_keep_their_facts_apart() -> None:
    code = build_code(case("scalars").graph, "sm_90")
    assert list(code.facts) == ["scale_row_i32_kernel", "scale_row_i32_kernel#2"]


def test_delays_are_compiled_in() -> None:
    code = build_code(case("twice").graph, "sm_90", delays=True)
    assert [slot.parameter for slot in code.units[0].slots][-1] == "__delay_seed"


def test_the_driver_resolves_the_setting_of_conditions() -> None:
    """ptxas knows the function as a system call; any other that is not defined it refuses."""
    source = Source("condition.cu", CONDITION_SOURCE)
    cubin = compile_unit(source)
    assert re.search(r"\.extern \.func\s+cudaGraphSetConditional", cubin.ptx)
    (entry,) = cubin.entries
    assert entry == CONDITION_ENTRY
    assert b"cudaGraphSetConditional" in cubin.code
    unknown = CONDITION_SOURCE.replace("cudaGraphSetConditional", "cudaGraphSetAnything")
    with pytest.raises(CompileError, match="cudaGraphSetAnything"):
        compile_unit(Source("unknown.cu", unknown))


def test_every_case_has_code() -> None:
    for name in CASES:
        assert build_code(case(name).graph, "sm_90").images is not None


def test_a_cubin_of_another_unit_in_the_cache_is_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is whole, and under the right key, but it does not have the entry."""
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    graph = case("twice").graph
    code = build_code(graph, "sm_90")
    folder = Cache(cache_folder() / "toolchain")
    (path,) = folder.folder.glob("*/*.entry")
    compile_unit(Source("other.cu", 'extern "C" __global__ void other(int* p) { *p = 1; }'), cache=folder)
    (other,) = set(folder.folder.glob("*/*.entry")) - {path}
    wrong = folder.get(other.stem)
    assert wrong is not None
    assert folder.put(path.stem, wrong)
    again = build_code(graph, "sm_90")
    assert again.images == code.images
    assert folder.get(path.stem) != wrong
