"""``forerun opt``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from forerun.ir.text import parse_graph
from tests.cli.processes import finish, on_terminal

BAD_PASSES = Path(__file__).with_name("bad_passes.py")


def test_the_graph_goes_to_standard_output_and_nothing_else_does(forerun, good):
    outcome = forerun("opt", good, "--pipeline", "exact")
    assert outcome.status == 0
    assert outcome.err == ""
    graph = parse_graph(outcome.out)
    assert graph.count_dependencies()["programmatic"] == 1


def test_standard_input_and_an_output_file(forerun, good, tmp_path):
    outcome = forerun("opt", "-", "-p", "infer-dependencies", "-o", "out.fir", stdin=good.read_text())
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert parse_graph((tmp_path / "out.fir").read_text()).name == "good"
    assert not list(tmp_path.glob(".*"))


def test_print_after_goes_to_standard_error(forerun, good):
    outcome = forerun("opt", good, "-p", "exact", "--print-after", "insert-pdl")
    assert outcome.status == 0
    assert "// after pass 3 of 5, insert-pdl" in outcome.err
    assert parse_graph(outcome.out).name == "good"


def test_print_after_of_a_pass_that_is_not_there(forerun, good):
    outcome = forerun("opt", good, "-p", "exact", "--print-after", "insert-pld")
    assert outcome.status == 2
    assert "did you mean 'insert-pdl'?" in outcome.err
    assert outcome.out == ""


def test_stop_after(forerun, good):
    outcome = forerun("opt", good, "-p", "exact", "--stop-after", "infer-dependencies", "-v")
    assert parse_graph(outcome.out).count_dependencies()["programmatic"] == 0
    assert outcome.err.count("skipped") == 3


def test_dump_writes_graphs_diffs_summary_and_report(forerun, good, tmp_path):
    outcome = forerun("opt", good, "-p", "exact", "--dump", "d", "-o", "out.fir")
    names = {path.name for path in (tmp_path / "d").iterdir()}
    assert {"00-input.fir", "03-insert-pdl.fir", "03-insert-pdl.diff", "summary.json", "index.html"} <= names
    assert "report: d/index.html" in outcome.err
    assert json.loads((tmp_path / "d" / "summary.json").read_text())["status"] == "ok"


@pytest.mark.parametrize("name", ["missing/out.fir", "folder"])
def test_an_output_that_cannot_be_written(forerun, good, tmp_path, name):
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    outcome = forerun("opt", good, "-p", "reduce-edges", "-o", name)
    assert outcome.status == 2
    assert name in outcome.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_device_as_output(forerun, good):
    assert forerun("opt", good, "-p", "reduce-edges", "-o", os.devnull).status == 0


def test_an_unwritable_dump_folder_is_found_before_the_work(forerun, good, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = forerun("opt", good, "-p", "exact", "--dump", "file/dump", "-o", "out.fir")
    assert outcome.status == 2
    assert "file/dump" in outcome.err
    assert not (tmp_path / "out.fir").exists()


def test_a_failed_pass_leaves_no_output_but_a_reproducer(forerun, good, tmp_path):
    arguments = ("opt", good, "--load", BAD_PASSES, "-p", "infer-dependencies,crash", "--dump", "d", "-o", "out.fir")
    outcome = forerun(*arguments)
    assert outcome.status == 4
    assert "pass 2 of 2, crash" in outcome.err
    assert "ZeroDivisionError: on purpose" in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out.fir").exists()
    (reproducer,) = (tmp_path / "d").glob("*.reproducer.fir")
    again = forerun("opt", reproducer, "--load", BAD_PASSES)
    assert again.status == 4
    assert "pass 1 of 1, crash" in again.err


def test_verbose_shows_the_traceback(forerun, good):
    outcome = forerun("opt", good, "--load", BAD_PASSES, "-p", "crash", "-v")
    assert outcome.status == 4
    assert "Traceback" in outcome.err
    assert "bad_passes.py" in outcome.err


def test_a_pass_that_makes_a_race_is_refuted(forerun, good):
    outcome = forerun("opt", good, "--load", BAD_PASSES, "-p", "cut-everything")
    assert outcome.status == 1
    assert "refuted" in outcome.err
    assert "second" in outcome.err
    assert outcome.out == ""


def test_no_verify_lets_it_through(forerun, good):
    outcome = forerun("opt", good, "--load", BAD_PASSES, "-p", "cut-everything", "--no-verify")
    assert outcome.status == 0
    assert parse_graph(outcome.out).dependencies == ()


def test_bisect_finds_the_pass_and_the_change(forerun, good):
    pipeline = "infer-dependencies,cut-everything,reduce-edges"
    outcome = forerun("opt", good, "--load", BAD_PASSES, "-p", pipeline, "--bisect")
    assert outcome.status == 1
    assert "pass 2 of 3, cut-everything, change 1 of 1" in outcome.out
    assert "error[" in outcome.out
    assert outcome.err == ""


def test_bisect_of_a_good_pipeline(forerun, good):
    outcome = forerun("opt", good, "-p", "exact", "--bisect")
    assert outcome.status == 0
    assert "no pass of" in outcome.out


def test_list_passes_shows_options_and_the_default_pipeline(forerun):
    outcome = forerun("opt", "--list-passes", "--load", BAD_PASSES)
    assert outcome.status == 0
    for word in ("insert-pdl", "trigger", "cut-everything", "The pipeline 'exact' is fold-params,"):
        assert word in outcome.out


def test_an_unknown_pass_has_its_place_and_the_closest_name(forerun, good):
    outcome = forerun("opt", good, "-p", "infer-dependencies,insert-pld")
    assert outcome.status == 2
    line, caret = outcome.err.splitlines()[1:3]
    assert line[caret.index("^") :].startswith("insert-pld")
    assert "did you mean 'insert-pdl'?" in outcome.err


def test_an_unknown_option(forerun, good):
    outcome = forerun("opt", good, "-p", "insert-pdl{triger=start}")
    assert outcome.status == 2
    assert "trigger" in outcome.err


@pytest.mark.parametrize("name", ["no_such_module_anywhere", "missing.py"])
def test_a_module_that_cannot_be_loaded(forerun, good, name):
    outcome = forerun("opt", good, "-p", "reduce-edges", "--load", name)
    assert outcome.status == 2
    assert f"--load {name}" in outcome.err


def test_without_passes_and_without_a_file(forerun, good):
    assert "--pipeline" in forerun("opt", good).err
    assert "no graph is named" in forerun("opt").err
    assert forerun("opt").status == 2


def test_json_is_one_object_with_the_graph_or_its_file(forerun, good, tmp_path):
    outcome = forerun("opt", good, "-p", "exact", "--json")
    told = json.loads(outcome.out)
    assert (outcome.status, outcome.err, told["status"], told["file"]) == (0, "", "ok", None)
    assert parse_graph(told["text"]).count_dependencies()["programmatic"] == 1
    assert [record["verdict"] for record in told["summary"]["passes"]][:3] == ["unchanged", "proved", "proved"]
    told = json.loads(forerun("opt", good, "-p", "exact", "-o", "out.fir", "--json").out)
    assert (told["file"], told["text"]) == ("out.fir", None)
    assert parse_graph((tmp_path / "out.fir").read_text()).name == "good"
    failed = json.loads(forerun("opt", good, "--load", BAD_PASSES, "-p", "crash", "--json").out)
    assert (failed["status"], failed["exit_status"]) == ("error", 4)


def test_json_of_a_bisection_and_of_the_list(forerun, good):
    arguments = "opt", good, "--load", BAD_PASSES, "-p", "cut-everything", "--bisect", "--json"
    found = json.loads(forerun(*arguments).out)
    assert (found["status"], found["pass"], found["ordinal"], found["application"]) == ("found", "cut-everything", 1, 1)
    assert "-  after #first full" in found["diff"]
    assert json.loads(forerun("opt", good, "-p", "exact", "--bisect", "--json").out)["pass"] is None
    listed = json.loads(forerun("opt", "--list-passes", "--json").out)
    (pdl,) = (found for found in listed["passes"] if found["name"] == "insert-pdl")
    assert pdl["options"]["trigger"]["default"]
    assert "exact" in listed["pipelines"]


def test_the_list_of_passes_fits_80_columns_and_keeps_its_columns(forerun):
    lines = forerun("opt", "--list-passes").out.splitlines()
    assert max(map(len, lines)) <= 80
    row = next(i for i, line in enumerate(lines) if line.startswith("  gpu=str"))
    assert lines[row + 1].startswith(" " * lines[row].index("the GPU"))


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (("--list-passes", "-p", "exact"), "--pipeline"),
        (("-p", "exact", "--bisect", "-o", "x.fir"), "--output"),
        (("-p", "exact", "--bisect", "--dump", "d"), "--dump"),
        (("-p", "exact", "--bisect", "--no-verify"), "--verify"),
    ],
)
def test_options_that_would_be_ignored_are_refused(forerun, good, arguments, refused):
    outcome = forerun("opt", *([] if "--list-passes" in arguments else [good]), *arguments)
    assert outcome.status == 2
    assert outcome.err.startswith(f"error: {refused} has no use here\nhint: ")


def test_a_failure_names_the_file_that_was_given(forerun, good):
    outcome = forerun("opt", good, "--load", BAD_PASSES, "-p", "crash")
    assert f"forerun opt {good} --load {BAD_PASSES} --pipeline bad_passes:Crash --dump DIR" in outcome.err


def test_a_reproducer_names_the_file_that_its_pass_is_in(forerun, good, tmp_path):
    forerun("opt", good, "--load", BAD_PASSES, "-p", "crash", "--dump", "d")
    (reproducer,) = (tmp_path / "d").glob("*.reproducer.fir")
    assert f"\n// load: {BAD_PASSES}\n" in reproducer.read_text()
    del sys.modules["bad_passes"]
    outcome = finish("opt", reproducer)
    assert outcome[0] == 2
    assert f"hint: if you trust them, pass --load {BAD_PASSES}\n" in outcome[2]


@pytest.mark.parametrize(("answer", "status"), [("y", 4), ("n", 2), ("", 2)])
def test_on_a_terminal_it_asks_before_it_imports(forerun, good, tmp_path, answer, status):
    forerun("opt", good, "--load", BAD_PASSES, "-p", "crash", "--dump", "d")
    (reproducer,) = (tmp_path / "d").glob("*.reproducer.fir")
    found, shown = on_terminal("opt", reproducer, typed=f"{answer}\n", at="[y/N] ")
    assert found == status, shown
    assert f"needs code of {BAD_PASSES}, which is imported if you say so" in shown.replace("\n", "")
    assert ("on purpose" in shown) == (answer == "y")


def test_dumps_onto_a_file(forerun, good, tmp_path):
    (tmp_path / "d").write_text("")
    outcome = forerun("opt", good, "-p", "exact", "--dump", "d")
    assert outcome.status == 2
    assert outcome.err.startswith("error: cannot write to folder 'd': it is a file, or lies in one\n")


def test_json_of_a_refuted_pass_has_places_in_the_graph_that_it_made(forerun, good, tmp_path):
    arguments = "opt", good, "--load", BAD_PASSES, "-p", "cut-everything", "--dump", "d", "--json"
    found = json.loads(forerun(*arguments).out)["error"]["diagnostics"]
    lines = (tmp_path / "d" / "01-cut-everything.FAILED.fir").read_text().splitlines()
    assert found
    assert all(lines[each["location"]["line"] - 1].startswith("node #second = ") for each in found)
