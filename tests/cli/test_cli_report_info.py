"""``forerun report`` and ``forerun info``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forerun.runtime.gpu import Gpu
from forerun.runtime.toolchain.locate import Tool, Toolchain

BAD_PASSES = Path(__file__).with_name("bad_passes.py")


@pytest.fixture
def dump(forerun, good, tmp_path):
    forerun("opt", good, "-p", "exact", "--dump", "d", "-o", "out.fir")
    (tmp_path / "d" / "index.html").unlink()
    return tmp_path / "d"


def test_report_writes_the_page_and_names_it(forerun, dump):
    outcome = forerun("report", dump)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith(f"wrote {dump / 'index.html'}")
    assert "insert-pdl" in (dump / "index.html").read_text(encoding="utf-8")


def test_report_to_another_file_as_json(forerun, dump, tmp_path):
    result = json.loads(forerun("report", dump, "-o", tmp_path / "page.html", "--json").out)
    assert result["page"] == str(tmp_path / "page.html")
    assert result["bytes"] == (tmp_path / "page.html").stat().st_size
    assert not (dump / "index.html").exists()


def test_report_to_standard_output(forerun, dump):
    outcome = forerun("report", dump, "-o", "-")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("<!")
    assert outcome.out.rstrip().endswith("</html>")
    assert not Path("-").exists()
    assert forerun("report", dump, "-o", "-", "--json").status == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "does not exist"), ("good.fir", "is not a folder"), (".", "holds no summary.json")],
)
def test_what_is_no_dump(forerun, good, name, message):
    outcome = forerun("report", name)
    assert outcome.status == 2
    assert message in outcome.err
    assert outcome.out == ""


def test_a_failed_run_has_a_report_too(forerun, good, dump):
    assert forerun("opt", good, "--load", BAD_PASSES, "-p", "cut-everything", "--dump", dump).status == 1
    page = (dump / "index.html").read_text(encoding="utf-8")
    assert "pass 1 of 1, cut-everything: the graph that it returned is refuted" in page


def test_info_describes_gpus(forerun, monkeypatch):
    monkeypatch.setattr("forerun.runtime.gpu.probe_gpus", lambda: ([Gpu("Test GPU", "9.0", 80 << 30, 132)], None))
    assert "Test GPU, 80 GiB, 132 SMs, compute capability 9.0" in forerun("info").out
    (gpu,) = json.loads(forerun("info", "--json").out)["gpus"]
    assert gpu == {"name": "Test GPU", "compute_capability": "9.0", "memory": 80 << 30, "multiprocessors": 132}


def test_info_tells_which_toolchain_there_is_and_what_it_lacks(forerun, monkeypatch):
    found = Toolchain(Tool(Path("/there/libnvrtc.so"), (13, 0), "a"), Tool(Path("/there/ptxas"), (13, 0), "b"), None)
    monkeypatch.setattr("forerun.runtime.toolchain.find_toolchain", lambda: found)
    monkeypatch.setattr("forerun.runtime.toolchain.missing_toolchain", lambda: "no nvdisasm; do this")
    out = " ".join(forerun("info").out.split())
    assert "toolchain nvrtc 13.0, ptxas 13.0 no nvdisasm; do this" in out
    facts = json.loads(forerun("info", "--json").out)
    assert facts["toolchain"]["ptxas"] == {"version": "13.0", "path": "/there/ptxas"}
    assert (facts["toolchain"]["nvdisasm"], facts["toolchain_problem"]) == (None, "no nvdisasm; do this")
