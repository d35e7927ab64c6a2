"""What the cost model knows of GPUs: brought, calibrated, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import ArrayLike

from forerun.ir.graph import Graph
from forerun.runtime.device import DeviceProgram, DeviceTarget
from forerun.runtime.reference import ReferenceProgram, ReferenceTarget
from forerun.support.diagnostics import InvalidInput, Unsupported
from forerun.tuner.calibration import calibrate
from forerun.tuner.gpus import H100, KNOWN, Constants, constants_of, keep_constants


class Boundaries(DeviceProgram):
    """The reference program, whose times are those of the graph's boundaries."""

    def __init__(self, inner: ReferenceProgram, graph: Graph, constants: Constants) -> None:
        self.inner, self.graph, self.constants = inner, graph, constants

    def run(self, inputs: Mapping[str, ArrayLike]) -> dict[str, Any]:
        return self.inner.run(inputs)

    def seconds_per_replay(self, count: int = 1) -> float:
        kinds = self.graph.count_dependencies()
        return kinds["full"] * self.constants.full + kinds["programmatic"] * self.constants.programmatic

    def close(self) -> None:
        self.inner.close()


@dataclass(frozen=True)
class Machine(ReferenceTarget, DeviceTarget):
    """A GPU of which all is known."""

    constants: Constants = H100

    def multiprocessors(self) -> int:
        return self.constants.multiprocessors

    def load(self, graph: Graph, weights: Mapping[str, ArrayLike], memory: Mapping[str, Any] | None = None) -> Any:
        return Boundaries(ReferenceTarget().load(graph, weights), graph, self.constants)


def test_calibration_finds_what_a_gpu_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    real = replace(H100, bandwidth=4.6e12, full=1.1e-6, programmatic=0.5e-6, multiprocessors=160)
    monkeypatch.setattr("forerun.tuner.calibration.read_bandwidth", lambda target: real.bandwidth)
    found = calibrate(Machine(constants=real))
    assert found.bandwidth == real.bandwidth
    assert found.multiprocessors == 160
    assert found.full == pytest.approx(real.full, rel=0.02)
    assert found.programmatic == pytest.approx(real.programmatic, rel=0.02)
    assert found.of_registers / found.bandwidth == pytest.approx(H100.of_registers / H100.bandwidth)


def test_constants_are_kept_for_their_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    with pytest.raises(Unsupported, match="knows nothing of 'NVIDIA B200'") as unknown:
        constants_of("NVIDIA B200")
    assert "forerun info --calibrate" in unknown.value.hint
    found = replace(H100, bandwidth=7.0e12)
    path = keep_constants("NVIDIA B200", found)
    assert constants_of("NVIDIA B200") == found
    assert all(constants_of(name) == known for name, known in KNOWN.items())
    path.write_text('{"constants": {"bandwidth": "fast"}}')
    with pytest.raises(InvalidInput, match="bandwidth"):
        constants_of("NVIDIA B200")
