"""A graph's text never chooses what code runs: functions that it names are refused before anything is imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import forerun
from forerun.ir.demands import demands
from forerun.ir.graph import Graph
from forerun.ir.nodes import ChildGraphNode, ConditionalNode, HostCallbackNode
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.trust import Trust, is_own_function_module, trusted, trusting, vouch_in_scope
from forerun.ir.types import HOST, BufferRole, DType
from forerun.kernels.builtin import KERNELS
from forerun.runtime.reference import ReferenceTarget
from forerun.runtime.reference.functions import find_function
from forerun.support.diagnostics import InvalidInput
from tests.trust.traps import host_graph, phase_graph, trap

STRANGERS = [
    "trap_module:twice",
    "trap_module:mark",
    "builtins:exec",
    "builtins:eval",
    "builtins:__import__",
    "os:system",
    "posix:system",
    "subprocess:run",
    "importlib:import_module",
    "pickle:loads",
    "numpy:load",
    "numpy:fromfile",
    "sys:exit",
    "__main__:main",
    "forerun:compile",
    "forerun.cli:main",
    "forerun.cli.files:load_modules",
    "forerun.frontends.fetch:fetch_smollm2",
    "forerun.ir.trust:vouch",
    "forerun.support.files:write_whole",
    "forerun.runtime.reference.functions:find_function",
    "forerun.runtime.litmus.machine:this_machine",
    "forerun.kernels.cuda.nothing:here",
    "forerun.kernels.gemv.np:load",
    "forerun\u200b.kernels.gemv:dot",
    "f\u043ererun.kernels.gemv:dot",  # a Cyrillic letter
    "forerun.kernels:gemv",
]
"""``module:function`` that nobody vouched for, or that is not a function that graphs may call."""

MALFORMED = [
    "trap_module:os.system",
    "trap_module:mark:twice",
    "trap_module.:mark",
    ".trap_module:mark",
    "..trap_module:mark",
    "trap_module:mark ",
    " trap_module:mark",
    "trap_module\n:mark",
    "./trap_module:mark",
    "/tmp/trap_module.py:mark",
    "trap_module:",
    "forerun.kernels.gemv:np.load",
    "forerun.kernels.gemv:dot.__globals__",
    "forerun.kernels..gemv:dot",
]

NOT_CALLABLE_BY_GRAPHS = [
    "forerun.kernels.gemv:np",
    "forerun.kernels.gemv:NDArray",
    "forerun.kernels.gemv:Kernel",
    "forerun.kernels.gemv:KERNEL",
    "forerun.kernels.gemv:cuda",
    "forerun.kernels.gemv:typed_name",
    "forerun.kernels.gemv:__builtins__",
    "forerun.kernels.gemv:__loader__",
    "forerun.kernels.gemv:_WARPS",
    "forerun.kernels.builtin:_phase",
    "forerun.kernels.fusion_examples:GraphBuilder",
    "forerun.kernels.gemv:\uff44ot",
    "forerun.kernels.\uff47emv:dot",
    "forerun.kernels.trap_module:mark",
]


@pytest.mark.parametrize("make", [host_graph, phase_graph], ids=["host", "phase"])
@pytest.mark.parametrize("function", [*STRANGERS, *MALFORMED, *NOT_CALLABLE_BY_GRAPHS])
def test_nothing_of_a_stranger_runs(make, function, tmp_path, monkeypatch) -> None:
    with trap(tmp_path, monkeypatch) as mark:
        loaded = set(sys.modules)
        for attempt in (forerun.compile, lambda graph: ReferenceTarget().load(graph, {})):
            with pytest.raises(InvalidInput):
                attempt(parse_graph(make(function)))
        assert not mark.exists()
        module = function.partition(":")[0]
        # forerun's own modules of functions may be imported, to say that these are none.
        assert is_own_function_module(module) or module not in set(sys.modules) - loaded


@pytest.mark.parametrize("function", STRANGERS[:-1])
def test_the_refusal_lists_what_is_asked_for_and_how_to_allow_it(function) -> None:
    module = function.partition(":")[0]
    with pytest.raises(InvalidInput) as caught:
        forerun.compile(parse_graph(host_graph(function)))
    assert 'graph "g" asks for code that nobody vouched for: ' in caught.value.message
    assert "node #call" in caught.value.message
    assert str(caught.value).isascii()
    if module.isascii():
        assert f'{module} (host "{function}"; node #call)' in caught.value.message
        assert caught.value.hint == f'if you trust them, pass --load {module}; in Python trust=["{module}"]'
    else:
        assert "may look like others" in caught.value.hint or "is named module:function" in caught.value.hint


def test_everything_that_is_asked_for_is_listed_at_once() -> None:
    body = phase_graph("mymod:load").replace("node #launch", 'node #first = host "os:system"\nnode #launch')
    text = body.replace(
        "reads x writes y ref", 'reads x defines z ref "mymod:add"\n    phase store uses z writes y ref'
    )
    with pytest.raises(InvalidInput) as caught:
        forerun.compile(parse_graph(text))
    assert 'mymod (ref "mymod:add", ref "mymod:load"; kernel @k)' in caught.value.message
    assert 'os (host "os:system"; node #first)' in caught.value.message
    assert caught.value.hint == 'if you trust them, pass --load mymod --load os; in Python trust=["mymod", "os"]'


def test_names_from_a_file_are_escaped_and_many_are_counted() -> None:
    with pytest.raises(InvalidInput) as caught:
        forerun.compile(parse_graph(host_graph("\x1b[31mevil:x")))
    assert "\x1b" not in str(caught.value)
    nodes = "".join(f'node #n{i} = host "stranger{i}:f"\n' for i in range(40))
    with pytest.raises(InvalidInput, match=r"stranger11 .*and 28 more"):
        forerun.compile(parse_graph(f"forerun 1\ngraph g\n{nodes}"))


def test_bodies_of_child_graphs_and_conditionals_are_looked_at() -> None:
    call = HostCallbackNode("call", "os:system")
    inner = Graph("inner", nodes=[ChildGraphNode("child", Graph("innermost", nodes=[call]))])
    for node in (ChildGraphNode("c", inner), ConditionalNode("c", "while", "x", (Graph("empty"), inner))):
        assert [d.text for d in demands(Graph("g", nodes=[node]))] == ["os:system"]


# What may run


def test_a_module_that_the_user_named_runs(tmp_path, monkeypatch) -> None:
    with trap(tmp_path, monkeypatch) as mark:
        graph = parse_graph(phase_graph("trap_module:twice"))
        with forerun.compile(graph, trust="trap_module") as program:
            assert program.run({"x": [1, 2, 3, 4]})["y"].tolist() == [2, 4, 6, 8]
        assert mark.read_text() == "imported\n"
        # Neither what was imported before nor what was trusted before is trusted now.
        with pytest.raises(InvalidInput, match="nobody vouched for"):
            forerun.compile(graph)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("trap_module:system", "is a function of posix, not of trap_module"),
        ("trap_module:rmtree", "is a function of shutil, not of trap_module"),
        ("trap_module:os", "is not a function"),
        ("trap_module:Maker", "is not a function"),
        ("trap_module:MARK", "is not a function"),
        ("trap_module:os.system", "nobody vouched for"),
        ("trap_module:nothing", "has no function 'nothing'"),
        ("trap_module.inner:mark", "nobody vouched for"),
    ],
)
def test_a_trusted_module_is_no_way_into_what_it_imported(function, words, tmp_path, monkeypatch) -> None:
    with trap(tmp_path, monkeypatch) as mark:
        with pytest.raises(InvalidInput, match=words):
            forerun.compile(parse_graph(phase_graph(function)), trust=["trap_module"])
        assert not mark.exists() or "called" not in mark.read_text()


@forerun.register_function
def negative(x):
    return -x


def test_a_function_that_the_program_registered_runs() -> None:
    with forerun.compile(parse_graph(phase_graph(f"{__name__}:negative"))) as program:
        assert program.run({"x": [1, 2, 3, 4]})["y"].tolist() == [-1, -2, -3, -4]
    with pytest.raises(InvalidInput, match="nobody vouched for"):
        forerun.compile(parse_graph(phase_graph(f"{__name__}:test_a_function_that_the_program_registered_runs")))


def host_only(x):
    return x + 1


def test_a_graph_builder_registers_the_function_that_it_is_given() -> None:
    builder = forerun.GraphBuilder("g")
    x = builder.buffer("x", DType.F32, (4,), BufferRole.INPUT, place=HOST)
    y = builder.buffer("y", DType.F32, (4,), BufferRole.OUTPUT, place=HOST)
    builder.host(host_only, [x], [y])
    graph = builder.build()
    assert f'host "{__name__}:host_only"' in print_graph(graph)
    with forerun.compile(graph) as program:
        assert program.run({"x": [1, 2, 3, 4]})["y"].tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize("function", [lambda x: x, Path, Path.exists, 3, print.__call__])
def test_what_has_no_name_in_a_module_cannot_be_registered(function) -> None:
    with pytest.raises(InvalidInput, match="graphs can name"):
        forerun.register_function(function)


def test_own_kernels_need_no_trust() -> None:
    for kernel in KERNELS.values():
        for phase in kernel.phases:
            assert callable(find_function(phase.reference, "here"))


def test_a_name_that_only_looks_like_forerun_s_is_spelled_out() -> None:
    with pytest.raises(InvalidInput) as caught:
        forerun.compile(parse_graph(host_graph("f\u043ererun.kernels.gemv:dot")))
    assert r'f\u043ererun.kernels.gemv (host "f\u043ererun.kernels.gemv:dot"; node #call)' in caught.value.message
    assert caught.value.hint == "some names are not of plain letters, and may look like others"


# Who is trusted


def test_scopes_end() -> None:
    with trusting("one", ["two", Path("k.cu")]):
        assert {"one", "two"} <= trusted().modules
        assert Path("k.cu").resolve() in trusted().files
        vouch_in_scope("three")
        assert "three" in trusted().modules
    assert not {"one", "two", "three"} & trusted().modules


@pytest.mark.parametrize("item", ["", "a b", "../a", "a.py", "a:b", Path("a.py"), 3, None, b"os", {"os": 1}])
def test_only_modules_and_sources_can_be_trusted(item) -> None:
    with pytest.raises(InvalidInput):
        Trust.of(item)
