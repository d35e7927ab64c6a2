"""What a new user types first: names, builders, kernels of one's own, printing, files, values, and what is refused."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import ml_dtypes
import numpy as np
import pytest

import forerun
from forerun import DType, InvalidInput
from forerun.frontends.decode import synthetic_decode_graph
from forerun.ir.nodes import ChildGraphNode, ConstantArgument, KernelNode, ScalarLoad
from forerun.ir.text import parse_graph, print_graph
from forerun.kernels import add, builtin, embedding
from forerun.passes.insert_pdl import InsertPdl

ROOT = Path(__file__).parents[1]
HELLO = ROOT / "examples" / "hello.py"


def twice() -> forerun.Graph:
    build = forerun.GraphBuilder("twice")
    build.launch(add, a=build.input("x", "f32", 4), b="x", y=build.output("y", "f32", 4))
    return build.build()


def run(script: Path | str, *arguments: str, folder: Path | None = None) -> str:
    words = [sys.executable, *([script] if isinstance(script, Path) else ["-c", script]), *arguments]
    path = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder, env=path)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Names


def test_every_name_leads_somewhere() -> None:
    names = {name: getattr(forerun, name) for name in forerun.__all__}
    assert {"Graph", "compile", "kernel", "load", "DType", "Pass", "CudaTarget", "PassFailure", "KERNELS"} <= set(names)
    assert issubclass(names["PassFailure"], names["ForerunError"])
    assert set(names) <= set(dir(forerun))
    with pytest.raises(AttributeError, match="has no attribute 'kernl'"):
        forerun.kernl  # noqa: B018


def test_touching_every_name_imports_no_driver_and_no_networkx() -> None:
    script = "import sys, forerun; [getattr(forerun, name) for name in forerun.__all__]; print(*sys.modules)"
    loaded = set(run(script).split())
    assert not loaded & {"cuda", "networkx", "rich", "typer", "hypothesis", "forerun.cli"}
    assert not loaded & {
        f"forerun.ir.{name}" for name in ("explain", "refinement", "semantics", "text.parser", "verify")
    }


# Printing, pictures, files


def test_a_short_graph_prints_as_its_text() -> None:
    graph = twice()
    assert f"{graph}\n" == print_graph(graph)
    assert repr(graph) == "<Graph twice: 1 nodes, 0 dependencies, 2 buffers>"


def test_a_long_graph_says_how_much_is_left_out() -> None:
    graph = synthetic_decode_graph(400)
    lines = str(graph).splitlines()
    assert len(lines) < 90
    (left,) = (re.search(r"// ([\d,]+) of ([\d,]+) nodes left out", line) for line in lines if "nodes left out" in line)
    assert left is not None
    shown = sum(line.startswith("node #") for line in lines)
    assert [int(left[i].replace(",", "")) for i in (1, 2)] == [len(graph) - shown, len(graph)]
    without_comments = parse_graph(str(graph))
    assert list(without_comments.nodes) == list(graph.nodes)[:shown]


def test_a_node_of_many_lines_is_cut() -> None:
    build = forerun.GraphBuilder("outer")
    build.output("y", "f32", 4)
    inner = forerun.GraphBuilder("inner")
    for _ in range(100):
        inner.join([])
    build.fill("y")
    build.add(ChildGraphNode("child", inner.build(verify=False)))
    assert len(str(build.build(verify=False)).splitlines()) < 40


def test_notebooks_show_pictures_and_tables() -> None:
    graph = twice()
    svg = graph._repr_svg_()
    assert svg is not None
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    frame = ElementTree.fromstring(graph._repr_html_())
    assert frame.tag == "iframe"
    assert "add.0" in frame.attrib["srcdoc"]
    assert forerun.Graph("nothing")._repr_svg_() is None
    assert synthetic_decode_graph(300)._repr_svg_() is None
    summary = forerun.PassManager("insert-pdl").run(graph).summary
    table = str(summary).splitlines()
    assert [line.split()[1] for line in table[1:3]] == ["input", "insert-pdl"]
    assert "1 pass" in table[3]
    assert len(ElementTree.fromstring(summary._repr_html_()).findall(".//tbody/tr")) == 2


def test_names_cannot_leave_the_frame() -> None:
    build = forerun.GraphBuilder("g")
    build.output("y", "f32", 4)
    build.fill("y", node="</script><img src=x onerror=alert(1)>")
    frame = ElementTree.fromstring(build.build()._repr_html_())
    assert frame.attrib["sandbox"] == "allow-scripts"
    assert "<img" not in frame.attrib["srcdoc"]


def test_graphs_come_back_from_files(tmp_path: Path) -> None:
    graph = twice()
    path = graph.save(tmp_path / "twice.fir")
    assert forerun.load(path) == forerun.load(str(path)) == graph


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("twic.fir", r"no such file\nhint: did you mean '.*twice.fir'"),
        ("", "it is a folder, not a file"),
        ("broken.fir", r"broken.fir:2:1"),
        ("binary.fir", "not UTF-8"),
    ],
)
def test_files_that_are_no_graphs(name: str, words: str, tmp_path: Path) -> None:
    twice().save(tmp_path / "twice.fir")
    (tmp_path / "broken.fir").write_text("forerun 1\ngrph g\n")
    (tmp_path / "binary.fir").write_bytes(b"forerun 1\n\xff")
    with pytest.raises(InvalidInput, match=words):
        forerun.load(tmp_path / name)


def test_a_path_is_a_path(tmp_path: Path) -> None:
    for act in (lambda: forerun.load(3), lambda: twice().save(3)):  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="a file is named by its path, not by int"):
            act()
    with pytest.raises(InvalidInput, match="cannot write"):
        twice().save(tmp_path / "nowhere" / "x.fir")


# Builders


def torch_type(name: str) -> Any:
    """Something that shows itself as torch's types do."""
    return type("dtype", (), {"__repr__": lambda self: f"torch.{name}", "__module__": "torch"})()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("f32", DType.F32),
        ("float32", DType.F32),
        ("bfloat16", DType.BF16),
        ("half", DType.F16),
        (DType.U8, DType.U8),
        (np.float32, DType.F32),
        (np.int64, DType.I64),
        (np.dtype("u2"), DType.U16),
        (ml_dtypes.bfloat16, DType.BF16),
        (np.dtype(ml_dtypes.bfloat16), DType.BF16),
        (torch_type("float32"), DType.F32),
        (torch_type("bfloat16"), DType.BF16),
    ],
)
def test_types_by_any_name(given: object, expected: DType) -> None:
    assert DType.of(given) is expected


def test_every_type_has_its_short_and_its_long_name() -> None:
    for dtype in DType:
        numpy = ml_dtypes.bfloat16 if dtype is DType.BF16 else str(dtype)[0] + str(dtype.itemsize)
        assert DType.of(str(dtype)) is DType.of(np.dtype(numpy)) is DType.of(np.dtype(numpy).name) is dtype


@pytest.mark.parametrize(
    ("dtype", "shape", "words"),
    [
        ("f23", 8, r"buffer 'x': 'f23' is not an element type\nhint: did you mean 'f32'"),
        (float, 8, "hint: say 'f32' or 'f64'"),
        (bool, 8, "hint: say 'u8'"),
        (torch_type("long"), 8, "hint: say 'i64'"),
        (np.dtype(">f4" if sys.byteorder == "little" else "<f4"), 8, "order of another machine"),
        (np.complex64, 8, "hint: valid names"),
        (None, 8, "None is not an element type"),
        ((8,), "f32", "is not an element type"),
        ("f32", 8.0, r"buffer 'x': 8.0 is not a shape\nhint: extents are integers"),
        ("f32", "8", "'8' is not a shape"),
        ("f32", (2, None), "is not a shape"),
    ],
)
def test_types_and_shapes_that_are_none(dtype: Any, shape: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        forerun.GraphBuilder("g").input("x", dtype, shape)


@pytest.mark.parametrize("shape", [8, (8,), [8], np.int64(8), np.array([8])])
def test_shapes(shape: Any) -> None:
    build = forerun.GraphBuilder("g")
    build.output("y", np.float32, shape)
    build.fill("y")
    buffer = build.build().buffers["y"]
    assert buffer.shape == (8,)
    assert type(buffer.shape[0]) is int


def test_scalars_of_any_kind_and_arguments_by_position() -> None:
    build = forerun.GraphBuilder("g")
    table, token = build.weight("table", "f32", (4, 8)), build.input("token", "i32", 1, bounds=(0, 3))
    for number, value in enumerate((token, np.int32(2), ScalarLoad("token"))):
        build.launch(embedding, table, build.output(f"y{number}", "f32", 8), value)
    nodes = [node for node in build.build() if isinstance(node, KernelNode)]
    assert [node.argument("token") for node in nodes] == [ScalarLoad("token"), ConstantArgument(2), ScalarLoad("token")]


def plain(x: Any, eps: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda b: b.launch("add"), "launch takes a kernel, not str 'add'"),
        (lambda b: b.launch(plain), r'decorate it: @forerun.kernel\("x: f32\[N\], eps: f32\[N\] -> y: f32\[N\]"\)'),
        (lambda b: b.launch(builtin), "choose one of forerun.kernels.builtin.KERNELS"),
        (lambda b: b.launch(np), "module 'numpy'"),
        (
            lambda b: b.launch(add, "x", "x", "y", "y"),
            r"3 parameters, 4 arguments are given\nhint: they are a, b, y",
        ),
        (lambda b: b.launch(add, "x", "x", "y", a="x"), "argument 'a' is given twice"),
        (lambda b: b.launch(add, "x", np.ones(4), "y"), "argument 'b' is a buffer's name, not ndarray"),
        (lambda b: b.launch(add, "x", 3, "y"), "a buffer's name, not int 3"),
        (lambda b: b.launch(embedding, "x", "y", token=None), "argument 'token' is a scalar, not NoneType None"),
        (lambda b: b.input(3, "f32", 4), "a buffer is named by a text, not by 3"),
        (lambda b: b.fill("y", after="x"), "no node 'x'"),
    ],
)
def test_launches_that_are_none(act: Callable[[forerun.GraphBuilder], object], words: str) -> None:
    build = forerun.GraphBuilder("g")
    build.input("x", "f32", 4)
    build.output("y", "f32", 4)
    with pytest.raises(InvalidInput, match=words):
        act(build)


def test_one_name_does_for_a_list_of_one() -> None:
    build = forerun.GraphBuilder("g")
    build.output("y", "f32", 4)
    first = build.fill("y")
    build.fill("y", after=[])
    build.join(first)
    build.host("m:f", reads="y", after=first)
    edges = {d.pair for d in build.build(verify=False).dependencies}
    assert edges == {("fill.0", "join.2"), ("fill.0", "host.3")}


# Pipelines, programs, values


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            ["infer-dependencies", InsertPdl(), "hoist-loads,reduce-edges"],
            "infer-dependencies,insert-pdl,hoist-loads,reduce-edges",
        ),
        (InsertPdl(), "insert-pdl"),
        ([forerun.Pipeline.parse("insert-pdl"), "hoist-loads"], "insert-pdl,hoist-loads"),
        ((), ""),
        (None, ""),
        ("insert-pdl{trigger=start}", "insert-pdl{trigger=start}"),
    ],
)
def test_pipelines_of_any_form(given: Any, expected: str) -> None:
    expected = str(forerun.Pipeline.parse(expected))
    assert str(forerun.Pipeline.of(given)) == expected
    assert forerun.PassManager(given).run(twice()).summary.pipeline == expected
    with forerun.compile(twice(), pipeline=given) as program:
        assert program.summary.pipeline == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "3 is not a pipeline"),
        ([3], "a pipeline holds passes, not 3"),
        (InsertPdl, "is not a pipeline\nhint: add parentheses"),
        ([InsertPdl], "hint: add parentheses"),
        (["insert-pd"], "did you mean 'insert-pdl'"),
    ],
)
def test_pipelines_that_are_none(given: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        forerun.compile(twice(), pipeline=given)


def test_a_program_is_called_with_keywords() -> None:
    with forerun.compile(twice()) as program:
        results = program(x=[1, 2, 3, 4]), program({"x": [1, 2, 3, 4]}), program.run({"x": [1, 2, 3, 4]})
        assert all(result["y"].tolist() == [2, 4, 6, 8] for result in results)
        for act, words in (
            (lambda: program(), "no value for input %x"),
            (lambda: program(y=1), "the graph has no input '%y'"),
            (lambda: program(np.ones(4)), "inputs are given by name, not as ndarray"),
        ):
            with pytest.raises(InvalidInput, match=words):
                act()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("f32", np.ones(4)),
        ("f32", np.arange(4)),
        ("f32", [0.1, 1, 2, 3]),
        ("f32", np.array([np.nan, np.inf, -0.0, 0.5])),
        ("f32", np.ones(4, ">f4")),
        ("f32", np.ones(4, ml_dtypes.bfloat16)),
        ("bf16", np.full(4, 1.5)),
        ("i32", np.arange(4)),
        ("u8", np.array([0, 255, 1, 2])),
        ("i64", np.arange(4, dtype=np.uint64)),
        ("i32", np.array([True, False, True, True])),
    ],
)
def test_inputs_of_other_types_are_taken_where_no_value_changes(dtype: str, value: Any) -> None:
    build = forerun.GraphBuilder("g")
    build.copy(build.input("x", dtype, 4), build.output("y", dtype, 4))
    with forerun.compile(build.build()) as program:
        given = np.asarray(value)
        result = program(x=value)["y"]
    assert DType.of(result.dtype) is DType.of(dtype)
    tolerance = 1e-7 if isinstance(value, list) else 0.0
    np.testing.assert_allclose(result.astype(np.float64), given.astype(np.float64), rtol=tolerance)
    assert (np.signbit(result) == np.signbit(given.astype(result.dtype))).all()


@pytest.mark.parametrize(
    ("dtype", "value", "words"),
    [
        (
            "f32",
            np.array([1, 0.1, 2, 3]),
            r"element 1 is 0.1, which .*\nhint: array.astype\(np.float32\)",
        ),
        ("bf16", np.array([1, 2, 0.1, 3]), r"element 2 is 0.1.*\nhint: array.astype\(ml_dtypes.bfloat16\)"),
        ("f32", np.array([1e300, 0, 0, 0]), "does not fit f32 exactly"),
        ("f32", np.array([2**24 + 1, 0, 0, 0]), "element 0 is 16777217"),
        ("f16", [70000, 0, 0, 0], "70000 does not fit f16"),
        ("u8", np.array([0, -1, 0, 0]), "element 1 is -1, which does not fit u8"),
        ("u64", np.array([0, -1, 0, 0]), "element 1 is -1, which does not fit u64"),
        ("i64", np.array([2**63, 0, 0, 0], np.uint64), "does not fit i64"),
        ("i32", np.ones(4), r"expected i32\[4\], given f64\[4\]"),
        ("f32", np.ones(4, complex), r"given complex128\[4\]"),
        ("f32", np.ones(3), r"expected f32\[4\], given f64\[3\]"),
    ],
)
def test_inputs_that_would_change_are_refused(dtype: str, value: Any, words: str) -> None:
    build = forerun.GraphBuilder("g")
    build.copy(build.input("x", dtype, 4), build.output("y", dtype, 4))
    with forerun.compile(build.build()) as program, pytest.raises(InvalidInput, match=words):
        program(x=value)


def test_weights_are_converted_if_they_are_lists_only() -> None:
    build = forerun.GraphBuilder("g")
    build.copy(build.weight("w", "f32", 2), build.output("y", "f32", 2))
    with forerun.compile(build.build(), weights={"w": [0.5, 3]}) as program:
        assert program()["y"].tolist() == [0.5, 3]
    with pytest.raises(InvalidInput, match=r"given f64\[2\]\nhint: array.astype\(np.float32\) rounds"):
        forerun.compile(build.build(), weights={"w": np.ones(2)})


# Files of one's own


def test_hello_has_at_most_15_lines_and_says_hello() -> None:
    lines = HELLO.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip() and not line.startswith('"""')]) <= 15
    said = run(HELLO)
    assert "kernel @scale(w: f32[N], x: f32[N], y: f32[N])" in said
    assert said.endswith("[1.e+00 2.e+01 3.e+02 4.e+03]\n")


SCRIPT = """
import forerun

@forerun.kernel("x: f32[N] -> y: f32[N]")
def double(x):
    return 2 * x

def graph():
    build = forerun.GraphBuilder("doubled")
    build.launch(double, build.input("x", "f32", 2), build.output("y", "f32", 2))
    return build.build()

if __name__ == "__main__":
    with forerun.compile(graph()) as program:
        print(program(x=[1, 2])["y"])
    print(graph().save("doubled.fir"))
"""


def test_what_a_script_saves_runs_in_other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "maker.py").write_text(SCRIPT)
    assert run(tmp_path / "maker.py", folder=tmp_path) == "[2. 4.]\ndoubled.fir\n"
    graph = forerun.load(tmp_path / "doubled.fir")
    assert graph.kernels["double"].phases[0].reference == "maker:double"
    with pytest.raises(InvalidInput, match="code that nobody vouched for: maker"):
        forerun.compile(graph)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("maker")
    assert module.graph() == graph, "a fusion rule of the module finds the kernel"
    with forerun.compile(graph, trust=[module]) as program:
        assert program(x=[3, 4])["y"].tolist() == [6, 8]
    again = "import forerun; p = forerun.compile(forerun.load('doubled.fir'), trust=['maker']); print(p(x=[1, 1]))"
    assert "2., 2." in run(again, folder=tmp_path)


def test_what_a_module_saves_that_runs_as_a_script(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "maker.py").write_text(SCRIPT)
    script = "import runpy; runpy.run_module('package.maker', run_name='__main__', alter_sys=True)"
    run(script, folder=tmp_path)
    assert forerun.load(tmp_path / "doubled.fir").kernels["double"].phases[0].reference == "package.maker:double"


def test_what_nobody_could_find_is_not_saved(tmp_path: Path) -> None:
    script = SCRIPT.partition("\nif __name__")[0]
    script += """
with forerun.compile(graph()) as program:
    print(program(x=[1, 2])["y"])
try:
    graph().save("lost.fir")
except forerun.InvalidInput as error:
    print(error)
"""
    said = run(script, folder=tmp_path)
    assert said.startswith("[2. 4.]\ngraph 'doubled' cannot be saved: kernel @double names __main__:double")
    assert "hint: define it in a file, and import that" in said
    assert not (tmp_path / "lost.fir").exists()


def test_references_written_by_hand_lead_to_the_script(tmp_path: Path) -> None:
    script = tmp_path / "by_hand.py"
    script.write_text("""
import forerun
from forerun.ir.trust import registered_function

@forerun.register_function
def double(x):
    return 2 * x

assert registered_function("__main__:double") is registered_function("by_hand:double") is double
print("found")
""")
    assert run(script) == "found\n"


def test_graphs_print_whatever_was_imported_first() -> None:
    assert "kernel @add" in run(
        "from forerun.ir.text import parse_graph; from forerun.kernels import add;"
        "from forerun.ir.graph import Graph; print(Graph('g', kernels=[add.KERNEL]))"
    )
