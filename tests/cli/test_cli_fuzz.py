"""``forerun fuzz``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from forerun.ir.text import parse_graph
from forerun.passes.infra.pipeline import Pipeline
from forerun.runtime.gpu import no_gpu_reason
from forerun.testing.counterexample import Counterexample
from forerun.testing.files import counterexample_text, read_counterexample

pytestmark = pytest.mark.slow

TWIN = "tests.wrong.passes.insert_pdl:never_waits"


def without_replay(text: str) -> list[str]:
    """The lines, but for the one that names the file."""
    return [line for line in text.splitlines() if not line.startswith("// replay: ")]


def test_a_counterexample_is_written_and_replays(forerun):
    outcome = forerun("fuzz", "--pipeline", TWIN, "--examples", 50, "--seed", 1, "--output", "found.fir")
    assert outcome.status == 1
    assert outcome.out.startswith(f"counterexample: {TWIN}: ")
    assert "refines: refuted: node n1: " in outcome.out
    assert "written to found.fir (2 nodes)" in outcome.out
    assert outcome.err == ""
    text = Path("found.fir").read_text()
    assert "\n// replay: forerun fuzz --replay found.fir --load tests.wrong.passes.insert_pdl\n" in text
    assert "\n// load: tests.wrong.passes.insert_pdl\n" in text
    assert forerun("check", "found.fir").status == 0

    # The same seed finds the same one; on standard output it stands alone.
    shown = forerun("fuzz", "-p", TWIN, "--examples", 50, "--seed", 1, "-o", "-")
    assert shown.status == 1
    assert shown.out.startswith("// forerun counterexample\n")
    assert without_replay(shown.out) == without_replay(text)
    assert shown.err.startswith("counterexample: ")

    again = forerun("fuzz", "--replay", "found.fir", "--load", "tests.wrong.passes.insert_pdl")
    assert again.status == 1
    assert again.out.startswith("refines: refuted: node n1: ")

    Path("found.fir").write_text(text.replace(f"pipeline: {TWIN}", "pipeline: insert-pdl"))
    repaired = forerun("fuzz", "--replay", "found.fir", "--json")
    assert repaired.status == 0
    assert json.loads(repaired.out)["status"] == "ok"


def test_right_passes(forerun):
    outcome = forerun("fuzz", "--pipeline", "exact", "--examples", 30, "--json")
    assert outcome.status == 0
    result = json.loads(outcome.out)
    assert (result["status"], result["examples"], result["file"]) == ("ok", 30, None)
    assert result["fired"] > 5
    assert forerun("fuzz", "-p", "reduce-edges", "--examples", 5).out.startswith("no counterexample: reduce-edges: 5")


def test_graphs_can_be_the_users_own_and_silence_is_told(forerun):
    arguments = "--graphs", "tests.testing.aims:streams", "--examples", 5
    outcome = forerun("fuzz", "-p", "tests.testing.aims.Nothing", *arguments)
    assert outcome.status == 0
    assert "warning: the passes changed no graph" in outcome.out


@pytest.mark.skipif(no_gpu_reason() is None, reason="there is a GPU")
def test_a_target_that_is_not_there_is_told_before_the_search(forerun):
    cuda = forerun("fuzz", "-p", "exact", "--target", "cuda")
    assert cuda.status == 3
    assert "no GPU" in cuda.err


def test_what_cannot_be_done(forerun):
    assert forerun("fuzz").status == 2
    assert forerun("fuzz", "-p", "").status == 2
    assert forerun("fuzz", "-p", "exact", "--replay", "x.fir").status == 2
    assert "did you mean 'insert-pdl'" in forerun("fuzz", "-p", "insert-pld").err
    unused = forerun("fuzz", "--replay", "x.fir", "--examples", 3)
    assert (unused.status, unused.err.splitlines()[0]) == (2, "error: --examples has no use here")
    Path("plain.fir").write_text("forerun 1\ngraph g\n")
    plain = forerun("fuzz", "--replay", "plain.fir")
    assert plain.status == 2
    assert "is not a counterexample" in plain.err
    assert forerun("fuzz", "--replay", "nowhere.fir").status == 2


def test_a_counterexample_names_the_modules_of_its_kernels(forerun, tmp_path):
    module = tmp_path / "my_kernels.py"
    module.write_text("from tests.testing.aims import *\n\n\ndef note(*arrays):\n    return arrays[0]\n")
    graph = parse_graph(
        'forerun 1 graph g buffer %h : i32[4] output on host node #n = host "my_kernels:note" writes %h'
    )
    sys.modules["my_kernels"] = ModuleType("my_kernels")
    sys.modules["my_kernels"].__file__ = str(module)
    found = Counterexample("same-outputs", "differs", graph)
    text = counterexample_text("x.fir", found, Pipeline.parse("reduce-edges"))
    del sys.modules["my_kernels"]
    assert f"\n// replay: forerun fuzz --replay x.fir --load {module}\n// load: {module}\n" in text
    assert read_counterexample("x.fir", text).loads == (str(module),)
