"""The zoo of other people's programs: its processes, its lock, and what it tells."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import pytest

from forerun.runtime.toolchain import missing_toolchain
from forerun.runtime.toolchain.locate import require_compiler
from tests.ptx.texts import DATA

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import external_code
import external_common
import external_figures
import external_zoo

WRITES = "import json, sys; print('hello'); json.dump({'steps': 3}, open(sys.argv[1], 'w'))"
FAILS = "import sys; print('it says why'); sys.exit(3)"
HANGS = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"


def command(name: str, _plan: external_zoo.Plan, _lock: Path, output: Path) -> list[str]:
    return [sys.executable, "-c", {"good": WRITES, "bad": FAILS, "slow": HANGS}[name], str(output)]


def test_a_case_that_fails_or_hangs_ends_alone(capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.monotonic()
    found = external_zoo.run_all(["slow", "bad", "good"], external_zoo.Plan(limit_s=1.5), command)
    assert time.monotonic() - begin < 20
    assert found["good"]["steps"] == 3
    assert "errors" not in found["good"]
    assert found["bad"]["errors"] == ["exit status 3"]
    assert found["slow"]["errors"] == ["stopped: it took too long"]
    assert "it says why" in found["bad"]["log"]
    assert "it says why" in capsys.readouterr().out
    assert "FAILED exit status 3" in external_figures.summary(found)


def test_a_part_that_fails_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    case = external_zoo._Case("vit", external_zoo.Plan(), None, tmp_path / "result.json")
    assert case.tried("first", lambda: 1 // 0) is None
    assert case.tried("second", lambda: 7) == 7
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["errors"] == ["first: ZeroDivisionError: integer division or modulo by zero"]
    assert set(written["seconds"]) == {"first", "second"}


def test_one_is_alone_while_it_measures(tmp_path: Path) -> None:
    order: list[str] = []

    def prepare(name: str, seconds: float) -> None:
        with external_common.locked(tmp_path / "lock", alone=False):
            time.sleep(seconds)
            order.append(f"{name} is ready")

    def measure() -> None:
        time.sleep(0.1)
        with external_common.locked(tmp_path / "lock", alone=True):
            order.append("measured")

    workers = [threading.Thread(target=prepare, args=("a", 0.4)), threading.Thread(target=prepare, args=("b", 0.6))]
    workers.append(threading.Thread(target=measure))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert order == ["a is ready", "b is ready", "measured"]


def test_figures() -> None:
    times = {"torch, enable_pdl": [10.0, 11.0, 12.0], "torch, enable_pdl: measured": [10.0, 10.0, 10.0]}
    ratios = external_common.ratios(times, "torch, enable_pdl")
    assert ratios["torch, enable_pdl: measured"] == pytest.approx(1.1)
    wrong = {
        "torch, enable_pdl": {"steps": 5, "bytes": 2, "results": 0, "as_another_own": 0},
        "torch, enable_pdl: measured": {"steps": 5, "bytes": 1, "results": 0, "as_another_own": 2},
    }
    case = {"base": "torch, enable_pdl", "ratios": ratios, "wrong": wrong}
    told = external_figures.metrics({"torch_llama": case})
    assert told["external.torch_compile.speedup_over_enable_pdl"] == pytest.approx(1.1)
    assert told["external.mismatches"] == 1  # the own replay is no rewrite of ours
    assert told["external.steps_compared"] == 5
    told = external_figures.metrics({"a": {**case, "captures": {"torch, enable_pdl": {"verdict": "unsupported"}}}})
    assert (told["external.mismatches"], told["external.mismatches_of_unproved"]) == (0, 1)
    line = external_common.table(times, "torch, enable_pdl", wrong).splitlines()[1]
    expected = "torch, enable_pdl: measured 10.0 us 1.100x, differs in 1 (results: 0) of 5 steps"
    assert " ".join(line.split()) == f"{expected}; in 2 as another own replay"


def test_figures_of_transformers() -> None:
    times = {"torch.compile": [11.0], "torch.compile: measured": [10.0], "torch, enable_pdl": [10.5],
             "torch, enable_pdl: measured": [9.0]}  # fmt: skip
    told = external_figures.metrics(
        {"llama": {"base": "torch.compile", "ratios": external_common.ratios(times, "torch.compile")}}
    )
    assert told["external.transformers_compile.speedup"] == 1.1
    assert told["external.transformers_compile.speedup_of_enable_pdl"] == pytest.approx(1.0476)
    assert "external.torch_compile.speedup_over_enable_pdl" not in told


def test_every_case_is_there() -> None:
    folder = Path(external_zoo.__file__).parent
    for place in external_zoo.CASES.values():
        module, _, function = place.partition(":")
        assert f"def {function}(" in (folder / f"{module}.py").read_text(encoding="utf-8")


@pytest.mark.toolchain
@pytest.mark.skipif(missing_toolchain() is not None, reason="no toolchain")
def test_machine_code_is_compared() -> None:
    ptxas = str(require_compiler().ptxas.path)
    text = DATA["triton_persistent_wgmma"]
    texts = {
        "good": (text, (), ptxas, "sm_90a"),
        "broken": (text.replace("wgmma.fence", "wgmma.fance"), (), ptxas, "sm_90a"),
    }
    found = external_code.sass_identity(texts)
    assert found == {"texts": 2, "printed_exactly": 2, "summarised": 2, "sass_identical": 1}
