"""``forerun.tune`` from the graph to the file, on a target that is no GPU, and on one that is."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

import forerun
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from forerun.passes.infra.tuning import Tuning, read_tuning, write_tuning
from forerun.runtime.base import Program
from forerun.runtime.cuda import CudaProgram
from forerun.runtime.device import DeviceProgram, DeviceTarget
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import InvalidInput, Unsupported
from forerun.tuner import Search, Trial
from forerun.tuner.runner import Runner, usual_inputs
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.support import on_fake
from tests.tuner.tuning_samples import CountingClock, arbitrary_seconds, decode, tuned_decode


def weights() -> dict[str, NDArray[np.float32]]:
    chooser = np.random.default_rng(1)
    buffers = [buffer for buffer in decode().buffers.values() if buffer.role is BufferRole.WEIGHT]
    return {buffer.name: chooser.normal(size=buffer.shape).astype(np.float32) for buffer in buffers}


class TimedProgram(DeviceProgram):
    """The reference program, with made-up times."""

    def __init__(self, owner: TimedTarget, graph: Graph, inner: Program) -> None:
        self.owner, self.graph, self.inner = owner, graph, inner
        self.runs = 0

    def run(self, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        self.runs += 1
        found = self.inner.run(inputs)
        if self.graph is not self.owner.loaded[0]:
            found = {name: self.owner.spoiled(value) for name, value in found.items()}
        return found

    def seconds_per_replay(self, count: int) -> float:
        assert self.runs, "results are compared before anything is timed"
        return arbitrary_seconds(2)(self.graph)

    def read(self, buffer: str) -> NDArray[Any]:
        return self.inner.read(buffer)

    def write(self, buffer: str, value: ArrayLike) -> None:
        self.inner.write(buffer, value)

    def buffer(self, name: str) -> Any:
        return self.inner.read(name)

    def reset(self) -> None:
        self.inner.reset()

    def close(self) -> None:
        self.owner.open -= 1
        self.inner.close()


@dataclass
class TimedTarget(DeviceTarget):
    """Loads on the reference target."""

    name: ClassVar[str] = "timed"

    factor: float = 1.0
    loaded: list[Graph] = field(default_factory=list)
    open: int = 0
    most: int = 0

    def identity(self) -> tuple[str, str]:
        return "made up", "13.0"

    def multiprocessors(self) -> int:
        return 132

    def spoiled(self, value: NDArray[Any]) -> NDArray[Any]:
        return value if self.factor == 1.0 or value.dtype.kind == "i" else value * np.float32(self.factor)

    def load(self, graph: Graph, weights: Mapping[str, ArrayLike], memory: Mapping[str, Any] | None = None) -> Any:
        assert memory is None
        self.loaded.append(graph)
        self.open += 1
        self.most = max(self.most, self.open)
        return TimedProgram(self, graph, ReferenceTarget().load(graph, weights))


def quick() -> Search:
    """A short search that finds the same on a machine under load: its budget is counted, not timed."""
    return Search(lambda graph: 0.0, rounds=1, sweeps=1, clock=CountingClock())


def test_from_a_graph_to_a_file_and_back(tmp_path: Path) -> None:
    target, path, told = TimedTarget(), tmp_path / "tuning.json", []
    result = forerun.tune(
        decode(),
        target,
        weights=weights(),
        budget_seconds=2,
        file=path,
        pipeline="exact",
        search=quick(),
        progress=lambda trial, gone, budget: told.append(trial),
    )
    assert tuple(told) == result.trials
    assert any(trial.verdict == "kept" for trial in result.trials)
    assert result.tuned < result.untuned == arbitrary_seconds(2)(tuned_decode())
    assert target.open == 0
    assert target.most <= 4
    tuning = read_tuning(path)
    assert tuning == result.tuning
    assert (tuning.gpu, tuning.driver) == ("made up", "13.0")
    with forerun.compile(decode(), weights=weights(), tuning=path) as executable:
        assert arbitrary_seconds(2)(executable.graph) == result.tuned


def test_what_was_kept_survives_an_interruption(tmp_path: Path) -> None:
    path, after = tmp_path / "tuning.json", []

    def interrupt(trial: Trial, gone: float, budget: float) -> None:
        if after:
            raise KeyboardInterrupt
        after.extend([trial] if trial.verdict == "kept" else [])

    with pytest.raises(KeyboardInterrupt):
        forerun.tune(
            decode(), TimedTarget(), weights=weights(), budget_seconds=2, file=path, search=quick(), progress=interrupt
        )
    saved = read_tuning(path)
    assert saved.choices
    assert (saved.gpu, saved.seconds) == ("made up", {})
    options = {"weights": weights(), "budget_seconds": 2, "search": quick()}
    result = forerun.tune(decode(), TimedTarget(), begin=path, **options)
    assert (result.trials[0].what, result.trials[0].verdict) == ("what was chosen before", "kept")


def test_a_search_does_not_start_from_a_tuning_of_another_gpu(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    write_tuning(Tuning("another", "13.0"), path)
    with pytest.raises(InvalidInput, match=": it was measured with GPU another, and this is made up"):
        forerun.tune(decode(), TimedTarget(), weights=weights(), begin=path)


def test_results_that_differ_are_refused() -> None:
    for factor, launches_pass in ((1 + 1e-6, True), (1.01, False)):
        target, options = TimedTarget(factor), {"budget_seconds": 2, "search": quick()}
        result = forerun.tune(decode(), target, weights=weights(), pipeline="exact", **options)
        refused = [trial for trial in result.trials if trial.verdict == "refused"]
        kept = [trial for trial in result.trials if trial.verdict == "kept" and trial.group]
        assert all("%logits differs" in trial.reason for trial in refused)
        assert any("trigger" in trial.what for trial in refused)
        assert bool(kept) == launches_pass
        # Later ones may be of any kind: starts are compared with the best so far, bit by bit.
        assert all("CTAs" in trial.what or "threads" in trial.what for trial in kept[:1])


def test_what_is_refused_at_once() -> None:
    with pytest.raises(Unsupported, match="target 'reference' cannot time replays"):
        forerun.tune(decode(), "reference", weights=weights())
    with pytest.raises(InvalidInput, match="leaves no time"):
        forerun.tune(decode(), TimedTarget(), weights=weights(), budget_seconds=0)


def test_usual_inputs_are_legal_and_always_the_same() -> None:
    found = usual_inputs(decode())
    assert found["position"].tolist() == [7]
    assert found["token"].tolist() == [15]
    assert all((value == usual_inputs(decode())[name]).all() for name, value in found.items())


def test_state_is_compared_too() -> None:
    with Runner(TimedTarget(), weights(), usual_inputs(decode()), 1e-4) as runner:
        runner.seconds(tuned_decode())
        assert runner.same_results(tuned_decode(), tuned_decode()) == ""
        assert runner.confirm(tuned_decode()) == ""
        runner._expected = {**runner._expected, "blk.0.k_cache": runner._expected["blk.0.k_cache"] + 1}
        assert runner.same_results(tuned_decode()).startswith("%blk.0.k_cache differs by")


@pytest.mark.gpu
def test_tuning_on_a_gpu(tmp_path: Path) -> None:
    """A tiny model: what is measured does not matter, only that all of it works in place."""
    path = tmp_path / "tuning.json"
    given = weights()
    result = forerun.tune(decode(), "cuda", weights=given, budget_seconds=20, file=path)
    assert result.trials
    assert result.tuned <= result.untuned
    assert result.seconds < 40
    inputs = usual_inputs(decode())
    with (
        forerun.compile(decode(), "cuda", weights=given, tuning=path) as tuned,
        forerun.compile(decode(), "cuda", weights=given) as untuned,
    ):
        assert tuned.summary.passes[-1].remarks == []
        found, expected = tuned.run(inputs), untuned.run(inputs)
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_the_path_through_the_cuda_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All but the clock and the machine code: weights are uploaded once, everything is given back."""
    api, path = FakeCuda(), tmp_path / "tuning.json"
    uploads: list[int] = []
    monkeypatch.setattr(CudaProgram, "seconds_per_replay", lambda self, count: arbitrary_seconds(4)(self._graph))
    original = Runner._load

    def program(self: Runner, graph: Graph) -> Any:
        before = api.log.count("cuMemcpyHtoDAsync")
        found = original(self, graph)
        uploads.append(api.log.count("cuMemcpyHtoDAsync") - before)
        return found

    monkeypatch.setattr(Runner, "_load", program)
    with on_fake(monkeypatch, api) as current:
        result = forerun.tune(decode(), "cuda", weights=weights(), budget_seconds=0.8, file=path, search=quick())
        gc.collect()
        assert (api.leaks(), current.handles.live()) == ({}, ())
    assert any(trial.verdict == "kept" for trial in result.trials), result.trials[:3]
    assert result.tuning.driver.startswith("13.")
    assert result.tuned < result.untuned
    later = [count for count in uploads[1:] if count]
    assert max(later) < uploads[0]
