"""``forerun check``, and what bad files get."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from forerun.frontends.decode import decode_graph
from forerun.frontends.llama import LlamaConfig
from forerun.ir.text import print_graph
from forerun.runtime.litmus import Machine


def test_proved(forerun, good):
    outcome = forerun("check", good)
    assert outcome.status == 0
    assert outcome.out.startswith("proved:")
    assert "graph good: 2 nodes; dependencies: 1 full" in outcome.out
    assert outcome.err == ""


def test_refuted_is_drawn_in_the_file(forerun, racy):
    outcome = forerun("check", racy)
    assert outcome.status == 1
    assert outcome.out.startswith("refuted:")
    assert "racy.fir" not in outcome.err
    assert "^" in outcome.out
    assert "%h" in outcome.out


def test_findings_stand_in_the_users_own_text(forerun, racy):
    """Comments and blank lines count, and the place is one that an editor can jump to."""
    racy.write_text("// a comment\n\n" + racy.read_text().replace("node #", "\n// next\nnode #"))
    number = next(i for i, line in enumerate(racy.read_text().splitlines(), 1) if "node #second" in line)
    outcome = forerun("check", racy)
    assert f"--> {racy}:{number}:" in outcome.out
    racy.write_text(racy.read_text().replace("y=%y", "y=%gone"))
    invalid = forerun("check", racy)
    assert invalid.status == 2
    assert f"--> {racy}:{number}:" in invalid.err


def test_verbose_shows_all_errors(forerun, tmp_path):
    fills = "".join(f"node #n{i} = fill %nowhere with 0\n" for i in range(30))
    (tmp_path / "many.fir").write_text(f"forerun 1\ngraph many\n{fills}")
    short, full = forerun("check", "many.fir"), forerun("check", "many.fir", "-v")
    drawn = [outcome.err.rpartition("\nerror: ")[2].count("error[N10]") for outcome in (short, full)]
    assert drawn == [20, 30]
    assert "... and 10 more; -v shows all" in short.err
    assert "more; -v" not in full.err


def test_standard_input(forerun, racy):
    assert forerun("check", "-", stdin=racy.read_text()).status == 1


def test_json_of_a_refuted_graph(forerun, racy):
    outcome = forerun("check", racy, "--json")
    assert outcome.status == 1
    result = json.loads(outcome.out)
    assert (result["status"], result["exit_status"], result["nodes"]) == ("refuted", 1, 2)
    assert result["findings"]
    assert result["findings"][0]["severity"] == "error"
    assert outcome.err == ""


def test_a_syntax_error_has_its_line_and_a_caret(forerun, broken):
    outcome = forerun("check", broken)
    assert outcome.status == 2
    assert outcome.out == ""
    number = next(i for i, line in enumerate(broken.read_text().splitlines(), 1) if "node second" in line)
    assert f"broken.fir:{number}:" in outcome.err
    drawn = outcome.err.splitlines()
    caret = next(i for i, line in enumerate(drawn) if "^" in line)
    assert drawn[caret - 1][drawn[caret].index("^") :].startswith("second")


def test_json_of_a_syntax_error(forerun, broken):
    outcome = forerun("check", broken, "--json")
    assert outcome.status == 2
    result = json.loads(outcome.out)
    assert (result["status"], result["exit_status"], result["error"]["kind"]) == ("error", 2, "InvalidInput")
    assert result["error"]["diagnostics"][0]["location"]["line"] > 1
    assert "error:" in outcome.err


def test_an_invalid_graph_is_drawn(forerun, good):
    good.write_text(good.read_text().replace("#first", "#gone", 1))
    outcome = forerun("check", good)
    assert outcome.status == 2
    assert "error[G2]" in outcome.err or "no node" in outcome.err
    assert "^" in outcome.err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.fir", None, "no such file"),
        ("goood.fir", None, "did you mean"),
        ("latin.fir", b"forerun 1\ngraph caf\xe9\n", "latin.fir:2: not UTF-8"),
        ("empty.fir", b"", "empty.fir"),
        ("noise.fir", b"\x00\x01\x02", "noise.fir"),
    ],
)
def test_files_that_cannot_be_read(forerun, good, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    outcome = forerun("check", tmp_path / name)
    assert outcome.status == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_folder_names_the_graphs_in_it(forerun, good, tmp_path):
    outcome = forerun("check", tmp_path)
    assert outcome.status == 2
    assert "is a folder" in outcome.err
    assert "good.fir" in outcome.err


@pytest.fixture
def early(tmp_path):
    """A file with a graph whose second kernel reads ahead of its wait."""
    text = """forerun 1
graph early
buffer %x : i32[4] input
buffer %h : i32[4] temp
buffer %y : i32[4] output
kernel @fill(a: i32[4], b: i32[4]) {
  role main {
    phase work reads a defines t
    phase store uses t writes b
    barrier
    trigger fence
  }
}
kernel @late(a: i32[4], b: i32[4]) {
  role main {
    phase load reads a defines t
    wait
    phase store uses t writes b
  }
}
node #first = @fill(a=%x, b=%h)
node #second = @late(a=%h, b=%y)
  after #first programmatic
"""
    path = tmp_path / "early.fir"
    path.write_text(text)
    return path


def test_a_race_is_shown_with_a_schedule_and_repairs(forerun, early):
    outcome = forerun("check", early)
    assert outcome.status == 1
    lines = outcome.out.splitlines()
    second = next(i for i, line in enumerate(lines) if "'second' reads %h bytes [0, 16) in phase 'load'" in line)
    assert lines[second].startswith("  > ")
    assert "'first' writes %h" in lines[second + 1]
    assert "  missing: C_first -> S_second" in lines
    assert "  chain: first -programmatic-> second" in lines
    assert "    1. make the dependency 'first' -> 'second' full (then all is proved)" in lines
    assert any("move phase 'load' of 'second' after the wait" in line for line in lines)
    assert all(ord(c) >= 32 for line in lines for c in line)


def test_json_of_a_race_is_complete(forerun, early):
    outcome = forerun("check", early, "--json")
    (finding,) = json.loads(outcome.out)["findings"]
    assert finding["race"] == {
        "kind": "RAW",
        "certain": True,
        "missing": "C_first -> S_second",
        "earlier": {
            "node": "first",
            "phase": "store",
            "write": True,
            "before_wait": True,
            "buffer": "h",
            "allocation": "h",
            "bytes": "[0, 16)",
        },
        "later": {
            "node": "second",
            "phase": "load",
            "write": False,
            "before_wait": True,
            "buffer": "h",
            "allocation": "h",
            "bytes": "[0, 16)",
        },
    }
    assert [step["event"] for step in finding["witness"]["steps"]] == ["S", "S", "access", "access"]
    assert finding["witness"]["chain"] == [{"source": "first", "target": "second", "kind": "programmatic"}]
    assert all(repair["proved"] for repair in finding["repairs"])
    assert len(finding["repairs"]) == 2


def test_json_names_the_places_that_people_see(forerun, early):
    place = next(line for line in forerun("check", early).out.splitlines() if "--> " in line)
    (finding,) = json.loads(forerun("check", early, "--json").out)["findings"]
    assert place.endswith(f":{finding['location']['line']}:{finding['location']['column']}")
    lines = early.read_text().splitlines()
    assert finding["nodes"] == [place["node"] for place in finding["places"]] == ["first", "second"]
    for place in finding["places"]:
        assert lines[place["line"] - 1][place["column"] - 1 :].startswith(f"#{place['node']}")


def test_an_undrained_node_is_shown_with_a_schedule(forerun, early):
    early.write_text(
        early.read_text().replace("phase load reads a defines t\n    wait\n", "phase load reads a defines t\n")
    )
    outcome = forerun("check", early, "--json")
    findings = json.loads(outcome.out)["findings"]
    drain = next(finding for finding in findings if finding["code"] == "R2")
    assert drain["race"] is None
    assert drain["witness"]["missing"] == "C_first -> C_second"
    assert drain["repairs"]
    assert "'first'" not in [step["text"] for step in drain["witness"]["steps"] if step["event"] == "C"]


def test_assumptions(forerun, early):
    assert forerun("check", early, "--strict").status == 1
    assert forerun("check", early, "--sched").status == 1
    proved = forerun("check", early, "--assume", "H8")
    assert proved.status == 0
    assert "assumptions: H8" in proved.out
    both = forerun("check", early, "--sched", "--assume", "H8", "--json")
    assert json.loads(both.out)["assumptions"] == ["H6", "H8"]
    unknown = forerun("check", early, "--assume", "H88")
    assert unknown.status == 2
    assert "did you mean 'H8'?" in unknown.err


def test_a_rewrite(forerun, early, tmp_path):
    fixed = tmp_path / "fixed.fir"
    fixed.write_text(early.read_text().replace("programmatic", "full"))
    assert forerun("check", fixed, fixed).status == 0
    refuted = forerun("check", fixed, early)
    assert refuted.status == 1
    assert "the second graph may give what the first does not" in refuted.out
    assert "missing: C_first -> S_second" in refuted.out
    proved = forerun("check", early, fixed, "--json")
    assert (proved.status, json.loads(proved.out)["status"]) == (0, "proved")
    assert forerun("check", "-", "-").status == 2
    assert forerun("check", early, tmp_path / "absent.fir").status == 2


def test_colour_is_for_terminals(forerun, early, monkeypatch):
    assert "\x1b[" not in forerun("check", early).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in forerun("check", early).out


def test_a_recorded_litmus_run_is_trusted_on_its_own_machine(forerun, early, monkeypatch):
    record = Path(__file__).parents[2] / "benchmarks" / "results" / "litmus_h100.json"
    recorded_on = Machine("NVIDIA H100 80GB HBM3", "580.159.04", "9.0")
    monkeypatch.setattr("forerun.runtime.litmus.record.this_machine", lambda: recorded_on)
    assert forerun("check", early).status == 1
    assert forerun("check", early, "--litmus", record).status == 0
    monkeypatch.setattr("forerun.runtime.litmus.record.this_machine", lambda: replace(recorded_on, gpu="Another GPU"))
    outcome = forerun("check", early, "--litmus", record)
    assert outcome.status == 3
    assert "Another GPU" in outcome.err


def test_what_a_pipeline_with_fusions_made_is_proved(forerun, tmp_path):
    step = decode_graph(LlamaConfig("tiny", 2, 64, 2, 1, 32, 96, 128, 64))
    (tmp_path / "in.fir").write_text(print_graph(step))
    assert forerun("opt", "in.fir", "-p", "fast", "-o", "out.fir").status == 0
    outcome = forerun("check", "in.fir", "out.fir")
    assert (outcome.status, outcome.err) == (0, "")
    count = (tmp_path / "out.fir").read_text().count(" fuses #")
    assert count > 2
    assert f"on trust, as fusion rules state it: what the kernels of {count} fused nodes compute" in outcome.out
    assert len(json.loads(forerun("check", "in.fir", "out.fir", "--json").out)["fused"]) == count
    assert "trust" not in forerun("check", "out.fir", "out.fir").out


def test_json_of_an_invalid_graph_has_the_place_that_people_see(forerun, good):
    good.write_text("// first\n" + good.read_text().replace("y=%h", "y=%gone"))
    shown = re.search(r"--> \S+:(\d+):(\d+)", forerun("check", good).err)
    (found,) = json.loads(forerun("check", good, "--json").out)["error"]["diagnostics"]
    assert (found["location"]["line"], found["location"]["column"]) == (int(shown[1]), int(shown[2]))


CLAIM = """forerun 1 graph g
buffer %x : f32[4] input buffer %h : f32[4] temp buffer %y : f32[4] output
kernel @k(x: f32[4], y: f32[4]) { role all { phase run reads x writes y } }
kernel @l(x: f32[4], y: f32[4]) { role all { phase other reads x writes y } }
"""


def test_a_text_that_claims_a_fusion_is_not_believed(forerun, tmp_path):
    (tmp_path / "a.fir").write_text(CLAIM + "node #a = @k(x=%x, y=%h) node #b = @k(x=%h, y=%y) after #a")
    (tmp_path / "b.fir").write_text(CLAIM + "node #ab = @l(x=%x, y=%y) fuses #a, #b")
    outcome = forerun("check", "a.fir", "b.fir")
    assert outcome.status == 3
    assert "warning[C15]: node ab: no known fusion rule states that it computes" in outcome.out
    assert "on trust" not in outcome.out


def test_a_fused_node_on_other_arguments_is_not_what_a_rule_states(forerun, tmp_path):
    forerun("export", "--sample", "decode", "-o", "in.fir")
    forerun("opt", "in.fir", "-p", "fast", "-o", "out.fir")
    text = (tmp_path / "out.fir").read_text()
    assert forerun("check", "in.fir", "out.fir").status == 0
    (tmp_path / "out.fir").write_text(text.replace("eps=1e-05", "eps=0.5", 1))
    outcome = forerun("check", "in.fir", "out.fir")
    assert outcome.status == 3
    assert outcome.out.count("no known fusion rule") == 1


def test_fused_nodes_in_loops_are_looked_for(forerun):
    forerun("export", "--sample", "loop", "-o", "in.fir")
    forerun("opt", "in.fir", "-p", "fast", "-o", "out.fir")
    told = json.loads(forerun("check", "in.fir", "out.fir", "--json").out)
    assert told["status"] == "proved"
    assert "decode/blk.0.ffn_act.fused" in told["fused"]


def test_modules_are_loaded_for_a_second_graph_only(forerun, good):
    assert forerun("check", good, "--load", "json").err.startswith("error: --load has no use here\n")
    assert forerun("check", good, good, "--load", "json").status == 0


def test_a_name_that_is_empty_and_a_folder_that_holds_nothing(forerun, tmp_path):
    (tmp_path / "nothing").mkdir()
    assert "the name of a file is empty" in forerun("check", "").err
    assert "the folder of a captured graph has a file capture.json" in forerun("check", "nothing").err
