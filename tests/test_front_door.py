"""What a new user meets first: names, printing, pictures, files, and programs of one's own."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import forerun
from forerun import InvalidInput
from forerun.frontends.decode import synthetic_decode_graph
from forerun.ir.nodes import ChildGraphNode
from forerun.ir.text import parse_graph, print_graph
from forerun.kernels import add

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
