"""``forerun check``, and what bad files get."""

from __future__ import annotations

import json

import pytest


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
