"""Kernels' sources follow the rule of functions: a graph's text opens no file and imports no package of its choice."""

from __future__ import annotations

import sys

import pytest

import forerun
from forerun.ir.text import parse_graph
from forerun.ir.trust import trusting
from forerun.runtime.cuda.codegen import sources as codegen_sources
from forerun.runtime.cuda.codegen import specialise as codegen
from forerun.runtime.cuda.codegen.build import build_code
from forerun.runtime.cuda.codegen.specialise import units
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.trust.traps import source_graph, trap

STRANGERS = [
    "/etc/passwd",
    "/etc/passwd.cu",
    "evil.cu",
    "./evil.cu",
    "../evil.cu",
    "~/evil.cu",
    "libfoo.cubin",
    "trap_module:evil.cu",
    "trap_module:mark.txt",
    "trap_module.inner:evil.cu",
    "forerun.kernels:builtin.py",
    "forerun.kernels.cuda:builtin.py",
    "forerun.kernels.cuda:__init__.py",
    "forerun.kernels.cuda:../builtin.py",
    "forerun.kernels.cuda:../../../../../../../../etc/passwd.cu",
    "forerun.kernels.cuda:/etc/passwd.cu",
    "forerun.kernels.cuda:..\\builtin.cu",
    "forerun.kernels.cuda.:builtin.cu",
    "forerun.kernels..cuda:builtin.cu",
    ".forerun.kernels.cuda:builtin.cu",
    "forerun.kernels.cuda:",
    "f\u043ererun.kernels.cuda:builtin.cu",
    "numpy:evil.cu",
    "file:///etc/passwd.cu",
    "C:\\evil.cu",
    "",
    "\0.cu",
    "x" * 5000 + ".cu",
]


@pytest.fixture
def opened(monkeypatch):
    """The locations that were read while the test ran, forerun's own headers left out."""
    found = []
    original = codegen_sources.read_source

    def read(location):
        if location.startswith(("forerun.kernels.cuda:", "forerun.runtime.cuda.codegen.include:")):
            return original(location)
        found.append(location)
        return b""

    monkeypatch.setattr(codegen_sources, "read_source", read)
    monkeypatch.setattr(codegen, "read_source", read)
    return found


@pytest.mark.parametrize("language", ["cuda", "ptx", "cubin"])
@pytest.mark.parametrize("source", STRANGERS)
def test_nothing_is_opened_or_imported(language, source, opened, tmp_path, monkeypatch):
    with trap(tmp_path, monkeypatch) as mark:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "evil.cu").write_text("struct Locals {};")
        graph = parse_graph(source_graph(language, source))
        for attempt in (units, lambda graph: build_code(graph, "sm_90")):
            with pytest.raises(InvalidInput, match="nobody vouched for"):
                attempt(graph)
        assert not opened
        assert not mark.exists()
        assert "trap_module" not in sys.modules


def test_the_list_comes_before_there_is_a_gpu():
    text = source_graph("cubin", "libfoo.cubin").replace('ref "', 'ref "mymod:f')
    with pytest.raises(InvalidInput) as caught:
        forerun.compile(parse_graph(text), "cuda")
    assert '"libfoo.cubin" (cubin "libfoo.cubin"; kernel @k)' in caught.value.message
    assert caught.value.hint == 'if you trust them, pass --load "libfoo.cubin"; in Python trust=["libfoo.cubin"]'
    assert "mymod" not in caught.value.message  # the GPU calls no NumPy function


SOURCE = """
#include "shared.cuh"
struct Locals {};
__device__ __forceinline__ void work(const Arguments& a, Locals&) { a.y[threadIdx.x] = a.x[threadIdx.x] + SHARED; }
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package and a module with sources."""
    folder = tmp_path / "sourced"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (tmp_path / "alone.py").write_text("")
    for place in (folder, tmp_path):
        (place / "work.cu").write_text(SOURCE)
        (place / "shared.cuh").write_text("#define SHARED 1\n")
    (tmp_path / "outside.cuh").write_text("outside")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("sourced", "alone"):
        sys.modules.pop(name, None)
    codegen_sources.read_source.cache_clear()
    codegen_sources.included.cache_clear()


@pytest.mark.parametrize(
    "source", ["sourced:work.cu", "alone:work.cu", "{folder}/work.cu", "{folder}/sourced/../work.cu"]
)
def test_what_the_user_named_is_read_with_what_lies_beside_it(source, package):
    source = source.format(folder=package)
    graph = parse_graph(source_graph("cuda", source))
    with trusting("sourced", "alone", package / "work.cu"):
        (unit,), _ = units(graph)
    assert dict(unit.source.headers)["shared.cuh"] == "#define SHARED 1\n"
    assert dict(unit.source.headers)["work.cu"] == SOURCE
    with pytest.raises(InvalidInput, match="nobody vouched for"):
        units(graph)  # although it was read before


@pytest.mark.parametrize("source", ["sourced:work.cu", "alone:work.cu", "{folder}/work.cu"])
@pytest.mark.parametrize(
    "name", ["{folder}/outside.cuh", "../outside.cuh", "./../outside.cuh", "linked.cuh", "c:outside.cuh"]
)
def test_includes_do_not_lead_away(source, name, package, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "outside.cuh"
    elsewhere.write_text("outside")
    for place in (package, package / "sourced"):
        if source != "sourced:work.cu":
            (place / "linked.cuh").symlink_to(elsewhere)
        (place / "work.cu").write_text(SOURCE + f'#include "{name.format(folder=package)}"\n')
    graph = parse_graph(source_graph("cuda", source.format(folder=package)))
    with trusting("sourced", "alone", package / "work.cu"):
        (unit,), _ = units(graph)
    assert "outside" not in dict(unit.source.headers).values()


def test_a_source_that_is_a_link_is_known_by_where_it_leads(package):
    link = package / "link.cu"
    link.symlink_to("/etc/passwd")
    with trusting(package / "work.cu"), pytest.raises(InvalidInput, match="nobody vouched for"):
        units(parse_graph(source_graph("cuda", str(link))))


def test_a_trusted_source_that_is_gone_is_reported(package):
    graph = parse_graph(source_graph("cuda", "sourced:gone.cu"))
    with trusting("sourced"), pytest.raises(Unsupported, match=r"sourced:gone\.cu, cannot be read"):
        units(graph)
